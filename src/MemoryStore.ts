/**
 * `WorkflowStore` in the memory of one process: for tests, examples, and programs that can afford
 * to forget.
 *
 * Every verb is one synchronous step, so each is atomic and in order. Time is Effect's clock, read
 * in each verb: TestClock drives due times, leases and ticks. Nothing survives the process; what
 * survives an engine that "crashes" is a `Handle`, which another engine may take over.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Claims from "./memory/claims.ts"
import type { SqlClient } from "effect/sql/SqlClient"
import { TransactionUnsupported } from "./FlowlyError.ts"
import * as Commit from "./memory/commit.ts"
import * as Control from "./memory/control.ts"
import * as Compensation from "./memory/compensation.ts"
import * as Inserts from "./memory/inserts.ts"
import * as Reads from "./memory/reads.ts"
import * as Requests from "./memory/requests.ts"
import * as Schedules from "./memory/schedules.ts"
import * as Situation from "./memory/situation.ts"
import * as State from "./memory/state.ts"
import * as Workers from "./memory/workers.ts"
import { type Hint, type RunRow, type ScheduleRow, WorkflowStore } from "./WorkflowStore.ts"

/**
 * One memory store, to share between engines and to look into.
 *
 * @category models
 * @since 0.1.0
 */
export interface Handle {
  readonly store: WorkflowStore["Service"]
  readonly layer: Layer.Layer<WorkflowStore>
  /** What is stored at this moment: a copy. */
  readonly inspect: () => Snapshot
  /** An independent store with the same content (listeners stay behind). */
  readonly copy: () => Handle
}

/**
 * The content of a memory store, in order of insertion.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot {
  readonly runs: ReadonlyArray<RunRow>
  readonly workers: ReadonlyArray<{
    readonly workerId: string
    readonly leaseExpiresAt: number
    readonly claims: ReadonlyArray<string>
  }>
  readonly schedules: ReadonlyArray<ScheduleRow>
}

/**
 * What transactional steps are handed. There is no transaction: what their code does stands, also
 * where it fails.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** In the promise API. */
  readonly client?: unknown
  /** In the Effect API. */
  readonly sql?: SqlClient | undefined
}

/**
 * A new, empty memory store.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeUnsafe = (options: Options = {}): Handle => makeHandle(State.make(), options)

/**
 * A fresh memory store for each time the layer is built.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<WorkflowStore> = Layer.sync(WorkflowStore, () => makeUnsafe().store)

/**
 * The memory store of the handle: several engines on one store.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerFrom = (handle: Handle): Layer.Layer<WorkflowStore> => handle.layer

const makeHandle = (state: State.State, options: Options): Handle => {
  const store = makeStore(state, options)
  return {
    store,
    layer: Layer.succeed(WorkflowStore, store),
    inspect: () => ({
      runs: Array.from(state.runs.values(), State.rowOf),
      workers: Array.from(state.workers, ([workerId, { leaseExpiresAt, claims }]) => ({
        workerId,
        leaseExpiresAt,
        claims: [...claims],
      })),
      schedules: [...state.schedules.values()],
    }),
    copy: () => makeHandle(State.copy(state), options),
  }
}

/** How many hints a listener may leave unread; older ones are dropped, as hints may be. */
const unreadHints = 64

/** A verb that reads the clock: once, so that it happens at one instant. */
const at = <A>(verb: (now: number) => A): Effect.Effect<A> =>
  Clock.clockWith((clock) => Effect.sync(() => verb(clock.currentTimeMillisUnsafe())))

const makeStore = (state: State.State, handedOut: Options): WorkflowStore["Service"] => {
  const listeners = new Set<Queue.Queue<Hint>>()
  return WorkflowStore.of({
    name: "memory",
    migrate: Effect.void,
    verify: () => Effect.void,
    now: Clock.currentTimeMillis,
    callersTransaction: Effect.succeed(null),
    joinTransaction: () =>
      handedOut.client === undefined
        ? Effect.fail(new TransactionUnsupported({ store: "memory" }))
        : // as with transactional steps: there is none, and what is done stands
          Effect.succeed({ run: (effect) => effect }),

    registerWorker: (worker) =>
      Effect.flatMap(
        at((now) => Workers.registerWorker(state, now, worker)),
        (refused) => (refused === undefined ? Effect.void : Effect.fail(refused)),
      ),
    renewLease: (worker) => at((now) => Workers.renewLease(state, now, worker)),
    retireWorker: (workerId) => at((now) => Workers.retireWorker(state, now, workerId)),
    refundCrashes: (workerId) => Effect.sync(() => Workers.refundCrashes(state, workerId)),
    sweep: (options) => at((now) => Workers.sweep(state, now, options)),
    deadLetterPoison: (options) => at((now) => Workers.deadLetterPoison(state, now, options)),

    cancelOrphans: (options) => at((now) => Requests.cancelOrphans(state, now, options)),

    claimRuns: (options) => at((now) => Claims.claimRuns(state, now, options)),
    loadHistory: (ids) => at((now) => Reads.loadHistory(state, now, ids)),
    loadSources: (ids) => at((now) => Reads.loadSources(state, now, ids)),
    readSignals: (claims) => at((now) => Claims.readSignals(state, now, claims)),
    releaseClaims: (claims) => at((now) => Claims.releaseClaims(state, now, claims)),

    insertRuns: (options) => at((now) => Inserts.insertRuns(state, now, options)),
    releaseIdempotencyKey: (id) => Effect.sync(() => Inserts.releaseIdempotencyKey(state, id)),
    commit: (writes) => at((now) => Commit.commit(state, now, writes)),
    transact: ({ claim, use }) => {
      const { client, sql } = handedOut
      if (client === undefined && sql === undefined) {
        return Effect.fail(new TransactionUnsupported({ store: "memory" }))
      }
      return Effect.flatMap(
        use({ client: client ?? null, sql: sql ?? null, faultOf: () => null }),
        (record) => at((now) => Commit.commitRecord(state, now, claim, record)),
      )
    },
    transactionOutcome: ({ claim, record }) =>
      at((now) => Commit.outcomeOf(state, now, claim, record)),

    requestCancel: (options) => at((now) => Requests.requestCancel(state, now, options)),
    resumeRun: (id, reason = null) => at((now) => Requests.resumeRun(state, now, id, reason)),
    retryRun: (id, reason = null) => at((now) => Requests.retryRun(state, now, id, reason)),
    reviseCompensation: (options) =>
      at((now) => Compensation.reviseCompensation(state, now, options)),
    sendEvents: (events, options) =>
      at((now) => Requests.sendEvents(state, now, events, options?.maxPending ?? Infinity)),
    findToken: (options) => Effect.sync(() => Reads.findToken(state, options)),

    terminateRuns: (runs) => at((now) => Control.terminateRuns(state, now, runs)),
    pauseRuns: (runs) => at((now) => Control.pauseRuns(state, now, runs)),
    wakeRuns: (options) => at((now) => Control.wakeRuns(state, now, options)),
    rescheduleRuns: (options) => at((now) => Control.rescheduleRuns(state, now, options)),
    forkRuns: (forks) => at((now) => Control.forkRuns(state, now, forks)),
    getControls: (id) => Effect.sync(() => Reads.getControls(state, id)),

    getRuns: (ids) => Effect.sync(() => Reads.getRuns(state, ids)),
    listRuns: (options) => Effect.sync(() => Reads.listRuns(state, options)),
    countRuns: (selection) => Effect.sync(() => Reads.countRuns(state, selection)),
    getSituation: (id) => at((now) => Situation.getSituation(state, now, id)),
    getSteps: (id) => Effect.sync(() => Reads.getSteps(state, id)),
    getEvents: (id) => Effect.sync(() => Reads.getEvents(state, id)),
    tailEvents: (options) => Effect.sync(() => Reads.tailEvents(state, options)),

    upsertSchedule: (schedule) => Effect.sync(() => Schedules.upsertSchedule(state, schedule)),
    removeSchedule: (key) => Effect.sync(() => Schedules.removeSchedule(state, key)),
    listSchedules: Effect.sync(() => Schedules.listSchedules(state)),
    dueSchedules: (options) => at((now) => Schedules.dueSchedules(state, now, options)),
    fireTick: (options) => at((now) => Schedules.fireTick(state, now, options)),

    notify: (hints) =>
      Effect.sync(() => {
        for (const listener of listeners) Queue.offerAllUnsafe(listener, hints)
      }),
    listen: Effect.acquireRelease(
      Effect.tap(Queue.sliding<Hint>(unreadHints), (queue) =>
        Effect.sync(() => listeners.add(queue)),
      ),
      (queue) =>
        Effect.andThen(
          Effect.sync(() => listeners.delete(queue)),
          Queue.shutdown(queue),
        ),
    ),
    sparesConnection: true,
    overlap: { commits: 1, from: 1 },
  })
}
