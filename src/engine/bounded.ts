/**
 * Bounds a store call in time, and waits before one is made again.
 *
 * A store has deadlines of its own, for each statement. This one is behind them: whatever a store,
 * a driver or a proxy does, a lane or loop that waits for an answer goes on one day. A call that was
 * given up may still have been applied.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Schedule from "effect/Schedule"
import { StoreUnavailable } from "../FlowlyError.ts"

/** Longer than any verb takes on a store that works: some read page after page. */
const patience = Duration.seconds(60)

/**
 * The clock of what concerns the store alone: deadlines of calls, and the pauses before one is made
 * again. The real one, also under a TestClock: its jumps say nothing about how long a database has had
 * to answer, and while it stands still, a pause on it would never be over.
 */
export const CallClock = Context.Reference<Clock.Clock>("flowly/CallClock", {
  defaultValue: () => Clock.Clock.defaultValue(),
})

/**
 * Sleeps of the effect are on the clock of store calls. Not for store calls themselves: a store in
 * memory reads the clock of its caller.
 */
export const onCallClock = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(CallClock, (clock) => Effect.provideService(effect, Clock.Clock, clock))

/**
 * Waits before a store is asked again.
 */
export const callPause = (milliseconds: number): Effect.Effect<void> =>
  onCallClock(Effect.sleep(milliseconds))

/**
 * As `Effect.retry`, but for its pauses, which are on the clock of store calls.
 */
export const callAgain =
  <Out, E>(options: {
    readonly schedule: Schedule.Schedule<Out>
    readonly while: (error: E) => boolean
  }) =>
  <A, R>(call: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    // most calls are made once: the schedule is for those that failed
    Effect.catchIf(call, options.while, (first) =>
      Effect.flatMap(Clock.Clock, (callers) => {
        let isFirst = true
        const again = Effect.suspend(() => {
          if (!isFirst) return Effect.provideService(call, Clock.Clock, callers)
          isFirst = false
          return Effect.fail(first)
        })
        return onCallClock(Effect.retry(again, options))
      }),
    )

/**
 * Gives up what takes longer, and does not wait for its end. (A race of two fibers took 11 µs more than
 * the call, which each step of a run by itself waits for; this takes 4.)
 */
export const within =
  <E2>(duration: Duration.Duration, late: () => E2) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | E2, R> =>
    Effect.contextWith((context: Context.Context<R>) =>
      Effect.callback<A, E | E2>((resume) => {
        const fork = Effect.runForkWith(context)
        const call = fork(effect)
        const timer = fork(Context.get(context, CallClock).sleep(duration))
        timer.addObserver((exit) => {
          if (Exit.isFailure(exit)) return
          resume(Effect.fail(late()))
          call.interruptUnsafe()
        })
        call.addObserver((exit) => {
          resume(exit)
          timer.interruptUnsafe()
        })
        return Effect.suspend(() => {
          timer.interruptUnsafe()
          return Fiber.interrupt(call)
        })
      }),
    )

/**
 * Fails with `StoreUnavailable`, outcome unknown, when the call does not answer in time.
 */
export const bounded = (operation: string, duration: Duration.Duration = patience) =>
  within(
    duration,
    () =>
      new StoreUnavailable({
        operation,
        outcome: "unknown",
        reason: `no answer within ${Duration.format(duration)}`,
      }),
  )
