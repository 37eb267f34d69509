/**
 * The persistence contract: verbs, records, and what each answer means.
 *
 * One contract, two layers (`MemoryStore`, `PostgresStore`), one suite that runs on both. Verbs are
 * shaped for batches: many runs share one durable commit. The rules every store must keep:
 *
 * - **Fence (promise 5).** A write for a run carries the token that the store minted for the claim.
 *   A claim is held while the row names a worker *and* the token; a stale token changes nothing and
 *   is answered `lost`. The row keeps its last token when a write releases it; a sweep and
 *   `releaseClaims` mint a fresh one, so that "unclaimed with my token" means "my own write
 *   released it" (unknown outcomes re-send).
 * - **Time is the store's (promise 7).** Due times, leases, timers and ticks are compared with the
 *   store's clock only. All times here and in `store/` are epoch milliseconds of that clock.
 * - **Level-triggered waking.** Whatever wakes a run increments its wake counter; parking compares
 *   it. An unclaimed `sleeping` or `waiting` run becomes `pending`, due now; an unclaimed
 *   `compensating` one is due now; a `pending` one keeps its due time, a terminal one its counter.
 * - **Terminal is final (promise 6)**; every settlement wakes the parent, in the same commit.
 *
 * A store never runs user code and never interprets a payload. The records that the verbs take and
 * answer stand in `store/`, by subject.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type {
  ControlEntry,
  ForkAnswer,
  ForkPoint,
  PauseAnswer,
  RescheduleAnswer,
  TerminateAnswer,
  WakeAnswer,
} from "./Control.ts"
import type { StoredError } from "./ErrorPayload.ts"
import type {
  InvalidInput,
  PoolTooSmall,
  SchemaNotMigrated,
  SchemaTooNew,
  StoreRejected,
  StoreUnavailable,
  TransactionBroken,
  TransactionUnsupported,
} from "./FlowlyError.ts"
import type { Encoded } from "./Payload.ts"
import type { EventRow, RunHistory, RunSources, StepRecord } from "./store/history.ts"
import type {
  ClaimedRun,
  InsertAnswer,
  NewRun,
  RunRow,
  RunSelection,
  RunSignals,
  WorkflowRef,
} from "./store/runs.ts"
import type { DueSchedules, ScheduleRow } from "./store/schedules.ts"
import type { Situation } from "./store/situation.ts"
import type {
  CallersTransaction,
  Isolation,
  JoinedTransaction,
  Transaction,
} from "./store/transactions.ts"
import type { Claim, WorkerRegistration } from "./store/workers.ts"
import type { RecordWrite, RunWrite, WriteAnswer } from "./store/writes.ts"

export type * from "./store/history.ts"
export type * from "./store/runs.ts"
export type * from "./store/schedules.ts"
export type * from "./store/situation.ts"
export type * from "./store/transactions.ts"
export type * from "./store/workers.ts"
export { endsByTimer } from "./store/writes.ts"
export type * from "./store/writes.ts"

/**
 * Every verb may fail so: transient (`StoreUnavailable`) or refused by the database
 * (`StoreRejected`: SQLSTATE class 22, 23, 54 and other non-transient states).
 *
 * @category errors
 * @since 0.1.0
 */
export type StoreError = StoreUnavailable | StoreRejected

/**
 * The persistence contract. See the module's header for the rules, and each verb for its answers.
 *
 * @category services
 * @since 0.1.0
 */
export class WorkflowStore extends Context.Service<
  WorkflowStore,
  {
    /** `memory`, `postgres`: for logs and health. */
    readonly name: string

    /** Brings the schema up to date. Idempotent, and safe from many processes at once. */
    readonly migrate: Effect.Effect<void, StoreError | SchemaTooNew>
    /** Fails, saying what to do, where a worker or client could not work on this store. */
    readonly verify: (options: {
      /** A worker will run on this store: its connections are counted too. */
      readonly worker: boolean
      readonly listen: boolean
    }) => Effect.Effect<void, StoreError | SchemaNotMigrated | SchemaTooNew | PoolTooSmall>
    /** The store's clock. */
    readonly now: Effect.Effect<number, StoreError>
    /**
     * The transaction of this store's own database that the calling fiber is in, if any: what the
     * fiber sends is then a part of it.
     */
    readonly callersTransaction: Effect.Effect<CallersTransaction | null>
    /**
     * The way into a transaction that the application opened on a client of its own, of whatever
     * kind this store knows. `InvalidInput` says why a client is none.
     */
    readonly joinTransaction: (
      client: unknown,
    ) => Effect.Effect<JoinedTransaction, InvalidInput | TransactionUnsupported>

    // --- workers and leases ----------------------------------------------------

    /**
     * Grants a lease from now. The id must be fresh: a known one is refused (`StoreRejected`).
     * Removes rows of workers whose lease ended over an hour ago and that no run names.
     */
    readonly registerWorker: (worker: WorkerRegistration) => Effect.Effect<void, StoreError>
    /**
     * Renews a lease that has not lapsed, and lists the claims the store holds for this worker
     * (reconcile). `renewed: false`: the lease lapsed (or was never there) and cannot be renewed.
     * Also replaces the worker's list of workflows, and its capacity.
     */
    readonly renewLease: (
      worker: WorkerRegistration,
    ) => Effect.Effect<
      { readonly renewed: boolean; readonly claims: ReadonlyArray<Claim> },
      StoreError
    >
    /** Ends the lease: the worker stopped. Its leftover claims, if any, are the sweeper's. */
    readonly retireWorker: (workerId: string) => Effect.Effect<void, StoreError>
    /**
     * A frozen worker returned: gives back the crash counts that sweeping it had added, where they
     * still stand (each counted crash names its worker; the run is not terminal). Due times stay.
     * Answers how many runs.
     */
    readonly refundCrashes: (workerId: string) => Effect.Effect<number, StoreError>
    /**
     * Returns runs that lapsed workers hold: fresh token, claim cleared, `running` → `pending`
     * (`compensating` stays), crash counted unless a record or an undo was written under the token
     * (then the count restarts at 0). Due now, plus 1 s · 2^(crashes-1), at most 2^20, when one was counted.
     * Skips what is locked. Answers how many.
     */
    readonly sweep: (options: { readonly limit: number }) => Effect.Effect<number, StoreError>
    /**
     * Dead-letters unclaimed runs with at least `maxCrashes` crashes; wakes their parents. One that is
     * paused is left to the person it waits for, and is judged when it was resumed.
     */
    readonly deadLetterPoison: (options: {
      readonly maxCrashes: number
      readonly limit: number
    }) => Effect.Effect<ReadonlyArray<string>, StoreError>

    /**
     * Asks open children of ended parents to cancel, as `requestCancel` does, but for those that outlive
     * their parent, that are undoing, or were asked before. Level-triggered: it does not matter how the
     * parent ended, or who saw it. Skips what is locked. Answers how many parents had such children.
     */
    readonly cancelOrphans: (options: {
      readonly limit: number
    }) => Effect.Effect<number, StoreError>

    // --- claims ----------------------------------------------------------------

    /**
     * Claims due runs of the named workflows, each in just the version named, best priority first,
     * then oldest due. Of those that had to wait for a time (scheduled, asleep, backing off) a store may
     * look at the longest due only, somewhat more than `limit`: what a claim reads is bounded. Takes
     * nothing unless the worker's own lease is live, checked in the same statement. Runs with two or
     * more crashes (suspects) are claimed only with `suspects: true`, and then only those.
     */
    readonly claimRuns: (options: {
      readonly workerId: string
      readonly workflows: ReadonlyArray<WorkflowRef>
      readonly limit: number
      readonly suspects: boolean
    }) => Effect.Effect<ReadonlyArray<ClaimedRun>, StoreError>
    /** Reads histories, by a statement that begins after the claim committed. */
    readonly loadHistory: (
      workflowRunIds: ReadonlyArray<string>,
    ) => Effect.Effect<ReadonlyArray<RunHistory>, StoreError>
    /** What runs wait for, without their records. */
    readonly loadSources: (
      workflowRunIds: ReadonlyArray<string>,
    ) => Effect.Effect<ReadonlyArray<RunSources>, StoreError>
    /** Signals of those claims that are still held; a missing run was lost. */
    readonly readSignals: (
      claims: ReadonlyArray<Claim>,
    ) => Effect.Effect<ReadonlyArray<RunSignals & { readonly workflowRunId: string }>, StoreError>
    /**
     * Hands claims back, fenced: due now, crash count kept at what it was. Mints a fresh token, so
     * that a write still under way under the released one is `lost`. Answers how many.
     */
    readonly releaseClaims: (claims: ReadonlyArray<Claim>) => Effect.Effect<number, StoreError>

    // --- writing ---------------------------------------------------------------

    /**
     * Inserts runs; answers align with `runs`. With `claimFor` each that is due at once is inserted
     * as already claimed by that worker, if its lease is live (else unclaimed). Sending the same
     * ids again is safe.
     */
    readonly insertRuns: (options: {
      readonly runs: ReadonlyArray<NewRun>
      readonly claimFor: string | null
    }) => Effect.Effect<ReadonlyArray<InsertAnswer>, StoreError>
    /**
     * Takes its idempotency key from a terminal run, whatever its retention. False where there is no
     * such run, it is not terminal, or has no key.
     */
    readonly releaseIdempotencyKey: (workflowRunId: string) => Effect.Effect<boolean, StoreError>
    /** One durable commit for many runs; at most one entry per run; answers align with `writes`. */
    readonly commit: (
      writes: ReadonlyArray<RunWrite>,
    ) => Effect.Effect<ReadonlyArray<WriteAnswer>, StoreError>

    /**
     * Opens a transaction of the store's database, hands its client to `use`, and as the last
     * statements before the commit locks the fence and writes the record that `use` answers. What
     * `use` did and the record commit together or not at all.
     *
     * - `committed`, as of `commit`. `lost`: the claim is not ours any more, all is rolled back.
     * - An error of `use`, as it is, also where the rollback fails. All is rolled back.
     * - `StoreUnavailable` with outcome `not-applied` (a serialization failure among them): rolled
     *   back, may be tried again. With outcome `unknown`: ask `transactionOutcome`.
     *
     * Interruption reaches `use`, and nothing after it. How many are open at once is bounded by the
     * connections that a worker's heartbeat, journal and LISTEN leave free.
     */
    readonly transact: <E>(options: {
      readonly claim: Claim
      readonly isolation: Isolation | null
      readonly use: (transaction: Transaction) => Effect.Effect<RecordWrite, E>
    }) => Effect.Effect<
      Exclude<WriteAnswer, { readonly _tag: "busy" }>,
      E | StoreError | TransactionUnsupported | TransactionBroken | PoolTooSmall
    >
    /**
     * What became of a transaction whose commit was not answered: waits until its session has ended,
     * and looks for the record. `null`: it was not committed, and never will be.
     */
    readonly transactionOutcome: (options: {
      readonly claim: Claim
      readonly record: RecordWrite
    }) => Effect.Effect<Exclude<WriteAnswer, { readonly _tag: "busy" }> | null, StoreError>

    // --- requests --------------------------------------------------------------

    /**
     * - `cancelled`: the run was unclaimed and had never started; it has settled.
     * - `requested`: the holder (or the next one) will act on it; the run is woken, and an
     *   unclaimed one is `pending`, due now, also from a backoff and from `paused`. The first
     *   request stands; a request to pause is withdrawn.
     * - `terminal`, `compensating`: refused. `unknown`: no such run.
     */
    readonly requestCancel: (options: {
      readonly workflowRunId: string
      readonly compensate: boolean | null
      readonly reason: string | null
    }) => Effect.Effect<
      "cancelled" | "requested" | "terminal" | "compensating" | "unknown",
      StoreError
    >
    /**
     * `paused` → claimable, due now: `compensating` if it had begun to undo, else `pending`; one that
     * never started is due when it was scheduled for. A request to pause that the holder has not acted on is withdrawn (`resumed`, too).
     */
    readonly resumeRun: (
      workflowRunId: string,
      reason?: string | null,
    ) => Effect.Effect<"resumed" | "not-paused" | "unknown", StoreError>
    /**
     * Explicit retry of a `failed` or `dead_letter` run that has not begun to compensate: the next
     * attempt, `pending`, due now, from the `failedPosition` it settled with (as `RetryRun`; of a
     * poison run only the `retrying` records are removed). Error, cancel request and crash count
     * are cleared, the deadline starts anew. `not-retryable` also where another active run holds
     * the concurrency key by now.
     */
    readonly retryRun: (
      workflowRunId: string,
      reason?: string | null,
    ) => Effect.Effect<"retried" | "not-retryable" | "unknown", StoreError>
    /**
     * An operator's word on undos of an unclaimed run that has begun to undo. `retry`: those that gave
     * up begin anew, from their first try; of a `failed` or `dead_letter` run. `skip`: they count as
     * done with; also of a `paused` run or between two tries, where undos are meant that have not
     * ended. Without a step key all of them; a run that has not ended needs one. The run becomes
     * `compensating`, due now.
     *
     * - `which`: a step key is needed. `nothing`: no such undo.
     * - `refused`: the run has not begun to undo, is claimed, or its status does not allow it; or
     *   another active run holds its concurrency key by now.
     */
    readonly reviseCompensation: (options: {
      readonly workflowRunId: string
      readonly stepKey: string | null
      readonly verb: "retry" | "skip"
    }) => Effect.Effect<"revised" | "nothing" | "which" | "refused" | "unknown", StoreError>
    /**
     * Stores events and wakes their runs; answers align. Sending the same `id` to a run again
     * changes nothing (`duplicate`, also when the run is terminal by now). `full`: so many events
     * (`maxPending`) wait in the run that no record of it has consumed. Senders at the same moment
     * may pass the limit by each other; what was sent in a transaction counts from the next sweep on.
     */
    readonly sendEvents: (
      events: ReadonlyArray<{
        readonly workflowRunId: string
        readonly name: string
        readonly payload: Encoded
        readonly id: string | null
      }>,
      options?: { readonly maxPending: number },
    ) => Effect.Effect<
      ReadonlyArray<"sent" | "duplicate" | "terminal" | "full" | "unknown">,
      StoreError
    >

    /**
     * The step key of the token that this run has recorded; `null`: the run has no such token.
     */
    readonly findToken: (options: {
      readonly workflowRunId: string
      readonly token: string
    }) => Effect.Effect<string | null, StoreError>

    // --- control: answers align with the ids; each accepted verb leaves a log entry ---------------

    /**
     * Ends runs at once, as `cancelled` with the given error (its cause: the error the run had), and
     * undoes nothing. A claimed one gets a fresh token, so that its holder finds the claim `lost`.
     * Wakes parents; asks children that are not terminal to cancel, in the same commit.
     */
    readonly terminateRuns: (
      runs: ReadonlyArray<{
        readonly workflowRunId: string
        readonly error: StoredError
        readonly reason: string | null
      }>,
    ) => Effect.Effect<ReadonlyArray<TerminateAnswer>, StoreError>
    /**
     * Pauses unclaimed runs, with the given error as the pause's reason; of claimed ones it is a
     * request, and `error` becomes the reason when the claim is let go. Also of compensating runs.
     */
    readonly pauseRuns: (
      runs: ReadonlyArray<{
        readonly workflowRunId: string
        readonly error: StoredError
        readonly reason: string | null
      }>,
    ) => Effect.Effect<ReadonlyArray<PauseAnswer>, StoreError>
    /**
     * Wakes runs. With `endSleeps` their open timers (of sleeps, and of timeouts of events), stored
     * backoffs and the backoff between attempts are due now, and it is logged; without, a run that
     * waits looks again at what it waits for, and nothing is logged.
     */
    readonly wakeRuns: (options: {
      readonly workflowRunIds: ReadonlyArray<string>
      readonly endSleeps: boolean
      readonly reason: string | null
    }) => Effect.Effect<ReadonlyArray<WakeAnswer>, StoreError>
    /**
     * Sets another due time: of a run that has not started (its deadline moves along), else of its
     * open sleep. `sleep` names the step key of the sleep, needed where several are open.
     */
    readonly rescheduleRuns: (options: {
      readonly workflowRunIds: ReadonlyArray<string>
      readonly at: number
      readonly sleep: string | null
      readonly reason: string | null
    }) => Effect.Effect<ReadonlyArray<RescheduleAnswer>, StoreError>
    /**
     * Starts new runs from old ones, whatever their status, which stay untouched: the final records
     * before the point are copied with their timers, under no token, without what was undone of
     * them. `pending`, due now, first attempt, no keys, no parent; `hasHistory` at its first claim.
     */
    readonly forkRuns: (
      forks: ReadonlyArray<{
        readonly workflowRunId: string
        readonly from: ForkPoint
        /** UUIDv7 of the new run, made by the caller. */
        readonly newRunId: string
        /** `null`: that of the origin. */
        readonly input: Encoded | null
        readonly reason: string | null
      }>,
    ) => Effect.Effect<ReadonlyArray<ForkAnswer>, StoreError>
    /** The control log of a run, oldest first. */
    readonly getControls: (
      workflowRunId: string,
    ) => Effect.Effect<ReadonlyArray<ControlEntry>, StoreError>

    // --- reading ---------------------------------------------------------------

    /** Rows of the runs that exist, in no particular order. */
    readonly getRuns: (
      workflowRunIds: ReadonlyArray<string>,
    ) => Effect.Effect<ReadonlyArray<RunRow>, StoreError>
    /** Newest first (by id); `before` is the last id of the previous page. */
    readonly listRuns: (
      options: RunSelection & { readonly before: string | null; readonly limit: number },
    ) => Effect.Effect<ReadonlyArray<RunRow>, StoreError>
    /** How many runs are selected, at one instant. */
    readonly countRuns: (selection: RunSelection) => Effect.Effect<number, StoreError>
    /** What stands around a run; `null`: there is no such run. */
    readonly getSituation: (workflowRunId: string) => Effect.Effect<Situation | null, StoreError>
    readonly getSteps: (
      workflowRunId: string,
    ) => Effect.Effect<ReadonlyArray<StepRecord>, StoreError>
    /** Emitted events of one run, by `eventId`. */
    readonly getEvents: (
      workflowRunId: string,
    ) => Effect.Effect<ReadonlyArray<EventRow>, StoreError>
    /**
     * Emitted events after a cursor, in an order that respects commits: an event that becomes
     * visible later never sorts before one already given. `cursor: null` starts at the present.
     */
    readonly tailEvents: (options: {
      readonly cursor: string | null
      readonly limit: number
    }) => Effect.Effect<
      { readonly events: ReadonlyArray<EventRow>; readonly cursor: string },
      StoreError
    >

    // --- schedules -------------------------------------------------------------

    /**
     * Inserts or replaces a schedule by key. `nextTick` replaces the stored one only if expression
     * or zone changed, or the schedule was disabled.
     */
    readonly upsertSchedule: (
      schedule: Omit<ScheduleRow, "lastTick">,
    ) => Effect.Effect<ScheduleRow, StoreError>
    readonly removeSchedule: (key: string) => Effect.Effect<boolean, StoreError>
    readonly listSchedules: Effect.Effect<ReadonlyArray<ScheduleRow>, StoreError>
    /** Enabled schedules whose next tick is due. */
    readonly dueSchedules: (options: {
      readonly limit: number
    }) => Effect.Effect<DueSchedules, StoreError>
    /**
     * Fires one tick: its unique row, its run and the advanced `nextTick`, in one commit. Answers
     * false when that tick had fired (`nextTick` still advances past it), or the schedule's
     * `nextTick` is no longer `expectedNextTick`, or it is disabled or gone. A run that its keys
     * refuse is not inserted; the tick has fired all the same. Fired ticks outlive their schedule.
     */
    readonly fireTick: (options: {
      readonly key: string
      readonly expectedNextTick: number
      readonly tick: number
      readonly nextTick: number
      readonly run: NewRun
    }) => Effect.Effect<boolean, StoreError>

    // --- hints -----------------------------------------------------------------

    /**
     * Tells other processes that something changed: `work` (a run became due), `settled`,
     * `signal` (a claimed run has something to hear), `wakes` (a sender in a transaction has left
     * wakes to apply). A hint: may be lost, never needed.
     */
    readonly notify: (hints: ReadonlyArray<Hint>) => Effect.Effect<void, StoreError>
    /**
     * Hints from other processes (and perhaps this one). A `reconnected` hint means: anything may
     * have been missed, look now. Re-subscribes by itself.
     */
    readonly listen: Effect.Effect<Queue.Dequeue<Hint>, StoreError, Scope.Scope>
    /**
     * How many commits the journal may have under way at once, never two of one run, and from how many
     * runs on a second one is worth it.
     */
    readonly overlap: { readonly commits: number; readonly from: number }
    /** `listen` takes nothing away from a process that could do without it. */
    readonly sparesConnection: boolean
  }
>()("flowly/WorkflowStore") {}

/**
 * What a hint is about.
 *
 * @category models
 * @since 0.1.0
 */
export type Hint = "work" | "settled" | "signal" | "wakes" | "reconnected"
