/**
 * Drives a test engine through time: from one instant at which something is due to the next, and at
 * each until nothing happens any more.
 *
 * What is due stands in the store (parked runs, backoffs, deadlines, ticks) or sleeps on the clock
 * (timeouts, whatever steps wait for). The worker's loops do not poll here: when an instant has
 * come, they are told to look.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import type { Engine } from "../Engine.ts"
import { RunNotFound } from "../FlowlyError.ts"
import { isTerminal } from "../Run.ts"
import type { WorkerOptions } from "../Worker.ts"
import type { RunRow, StoreError } from "../WorkflowStore.ts"
import { type Activity, makeActivity } from "./activity.ts"
import { makeClock, never, type VirtualClock } from "./clock.ts"
import { RunStuck, unclaimedRuns, whatItWaitsFor } from "./waits.ts"

/**
 * How far, and how patiently, a test engine goes.
 *
 * @category models
 * @since 0.1.0
 */
export interface DriverOptions {
  /** Where the clock starts. Default: the ambient clock's time. */
  readonly startAt?: Date | undefined
  /**
   * How long, by the real clock, a step may be without a sign of life before time moves on beside
   * it. Raise it for steps that do real work. Default 100.
   */
  readonly patienceMs?: number | undefined
}

/**
 * Where `runUntilSettled` gives up.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunLimits {
  /** Of the test clock. Default: ten years. */
  readonly maxMs?: number | undefined
  /** Instants at which something was due. Default 10,000. */
  readonly maxWakes?: number | undefined
  /** For a step that executes while nothing else is due, by the real clock. Default 5,000. */
  readonly realMs?: number | undefined
}

/**
 * The driver of one engine.
 */
export interface Driver {
  readonly clock: VirtualClock
  readonly activity: Activity
  /** The worker of a test: it is told when something is due, so its loops hardly turn. */
  readonly workerOptions: WorkerOptions
  /** Before anything else is called. */
  readonly attach: (engine: Engine["Service"]) => void
  readonly attachWorker: (running: () => number) => void
  readonly settle: Effect.Effect<void>
  readonly advanceBy: (millis: number) => Effect.Effect<void, StoreError>
  readonly runUntilSettled: (
    workflowRunId: string,
    limits?: RunLimits,
  ) => Effect.Effect<RunRow, RunStuck | RunNotFound | StoreError>
}

/** Ten years. */
const defaultMaxMs = never / 100

/**
 * A driver whose engine is yet to be attached.
 */
export const makeDriver = (
  options: Omit<DriverOptions, "startAt"> & { readonly startAt: number },
): Driver => {
  const activity = makeActivity()
  const patience = options.patienceMs ?? 100
  let engine: Engine["Service"] | null = null
  let worker: (() => number) | null = null
  /** What was due and not taken, and how often the worker was told. */
  const told = new Map<string, number>()
  const oneAtATime = Semaphore.makeUnsafe(1)

  const clock = makeClock({
    startAt: options.startAt,
    onActivity: activity.touch,
    advanceBy: (millis) => Effect.orDie(advanceBy(millis)),
    advanceTo: (instant) => Effect.orDie(advance(() => instant)),
  })

  const settle = activity.quiet(() => {
    const inHand = worker?.() ?? 0
    if (inHand === 0) return 0
    // as many sleep on our clock as execute: probably the same
    return clock.userSleepers() >= inHand ? Math.min(patience, 10) : patience
  })

  const isNews = (what: string, dueAt: number): boolean => {
    if (dueAt > clock.now()) return true
    const times = told.get(what) ?? 0
    told.set(what, times + 1)
    return times < 3
  }

  /** The next instant at which the store has something due; the present, if it is overdue. */
  const nextDue = Effect.fnUntraced(function* (store: Engine["Service"]["store"]) {
    let next = Infinity
    const runs = yield* unclaimedRuns(store)
    for (const { workflowRunId, dueAt, token, wakeCounter } of runs) {
      if (dueAt === null || dueAt >= next) continue
      if (isNews(`${workflowRunId} ${token} ${wakeCounter} ${dueAt}`, dueAt)) next = dueAt
    }
    for (const { key, enabled, nextTick } of yield* store.listSchedules) {
      if (!enabled || nextTick >= next) continue
      if (isNews(`${key} ${nextTick}`, nextTick)) next = nextTick
    }
    return Math.max(next, clock.now())
  })

  /** Goes to the next instant, if it is not after `end`; else says whether there is one. */
  const step = Effect.fnUntraced(function* (end: number) {
    const due = engine === null ? Infinity : yield* nextDue(engine.store)
    const next = Math.min(due, Math.max(clock.nextWake() ?? Infinity, clock.now()))
    if (next > end) return next === Infinity ? "none" : "later"
    clock.moveTo(next)
    if (due <= next) engine?.journal.hints.local("reconnected")
    yield* settle
    return "gone"
  })

  const withClock = Effect.provideService(Clock.Clock, clock.internal)

  /** `to`: of the time at which the drives before it have ended. */
  const advance = (to: () => number): Effect.Effect<void, StoreError> =>
    Effect.gen(function* () {
      const instant = to()
      yield* settle
      while ((yield* step(instant)) === "gone");
      clock.moveTo(instant)
      yield* settle
    }).pipe(withClock, oneAtATime.withPermits(1))

  const advanceBy = (millis: number) => advance(() => clock.now() + millis)

  const runUntilSettled: Driver["runUntilSettled"] = (workflowRunId, limits = {}) =>
    Effect.gen(function* () {
      const attached = engine
      if (attached === null) return yield* new RunNotFound({ workflowRunId })
      const maxMs = limits.maxMs ?? defaultMaxMs
      const end = clock.now() + maxMs
      const maxWakes = limits.maxWakes ?? 10_000
      yield* settle
      for (let wakes = 0; ;) {
        const row = yield* attached.getRun(workflowRunId)
        if (row === null) return yield* new RunNotFound({ workflowRunId })
        if (isTerminal(row.status)) return row
        const stuck = (reason: string) =>
          Effect.flatMap(whatItWaitsFor(attached, row), (waitsFor) =>
            Effect.fail(new RunStuck({ workflowRunId, workflow: row.workflow, reason, waitsFor })),
          )
        if (row.status === "paused") return yield* stuck("it is paused")
        if (wakes++ >= maxWakes) return yield* stuck(`${maxWakes} wakes were not enough`)
        const next = yield* step(end)
        if (next === "gone") continue
        if ((worker?.() ?? 0) === 0) {
          const within = next === "later" ? ` within ${maxMs} ms (maxMs)` : ""
          return yield* stuck(`nothing is due${within}`)
        }
        if (!(yield* activity.stirs(limits.realMs ?? 5000))) {
          return yield* stuck("a step executes and does not end")
        }
        yield* settle
      }
    }).pipe(withClock, oneAtATime.withPermits(1))

  return {
    clock,
    activity,
    workerOptions: {
      pollIntervalMs: never,
      leaseMs: 20 * never,
      shutdownTimeoutMs: 0,
      useNotify: false,
      // every wait parks, so that what is due stands in the store; the grace is real time
      limits: { shortWaitMs: 0, parkGraceMs: 0, divergenceGraceMs: 50 },
    },
    attach: (service) => {
      engine = service
      service.onLifecycle(activity.touch)
    },
    attachWorker: (count) => {
      worker = count
    },
    settle,
    advanceBy,
    runUntilSettled,
  }
}
