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
 *   store's clock only. All times in this file are epoch milliseconds of that clock.
 * - **Level-triggered waking.** Whatever wakes a run increments its wake counter; parking compares
 *   it. An unclaimed `sleeping` or `waiting` run becomes `pending`, due now; an unclaimed
 *   `compensating` one is due now; a `pending` one keeps its due time, a terminal one its counter.
 * - **Terminal is final (promise 6)**; every settlement wakes the parent, in the same commit.
 *
 * A store never runs user code and never interprets a payload.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { Attributes } from "./Attributes.ts"
import type {
  ControlEntry,
  ForkAnswer,
  ForkPoint,
  PauseAnswer,
  PauseRequest,
  RescheduleAnswer,
  TerminateAnswer,
  WakeAnswer,
} from "./Control.ts"
import type { StoredError } from "./ErrorPayload.ts"
import type { SqlClient } from "effect/sql/SqlClient"
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
import type { RunStatus, TerminalStatus } from "./Run.ts"

/**
 * Every verb may fail so: transient (`StoreUnavailable`) or refused by the database
 * (`StoreRejected`: SQLSTATE class 22, 23, 54 and other non-transient states).
 *
 * @category errors
 * @since 0.1.0
 */
export type StoreError = StoreUnavailable | StoreRejected

// -----------------------------------------------------------------------------
// Runs
// -----------------------------------------------------------------------------

/**
 * A workflow as runs name it. A run belongs to the version that started it; `null` is the version of
 * runs that were started without one.
 *
 * @category models
 * @since 0.1.0
 */
export interface WorkflowRef {
  readonly name: string
  readonly version: string | null
}

/**
 * A child's place in its parent. (`parent run`, `step key`, `parent attempt`) is unique, so replay
 * cannot start a second child.
 *
 * @category models
 * @since 0.1.0
 */
export interface ParentRef {
  readonly workflowRunId: string
  readonly stepKey: string
  readonly attempt: number
}

/**
 * A run to insert. Its id (UUIDv7) is made by the caller, so that an insert can be sent again.
 *
 * @category models
 * @since 0.1.0
 */
export interface NewRun {
  readonly workflowRunId: string
  readonly workflow: string
  readonly version: string | null
  readonly input: Encoded
  /** Lower is claimed first. Default 0. */
  readonly priority: number
  /** Not claimed before this instant; `null`: due at once. */
  readonly scheduledFor: number | null
  /** The run's deadline is its insertion or `scheduledFor`, whichever is later, plus this. */
  readonly timeoutMs: number | null
  /** Attempts of the whole run; `null`: one, and the run ends as `failed`, not `dead_letter`. */
  readonly maxAttempts: number | null
  /** Unique per workflow: for ever, or until `idempotencyRetentionMs` after the insertion. */
  readonly idempotencyKey: string | null
  /**
   * From then on the key is free again, once the run is terminal: an insert with it takes it from the
   * run. Default `null`: never.
   */
  readonly idempotencyRetentionMs?: number | null | undefined
  /** At most one non-terminal run per workflow and key. */
  readonly concurrencyKey: string | null
  readonly parent: ParentRef | null
  /** Searchable; not of a child, nor of a tick. */
  readonly attributes?: Attributes | null | undefined
  /** Of a child that is open when its parent ends. Default: "cancel". */
  readonly onParentClose?: OnParentClose | undefined
}

/**
 * What becomes of a child that is open when its parent ends, in whatever way.
 *
 * @category models
 * @since 0.1.0
 */
export type OnParentClose = "cancel" | "abandon"

/**
 * The answer to one insert. Checked in this order: id, idempotency key, parent's step, concurrency
 * key; earlier runs of the same call count.
 *
 * - `Inserted`: the row is there (also when this very id was inserted by an earlier sending).
 *   `token` is set when the insert itself claimed it for `claimFor` (token 1) and that very claim
 *   is still held: a later claim by the same worker is another claim.
 * - `Existing`: the idempotency key (or the parent's step) already has this run.
 * - `ConcurrencyHeld`: an active run holds the concurrency key.
 *
 * @category models
 * @since 0.1.0
 */
export type InsertAnswer =
  | {
      readonly _tag: "Inserted"
      readonly workflowRunId: string
      readonly token: number | null
      readonly createdAt: number
      readonly deadlineAt: number | null
    }
  | { readonly _tag: "Existing"; readonly run: RunRow }
  | { readonly _tag: "ConcurrencyHeld"; readonly workflowRunId: string }

/**
 * A request to cancel, kept on the row until the claim's holder acts on it.
 *
 * @category models
 * @since 0.1.0
 */
export interface CancelRequest {
  /** `null`: as the workflow chooses. */
  readonly compensate: boolean | null
  readonly reason: string | null
}

/**
 * What changes on a claimed run from outside, and travels with every answer about it.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunSignals {
  readonly wakeCounter: number
  readonly cancelRequest: CancelRequest | null
  /** Never beside a cancel request, which withdraws it. */
  readonly pauseRequest: PauseRequest | null
  /** By the store's clock. Never true while compensating. */
  readonly deadlinePassed: boolean
}

/**
 * A claimed run: the row as the claim left it. History is read by a later statement.
 *
 * @category models
 * @since 0.1.0
 */
export interface ClaimedRun extends RunSignals {
  readonly workflowRunId: string
  readonly workflow: string
  readonly version: string | null
  readonly token: number
  /** What its random numbers are drawn from: its id; of a fork that of the first origin. */
  readonly seed: string
  /** The run is undoing: claim it to compensate. */
  readonly compensating: boolean
  /** Attempt of the whole run, from 1. */
  readonly attempt: number
  readonly maxAttempts: number | null
  readonly input: Encoded
  readonly error: StoredError | null
  readonly parent: ParentRef | null
  readonly createdAt: number
  /** Of the run's first claim. */
  readonly startedAt: number
  readonly deadlineAt: number | null
  readonly crashCount: number
  /**
   * False when there is nothing to read: the first claim ever, of a run that nothing has woken (an
   * event may have come before the first claim).
   */
  readonly hasHistory: boolean
}

/**
 * Which runs are meant: those that fulfil all that is given (`null` and `undefined` select nothing
 * away). Attributes must be equal, each of those named.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunSelection {
  readonly statuses: ReadonlyArray<RunStatus> | null
  readonly workflow: string | null
  readonly parentRunId: string | null
  readonly idempotencyKey?: string | null | undefined
  readonly concurrencyKey?: string | null | undefined
  readonly attributes?: Attributes | null | undefined
  /** Created at or after; before. */
  readonly createdFrom?: number | null | undefined
  readonly createdBefore?: number | null | undefined
}

/**
 * A run as its row shows it.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunRow {
  readonly workflowRunId: string
  readonly workflow: string
  readonly version: string | null
  readonly status: RunStatus
  /** It has begun to undo; stays true to the end (also while `paused`, and when terminal). */
  readonly compensating: boolean
  readonly attempt: number
  readonly maxAttempts: number | null
  readonly input: Encoded
  readonly result: Encoded | null
  readonly error: StoredError | null
  /** Why the run is paused; history is intact. */
  readonly pauseReason: StoredError | null
  readonly parent: ParentRef | null
  readonly idempotencyKey: string | null
  readonly concurrencyKey: string | null
  readonly priority: number
  readonly attributes: Attributes
  /** What the run says about its state; `null`: nothing so far. */
  readonly statusText: string | null
  /** Of an unclaimed run: claimable from then on; `null`: when woken. Else without meaning. */
  readonly dueAt: number | null
  readonly scheduledFor: number | null
  readonly deadlineAt: number | null
  readonly cancelRequest: CancelRequest | null
  readonly pauseRequest: PauseRequest | null
  readonly wakeCounter: number
  readonly token: number
  /** Incarnation id of the worker that holds the claim. */
  readonly workerId: string | null
  readonly crashCount: number
  readonly createdAt: number
  readonly startedAt: number | null
  readonly completedAt: number | null
}

// -----------------------------------------------------------------------------
// History
// -----------------------------------------------------------------------------

/**
 * What kind of operation a record belongs to. A key asked for as another kind is a divergence.
 *
 * @category models
 * @since 0.1.0
 */
export type OperationKind =
  | "step"
  | "sleep"
  | "child"
  /** A child was started; its end is another operation. */
  | "child_start"
  | "event"
  | "side_effect"
  | "emit"
  | "token"
  /** What completed before it is no longer undone. */
  | "no_return"
  /** The run has taken the new code of a patch. */
  | "patch"

/**
 * One remembered outcome (or, with status `retrying`, a stored backoff).
 *
 * @category models
 * @since 0.1.0
 */
export interface StepRecord {
  readonly stepKey: string
  readonly name: string
  readonly kind: OperationKind
  /** Place in the order of completion, from 1; `null` while `retrying`. Gaps are legal. */
  readonly position: number | null
  /**
   * The highest position that the body had seen when it asked (0: none): what later positions decide,
   * they decide only after this was asked for again.
   */
  readonly issuedAfter: number
  readonly status: "completed" | "failed" | "retrying"
  /** Ended tries. 0 with `retrying`: begun, nothing else. */
  readonly attempts: number
  readonly result: Encoded | null
  readonly error: StoredError | null
  /**
   * It is to be undone if the run ends so. Of a step that has not completed: its outcome is unknown,
   * and it asked to be undone all the same.
   */
  readonly hasCompensate: boolean
  /** Kept from an earlier attempt of the run: delivered when asked for (run-level retry). */
  readonly carried: boolean
  readonly startedAt: number | null
  /** Store's time of the commit; `null` while `retrying`. */
  readonly completedAt: number | null
  /** With `retrying`: the next try is due then. */
  readonly retryAt: number | null
  /** With `retrying`: the number of the newest note that was written during a try. */
  readonly revision: number
  /** What the body last told of its progress. */
  readonly heartbeat: Encoded | null
  readonly compensation: {
    /** `skipped`: by an operator. */
    readonly status: "completed" | "failed" | "retrying" | "skipped"
    readonly attempts: number
    readonly error: StoredError | null
    /** With `retrying`: the next try is due then; `null`: at once. */
    readonly retryAt: number | null
  } | null
}

/**
 * A durable timer, fixed when the sleep was first reached.
 *
 * @category models
 * @since 0.1.0
 */
export interface TimerRow {
  readonly stepKey: string
  readonly wakeAt: number
}

/**
 * A child run as its parent's history sees it. For a key with several (one per parent attempt) the
 * newest attempt is given.
 *
 * @category models
 * @since 0.1.0
 */
export interface ChildRow {
  readonly stepKey: string
  readonly workflowRunId: string
  readonly parentAttempt: number
  readonly onParentClose: OnParentClose
  readonly status: RunStatus
  readonly result: Encoded | null
  readonly error: StoredError | null
}

/**
 * An event sent to a run, or emitted by it. Ordered by `eventId`, never by time.
 *
 * @category models
 * @since 0.1.0
 */
export interface EventRow {
  readonly eventId: number
  readonly workflowRunId: string
  readonly direction: "sent" | "emitted"
  readonly name: string
  readonly payload: Encoded
  /** The sender's idempotency id. */
  readonly id: string | null
  readonly createdAt: number
}

/**
 * What a run may be waiting for. `wakeCounter` was read no later than the rest.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunSources extends RunSignals {
  readonly workflowRunId: string
  /** The store's time of this reading. */
  readonly now: number
  readonly children: ReadonlyArray<ChildRow>
  /** Events sent to the run that no record has consumed, by `eventId`. */
  readonly events: ReadonlyArray<EventRow>
  /** When its open timers and stored backoffs are due: others may move them. */
  readonly dueTimes: ReadonlyArray<TimerRow>
}

/**
 * Everything a replay needs, read once per claim by a statement that began after the claim
 * committed. `records` are in order of position, the `retrying` ones last.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunHistory extends RunSources {
  readonly records: ReadonlyArray<StepRecord>
  readonly timers: ReadonlyArray<TimerRow>
}

// -----------------------------------------------------------------------------
// The journal's batch
// -----------------------------------------------------------------------------

/**
 * An outcome to record. Final outcomes never change; a `retrying` record is replaced by a final
 * one, by one with more attempts, or by one with as many and a higher revision. What time ends (`endsByTimer`: a sleep, the
 * timeout of a wait for an event) is accepted only where its timer (earlier, or of this write) has
 * `wakeAt` <= now by the store's clock; a refused one holds nothing else back.
 *
 * @category models
 * @since 0.1.0
 */
export interface RecordWrite {
  readonly stepKey: string
  readonly name: string
  readonly kind: OperationKind
  readonly position: number | null
  readonly issuedAfter: number
  readonly status: "completed" | "failed" | "retrying"
  readonly attempts: number
  readonly result: Encoded | null
  readonly error: StoredError | null
  readonly hasCompensate: boolean
  /** With `retrying`: from the commit to the next try. */
  readonly retryDelayMs: number | null
  /** How long the operation took, by the worker's monotonic clock: `startedAt = now - this`. */
  readonly elapsedMs: number
  /** With kind `event`: the event this record consumes; `null` when its time was up. */
  readonly eventId: number | null
  /**
   * With `retrying`: orders the notes that are written between two ends of tries (a try begins, a
   * heartbeat), so that a delayed copy of an older one changes nothing. Default 0.
   */
  readonly revision?: number | undefined
  /** The step's latest heartbeat; without one, what stands is kept. */
  readonly heartbeat?: Encoded | null | undefined
}

/**
 * Whether a record says that a time has come: the end of a sleep, or of a wait in vain.
 *
 * @category guards
 * @since 0.1.0
 */
export const endsByTimer = (record: RecordWrite): boolean =>
  (record.kind === "sleep" && record.status !== "retrying") ||
  (record.kind === "event" && record.eventId === null && record.status === "completed")

/**
 * A timer to fix: from the store's now, or absolute. An existing timer of the key wins.
 *
 * @category models
 * @since 0.1.0
 */
export type TimerWrite =
  | { readonly stepKey: string; readonly delayMs: number }
  | { readonly stepKey: string; readonly wakeAt: number }

/**
 * The outcome of undoing one step, kept on the step's record, which must stand (of an *unknown* step
 * the failed or `retrying` one). A final outcome changes by `reviseCompensation` alone.
 *
 * @category models
 * @since 0.1.0
 */
export interface CompensationWrite {
  readonly stepKey: string
  readonly status: "completed" | "failed" | "retrying"
  readonly attempts: number
  readonly error: StoredError | null
  /** With `retrying`: from the commit to the next try. Default: none. */
  readonly retryDelayMs?: number | null | undefined
}

/**
 * Something that a parked run waits for: evidence, for people.
 *
 * @category models
 * @since 0.1.0
 */
export interface ParkedWait {
  readonly stepKey: string
  readonly kind: "sleep" | "event" | "child" | "backoff"
  /** Of an event: its name. */
  readonly event: string | null
  readonly until: number | null
  /** Of a backoff: the attempt that comes next, and how many there are. */
  readonly attempt: number | null
  readonly maxAttempts: number | null
}

/**
 * A worker as its row shows it.
 *
 * @category models
 * @since 0.1.0
 */
export interface WorkerState {
  readonly workerId: string
  readonly label: string
  readonly capacity: number
  readonly workflows: ReadonlyArray<WorkflowRef>
  readonly leaseExpiresAt: number
  readonly heartbeatAt: number
  readonly isLive: boolean
}

/**
 * What stands around a run, read for an explanation.
 *
 * @category models
 * @since 0.1.0
 */
export interface Situation {
  readonly now: number
  readonly run: RunRow
  /** As of its last park; of a run that has ended: none. */
  readonly waits: ReadonlyArray<ParkedWait>
  readonly children: ReadonlyArray<ChildRow>
  readonly dueTimes: ReadonlyArray<TimerRow>
  /** The last in the order of completion. */
  readonly lastStep: { readonly stepKey: string; readonly completedAt: number } | null
  /** Who holds the claim. */
  readonly holder: WorkerState | null
  /** The live ones. */
  readonly workers: ReadonlyArray<WorkerState>
  /** Due runs of its workflow and version that are claimed before it; counted up to 1,000. */
  readonly ahead: number
  /** The active run that has its concurrency key; it may be the run itself. */
  readonly keyHolder: string | null
}

/**
 * The one status change a run may make in a batch.
 *
 * - `Park`: release the claim; claimable again at `dueAt` (absolute) or `delayMs` after the commit,
 *   whichever is sooner, or when woken. If the row's wake counter differs from `wakeCounter`, the
 *   run is due now (status `pending`): nothing is lost. The run's deadline is always part of its
 *   due time (the store adds it; not while compensating). A compensating run keeps its status.
 * - `HandBack`: release the claim, due now. Not a failure.
 * - `Settle`: terminal. Wakes the parent. A `null` error of a compensating run keeps the error that
 *   `Compensate` recorded.
 * - `Compensate`: `running` → `compensating`, the claim stays.
 * - `RetryRun`: next attempt, `pending`, due after `delayMs` (sooner at the deadline; now if a
 *   cancel is requested). Removes the failed records from `failedPosition` on (`null`: the last
 *   failed record) with their timers, and all `retrying` records; marks completed ones after it as
 *   `carried`. An event that a removed record had consumed is unconsumed again.
 * - `Pause`: `paused`, claim released, history intact.
 *
 * All that release the claim reset the crash count. Where a pause is requested, `Park`, `HandBack`
 * and `RetryRun` leave the run `paused`: so a holder that was asked to pause hands back, and a request
 * that is withdrawn meanwhile leaves it due now.
 *
 * @category models
 * @since 0.1.0
 */
export type Transition =
  | {
      readonly _tag: "Park"
      readonly status: "sleeping" | "waiting"
      readonly dueAt: number | null
      readonly delayMs: number | null
      readonly wakeCounter: number
      /** What it waits for, for whoever asks: the first few. The store does not act on it. */
      readonly waits?: ReadonlyArray<ParkedWait> | undefined
    }
  | { readonly _tag: "HandBack" }
  | {
      readonly _tag: "Settle"
      readonly status: TerminalStatus
      readonly result: Encoded | null
      readonly error: StoredError | null
      /** Where an explicit retry starts: the earliest failed record that is the run's error. */
      readonly failedPosition: number | null
    }
  | { readonly _tag: "Compensate"; readonly error: StoredError }
  | {
      readonly _tag: "RetryRun"
      readonly failedPosition: number | null
      readonly delayMs: number
      readonly error: StoredError
    }
  | { readonly _tag: "Pause"; readonly error: StoredError }

/**
 * Everything one run produced since its last commit, folded: one row per run in a batch. Its parts
 * apply in the order of the fields. A child carries no idempotency or concurrency key. `emitted`
 * names the `emit` record that stands beside it, so that a write sent again emits once.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunWrite {
  readonly workflowRunId: string
  readonly token: number
  readonly timers: ReadonlyArray<TimerWrite>
  readonly records: ReadonlyArray<RecordWrite>
  readonly children: ReadonlyArray<NewRun>
  readonly emitted: ReadonlyArray<{
    readonly stepKey: string
    readonly name: string
    readonly payload: Encoded
  }>
  readonly compensations: ReadonlyArray<CompensationWrite>
  /** Sets these, and leaves others as they are; the one without a name is the status text. */
  readonly attributes?: Attributes | undefined
  readonly transition: Transition | null
}

/**
 * The answer to one run's write.
 *
 * - `committed`: applied and durable (also when an earlier sending of the same rows was: the run is
 *   unclaimed or terminal with our token, or still held by us and its records stand under it).
 * - `busy`: the row was locked by another transaction and the token is still ours; nothing was
 *   applied; send the same rows again, in order.
 * - `lost`: the run's token is not ours (any more); this sending applied nothing. Also answered to
 *   a write without a releasing transition whose run we released, unless its records (and undos)
 *   stand under our token: it was never applied.
 *
 * @category models
 * @since 0.1.0
 */
export type WriteAnswer =
  | (RunSignals & {
      readonly _tag: "committed"
      readonly workflowRunId: string
      /**
       * The store's time of the commit: `completedAt` of the records in it, also when an earlier
       * sending had committed them.
       */
      readonly now: number
      /** The timers of this write as they are fixed. */
      readonly timers: ReadonlyArray<TimerRow>
      /** Ends by timer that came too early: not recorded; wait until `wakeAt` and send again. */
      readonly refusedSleeps: ReadonlyArray<TimerRow>
      /** The children of this write, with the ids that stand in the store. */
      readonly children: ReadonlyArray<{ readonly stepKey: string; readonly workflowRunId: string }>
    })
  | { readonly _tag: "busy"; readonly workflowRunId: string }
  | { readonly _tag: "lost"; readonly workflowRunId: string }

// -----------------------------------------------------------------------------
// Workers, schedules
// -----------------------------------------------------------------------------

/**
 * A worker process announcing itself. `workerId` is a fresh incarnation id (UUID) at every start;
 * `label` is what the user configured and authorizes nothing.
 *
 * @category models
 * @since 0.1.0
 */
export interface WorkerRegistration {
  readonly workerId: string
  readonly label: string
  readonly leaseMs: number
  readonly workflows: ReadonlyArray<WorkflowRef>
  readonly capacity: number
}

/**
 * The right to advance a run.
 *
 * @category models
 * @since 0.1.0
 */
export interface Claim {
  readonly workflowRunId: string
  readonly token: number
}

/**
 * A cron schedule. `nextTick` is the next nominal instant to fire.
 *
 * @category models
 * @since 0.1.0
 */
export interface ScheduleRow {
  readonly key: string
  readonly workflow: string
  /** Of the runs that its ticks start. */
  readonly version: string | null
  readonly cron: string
  readonly timeZone: string
  readonly input: Encoded
  readonly enabled: boolean
  readonly nextTick: number
  /** The newest tick that fired. */
  readonly lastTick: number | null
}

// -----------------------------------------------------------------------------
// The service
// -----------------------------------------------------------------------------

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
     * Also replaces the worker's list of workflows.
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
     * (then the count restarts at 0). Due now, plus 1 s · 2^(crashes-1) when one was counted.
     * Skips what is locked. Answers how many.
     */
    readonly sweep: (options: { readonly limit: number }) => Effect.Effect<number, StoreError>
    /** Dead-letters unclaimed runs with at least `maxCrashes` crashes; wakes their parents. */
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
     * then oldest due. Takes nothing unless the worker's own lease is live, checked in the same statement. Runs with two or more
     * crashes (suspects) are claimed only with `suspects: true`, and then only those.
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
     * changes nothing (`duplicate`, also when the run is terminal by now).
     */
    readonly sendEvents: (
      events: ReadonlyArray<{
        readonly workflowRunId: string
        readonly name: string
        readonly payload: Encoded
        readonly id: string | null
      }>,
    ) => Effect.Effect<ReadonlyArray<"sent" | "duplicate" | "terminal" | "unknown">, StoreError>

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
    /** Enabled schedules whose next tick is due, with the store's now. */
    readonly dueSchedules: (options: {
      readonly limit: number
    }) => Effect.Effect<
      { readonly now: number; readonly schedules: ReadonlyArray<ScheduleRow> },
      StoreError
    >
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
  }
>()("flowly/WorkflowStore") {}

/**
 * @category models
 * @since 0.1.0
 */
export type Isolation = "read committed" | "repeatable read" | "serializable"

/**
 * A transaction that the store opened for a step.
 *
 * @category models
 * @since 0.1.0
 */
export interface Transaction {
  /** The `pg.PoolClient`, where the store borrows from a `pg.Pool`; else one of the same shape. */
  readonly client: unknown
  /** The client whose statements on this fiber are a part of the transaction. */
  readonly sql: SqlClient | null
  /** Whether an error of the step's code is a fault of the moment, in the database or on the way. */
  readonly faultOf: (error: unknown) => "serialization" | "unavailable" | null
}

/**
 * A transaction that the application opened.
 *
 * @category models
 * @since 0.1.0
 */
export interface CallersTransaction {
  /**
   * Gives hints when, and only if, it commits: `then` is called in this process where the store
   * learns of the commit; else the hints go to all processes as a part of the transaction.
   */
  readonly afterCommit: (
    hints: ReadonlyArray<Hint>,
    then: () => void,
  ) => Effect.Effect<void, StoreError>
}

/**
 * Runs effects inside a transaction of the application: `callersTransaction` is that one then.
 *
 * @category models
 * @since 0.1.0
 */
export interface JoinedTransaction {
  readonly run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/**
 * What a hint is about.
 *
 * @category models
 * @since 0.1.0
 */
export type Hint = "work" | "settled" | "signal" | "wakes" | "reconnected"
