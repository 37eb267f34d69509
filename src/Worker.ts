/**
 * The worker of a process: claims runs and executes them, as fibers, up to `maxConcurrent`.
 *
 * It supervises small loops, each with one duty, jitter and a bound on its queries:
 *
 * - **poller**: claims as many runs as there are free slots. A full answer asks again at once; an
 *   empty one waits for a hint, a freed slot with work behind it, or the poll interval.
 * - **heartbeat**: renews the lease of the process and reconciles its claims (`worker/lease.ts`).
 * - **signals**: reads wake counters, cancels and deadlines of the claimed runs.
 * - **sweeper**: returns the runs of dead workers, and dead-letters poison.
 * - **ticker**: fires schedules. **listener**: turns notifications into hints.
 *
 * A lost lease or a shutdown is never a failure of a run. `stop`: claim no more; let runs reach
 * their next safe point; hand the rest back, fenced; commit the journal; end the lease.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { Engine } from "./Engine.ts"
import { bounded, within } from "./engine/bounded.ts"
import type { ExecutionLimits } from "./engine/Execution.ts"
import {
  InvalidInput,
  type PoolTooSmall,
  type SchemaNotMigrated,
  type SchemaTooNew,
} from "./FlowlyError.ts"
import type { StoreError } from "./WorkflowStore.ts"
import { makeLease } from "./worker/lease.ts"
import { jittered, type LoopHealth, superviseLoop } from "./worker/loop.ts"
import { checkOptions } from "./worker/options.ts"
import { makeRuns } from "./worker/runs.ts"
import { makeSlots } from "./worker/slots.ts"
import { fireDueTicks } from "./worker/ticker.ts"

/**
 * How a worker works. Durations are milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface WorkerOptions {
  /** Between two empty polls, at most. Default 1000. */
  readonly pollIntervalMs?: number | undefined
  /** Runs that execute at once. Default 5. */
  readonly maxConcurrent?: number | undefined
  /** How long claims hold without a heartbeat. Default 30000, at least 1000. */
  readonly leaseMs?: number | undefined
  /** A label for logs and the workers table; authorizes nothing. Default: host and pid. */
  readonly workerId?: string | undefined
  /** How long `stop` lets runs reach a safe point. Default 30000. */
  readonly shutdownTimeoutMs?: number | undefined
  /** Listen for hints of other processes. Needs a connection of its own. Default true. */
  readonly useNotify?: boolean | undefined
  /** Claims without progress after which a run is dead-lettered. Default 5. */
  readonly maxCrashes?: number | undefined
  readonly limits?: Partial<ExecutionLimits> | undefined
}

/**
 * How a worker is doing.
 *
 * @category models
 * @since 0.1.0
 */
export interface WorkerHealth {
  readonly workerId: string
  readonly running: number
  readonly maxConcurrent: number
  readonly leaseTrusted: boolean
  /** Loops that have not succeeded for three of their intervals, with their last error. */
  readonly unhealthy: ReadonlyArray<{ readonly loop: string; readonly error: string | null }>
}

/**
 * @category services
 * @since 0.1.0
 */
export class Worker extends Context.Service<
  Worker,
  {
    readonly health: () => WorkerHealth
    /** Idempotent; also called when the layer's scope closes. */
    readonly stop: Effect.Effect<void>
  }
>()("flowly/Worker") {}

/**
 * Why a worker may not start.
 *
 * @category errors
 * @since 0.1.0
 */
export type WorkerStartError =
  | InvalidInput
  | SchemaNotMigrated
  | SchemaTooNew
  | PoolTooSmall
  | StoreError

/**
 * An idle worker asks the store for about two statements a second. Suspects are rare, and late
 * already: they are asked for in one turn of so many; and the ticker, which knows when the next tick
 * is, looks at the latest after so many poll intervals what other processes have changed.
 */
const idleSuspects = 10
const idleTicks = 10

/** How long the end of a worker waits for its store. */
const lastPatience = Duration.seconds(5)

/**
 * Starts a worker in the current scope; it stops, gracefully, when the scope closes.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  given: WorkerOptions = {},
): Effect.fn.Return<Worker["Service"], WorkerStartError, Engine | Scope.Scope> {
  const options = yield* Effect.fromResult(checkOptions(given))
  const engine = yield* Engine
  const { store, journal } = engine
  yield* bounded("verify")(store.verify({ worker: true, listen: options.useNotify }))

  const clock = yield* Clock.Clock
  const context = yield* Effect.context<never>()
  const fibers = new Set<Fiber.Fiber<void>>()
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      for (const fiber of fibers) fiber.interruptUnsafe()
      // a step that ignores its signal may never end; its run was handed back
      return Fiber.awaitAll(fibers).pipe(
        Effect.interruptible,
        Effect.timeoutOption("1 second"),
        Effect.provideService(Clock.Clock, Clock.Clock.defaultValue()),
      )
    }),
  )
  const runFork = Effect.runForkWith(context)
  const monotonicMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const dice = yield* Random.Random
  const random = () => dice.nextDoubleUnsafe()
  const health = new Map<string, LoopHealth>()

  let stopping = false
  /** The last claim came back full: there may be more behind it. */
  let backlog = true
  /** The last question for a suspect was answered with one. */
  let suspected = false
  let turns = 0
  let sweeps = 0
  /** How many senders in transactions have told of their commits. */
  let wakesLeft = 0

  /** Who left wakes in a transaction tells it, where we listen: only lapsed leases must be looked for. */
  const idleSweepMs = options.useNotify
    ? Math.max(options.pollIntervalMs, Math.min(options.pollIntervalMs * 2.5, options.leaseMs / 12))
    : options.pollIntervalMs

  const nudgeHeartbeat = yield* Latch.make()
  const nudgePoll = yield* Latch.make()
  const nudgeSignals = yield* Latch.make()
  const nudgeSources = yield* Latch.make()
  const nudgeSweep = yield* Latch.make()
  const nudgeTick = yield* Latch.make()

  const fork = (effect: Effect.Effect<void>): Fiber.Fiber<void> => {
    const fiber = runFork(effect)
    if (fiber.pollUnsafe() === undefined) {
      fibers.add(fiber)
      fiber.addObserver(() => fibers.delete(fiber))
    }
    return fiber
  }

  const knownWorkflows = () =>
    engine.workflows.all().map(({ name, version }) => ({ name, version }))

  const runs = makeRuns({
    store,
    journal,
    outcomes: engine.outcomes,
    workflow: engine.workflows.get,
    limits: options.limits,
    fork,
    leaseTrusted: () => lease.trusted(),
    monotonicMs,
    random,
    redact: engine.redact,
    lifecycle: engine.lifecycle,
    wantSignals: () => nudgeSignals.openUnsafe(),
    wantSources: () => nudgeSources.openUnsafe(),
    wantReconcile: () => nudgeHeartbeat.openUnsafe(),
    onFreed: () => {
      if (backlog || stopping) nudgePoll.openUnsafe()
      freed.openUnsafe()
    },
  })
  const freed = yield* Latch.make()

  const lease = makeLease({
    store,
    leaseMs: options.leaseMs,
    monotonicMs,
    registration: () => ({
      label: options.label,
      capacity: options.maxConcurrent,
      workflows: knownWorkflows(),
    }),
    accountsFor: runs.accountsFor,
    onLapsed: runs.dropAll,
    wantReconcile: () => nudgeHeartbeat.openUnsafe(),
  })
  yield* lease.register

  // --- loops -----------------------------------------------------------------

  const pause = (latch: Latch.Latch) => (ms: number) =>
    ms <= 0
      ? Effect.void
      : Effect.asVoid(Effect.raceFirst(latch.await, Effect.sleep(jittered(ms, random))))

  const slots = makeSlots({
    maxConcurrent: options.maxConcurrent,
    lease,
    runs,
    hasBacklog: () => backlog,
    wantPoll: () => nudgePoll.openUnsafe(),
    wantReconcile: () => nudgeHeartbeat.openUnsafe(),
    onFreed: () => freed.openUnsafe(),
  })

  const claim = (limit: number, suspects: boolean) =>
    Effect.acquireUseRelease(
      Effect.sync(() => slots.reserve(limit)),
      (reserved) =>
        Effect.map(
          store.claimRuns({
            workerId: reserved.workerId,
            workflows: knownWorkflows(),
            limit,
            suspects,
          }),
          (claimed) => {
            reserved.execute(claimed)
            return claimed.length
          },
        ),
      (reserved) => Effect.sync(() => reserved.release("unknown")),
    )

  const poll = Effect.gen(function* () {
    nudgePoll.closeUnsafe()
    if (slots.free() <= 0 || stopping || !lease.trusted() || engine.workflows.size() === 0) {
      backlog = true
      return options.pollIntervalMs
    }
    let claimed = 0
    // suspects are rare: they need not be asked for each time, but behind a backlog too
    if (!runs.suspect() && (suspected || turns++ % (backlog ? 30 : idleSuspects) === 0)) {
      claimed = yield* claim(1, true)
      suspected = claimed > 0
    }
    const limit = slots.free()
    const more = limit > 0 && !stopping ? yield* claim(limit, false) : 0
    backlog = more >= limit
    // A short claim took all that there was. Where nobody tells of more, more may be coming still.
    const mayBeMore = backlog || claimed > 0 || (more > 0 && !options.useNotify)
    return mayBeMore ? 0 : options.pollIntervalMs
  })

  const signals = Effect.gen(function* () {
    nudgeSignals.closeUnsafe()
    const claims = runs.claims()
    if (claims.length > 0) runs.onSignals(claims, yield* store.readSignals(claims))
    return options.pollIntervalMs
  })

  const sources = Effect.gen(function* () {
    nudgeSources.closeUnsafe()
    const ids = runs.takeStale()
    if (ids.length > 0) runs.onSources(yield* store.loadSources(ids))
    return Math.max(60_000, options.pollIntervalMs)
  })

  const sweep = Effect.gen(function* () {
    nudgeSweep.closeUnsafe()
    // what is told of from now on, this sweep may come too early for
    const applied = wakesLeft
    const swept = yield* store.sweep({ limit: 200 })
    // at once: they have waited for a lease, and need not wait for what is looked at behind it
    if (swept > 0) journal.hints.send("work")
    const { maxCrashes } = options
    // whoever counts the last crash dead-letters; the others look now and then
    const look = swept > 0 || sweeps % 10 === 0
    const poisoned = look ? yield* store.deadLetterPoison({ maxCrashes, limit: 100 }) : []
    const orphaned = look ? yield* store.cancelOrphans({ limit: 200 }) : 0
    // a look that failed is made again
    sweeps++
    if (poisoned.length > 0) {
      yield* Effect.logError(
        `flowly: dead-lettered after ${maxCrashes} crashes: ${poisoned.join()}`,
      )
      journal.hints.send("settled")
    }
    if (poisoned.length + orphaned > 0) journal.hints.send("work")
    if (orphaned > 0) journal.hints.send("signal")
    // the sweep has applied them: runs may be due, and claimed ones have something to hear
    if (applied > 0) {
      journal.hints.send("work")
      journal.hints.send("signal")
    }
    wakesLeft -= applied
    return swept >= 200 ? 0 : swept > 0 ? options.pollIntervalMs : idleSweepMs
  })

  const tick = Effect.gen(function* () {
    nudgeTick.closeUnsafe()
    const { fired, nextInMs } = yield* fireDueTicks(store)
    if (fired > 0) journal.hints.send("work")
    // another process may add a schedule, or bring a tick forward
    const atMost = idleTicks * options.pollIntervalMs
    if (fired > 0 || nextInMs === null) return fired > 0 ? options.pollIntervalMs : atMost
    return Math.min(Math.max(nextInMs, options.pollIntervalMs), atMost)
  })

  const trust = Effect.sync(() => {
    // the database could give our runs away soon: drop them first
    if (runs.size() > 0 && !lease.trusted()) runs.dropAll()
    return options.leaseMs / 20
  })

  const loop = (
    name: string,
    turn: Effect.Effect<number, unknown>,
    wait?: (ms: number) => Effect.Effect<void>,
  ) => superviseLoop({ name, health, monotonicMs, random, turn, ...(wait ? { wait } : {}) })

  const heartbeat = Effect.suspend(() => {
    nudgeHeartbeat.closeUnsafe()
    return Effect.as(lease.heartbeat, options.leaseMs / 3)
  })

  yield* Effect.addFinalizer(() =>
    // a store that is down must not hold the process: the lease ends by itself
    lease.retire.pipe(bounded("retireWorker", lastPatience), Effect.exit),
  )
  yield* loop("heartbeat", heartbeat, pause(nudgeHeartbeat))
  yield* loop("trust deadline", trust)
  yield* loop("signals", signals, pause(nudgeSignals))
  yield* loop("sources", sources, pause(nudgeSources))
  yield* loop("sweeper", sweep, pause(nudgeSweep))
  yield* loop("ticker", tick, pause(nudgeTick))
  if (options.useNotify) yield* engine.hearing.subscribe
  const unsubscribe = journal.hints.subscribe((hint) => {
    if (hint === "work" || hint === "reconnected") nudgePoll.openUnsafe()
    if (hint === "signal" || hint === "reconnected") nudgeSignals.openUnsafe()
    if (hint === "wakes") {
      wakesLeft++
      nudgeSweep.openUnsafe()
    }
    if (hint === "reconnected") {
      nudgeSweep.openUnsafe()
      nudgeTick.openUnsafe()
    }
  })
  const unwatch = engine.onRegistered(() => nudgePoll.openUnsafe())
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      unsubscribe()
      unwatch()
    }),
  )
  yield* loop("poller", poll, pause(nudgePoll))

  // --- eager starts ------------------------------------------------------------

  engine.setLocalWorker({
    executing: runs.executing,
    reserve: (workflow) => {
      const fit = !stopping && !backlog && slots.free() > 0 && lease.fresh()
      if (!fit || engine.workflows.get(workflow) === undefined) return null
      const slot = slots.reserve(1)
      return { ...slot, execute: (run) => slot.execute([run]) }
    },
  })

  // --- stopping ----------------------------------------------------------------

  const emptied: Effect.Effect<void> = Effect.gen(function* () {
    // claims and eager inserts under way bring runs that are to be handed back, too
    while (runs.size() + slots.reserved() > 0) {
      freed.closeUnsafe()
      yield* freed.await
    }
  })

  const stop = yield* Effect.cached(
    Effect.gen(function* () {
      stopping = true
      engine.setLocalWorker(null)
      runs.handBackAll()
      yield* emptied.pipe(Effect.interruptible, Effect.timeoutOption(options.shutdownTimeoutMs))
      runs.forceHandBackAll()
      // the journal's last commits; a store that is down must not hold the process
      yield* emptied.pipe(
        within(lastPatience, () => "runs are left"),
        Effect.exit,
      )
      runs.dropAll()
    }),
  )
  yield* Effect.addFinalizer(() => stop)

  return Worker.of({
    stop,
    health: () => {
      const now = monotonicMs()
      const patience: Record<string, number> = {
        heartbeat: options.leaseMs,
        "trust deadline": options.leaseMs,
        sources: 200_000,
        ticker: Math.max(options.pollIntervalMs * (idleTicks + 2), 3000),
        sweeper: Math.max(idleSweepMs + options.pollIntervalMs * 2, 3000),
      }
      return {
        workerId: lease.workerId(),
        running: runs.size(),
        maxConcurrent: options.maxConcurrent,
        leaseTrusted: lease.trusted(),
        unhealthy: [...health.values()]
          .filter((one) => {
            const bound = patience[one.name] ?? Math.max(options.pollIntervalMs * 3, 3000)
            return one.failures > 0 || now - one.lastOkMs > bound
          })
          .map((one) => ({ loop: one.name, error: one.lastError })),
      }
    },
  })
})

/**
 * A worker for the life of the layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: WorkerOptions): Layer.Layer<Worker, WorkerStartError, Engine> =>
  Layer.effect(Worker, make(options))
