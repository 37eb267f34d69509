/**
 * A clock that only a test moves.
 *
 * One time, two faces. `internal` is what engine, worker and store read and sleep on; `user` is what
 * tests and steps see: Effect's `TestClock`, so that `TestClock.adjust` moves it. Loops that only
 * look from time to time (their intervals are `never` or longer) are not woken: the driver tells
 * them when there is something to see.
 *
 * Every sleep begun or ended is activity: the driver's sign that something still happens.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as TestClock from "effect/testing/TestClock"

/**
 * The interval of loops that a test does without: a thousand years. Worker options are finite.
 */
export const never: number = 1000 * 365.25 * 24 * 3600 * 1000

interface Sleeper {
  readonly at: number
  readonly isUsers: boolean
  readonly wake: () => void
}

/**
 * The clock of one test engine.
 */
export interface VirtualClock {
  /** Epoch milliseconds. */
  readonly now: () => number
  readonly internal: Clock.Clock
  readonly user: TestClock.TestClock
  /** When the next sleeper wakes; `null`: nobody sleeps. */
  readonly nextWake: () => number | null
  /** Sleepers among steps and tests. */
  readonly userSleepers: () => number
  /** Moves to the instant, never back, and wakes the first sleeper that is due then, if any. */
  readonly moveTo: (instant: number) => void
}

/**
 * A clock at `startAt`. `adjust` and `setTime` are what `TestClock` calls on its user's face.
 */
export const makeClock = (options: {
  readonly startAt: number
  readonly onActivity: () => void
  readonly advanceBy: (millis: number) => Effect.Effect<void>
  readonly advanceTo: (instant: number) => Effect.Effect<void>
}): VirtualClock => {
  let now = options.startAt
  const start = now
  const sleepers: Array<Sleeper> = []

  const insert = (sleeper: Sleeper) => {
    // behind those of the same instant: they wake in the order in which they lay down
    const index = sleepers.findLastIndex((one) => one.at <= sleeper.at)
    sleepers.splice(index + 1, 0, sleeper)
    options.onActivity()
  }

  const sleepOn =
    (isUsers: boolean) =>
    (duration: Duration.Duration): Effect.Effect<void> => {
      const millis = Duration.toMillis(duration)
      if (millis <= 0) return Effect.yieldNow
      if (!isUsers && millis >= never / 2) return Effect.never
      return Effect.callback<void>((resume) => {
        const sleeper = { at: now + millis, isUsers, wake: () => resume(Effect.void) }
        insert(sleeper)
        return Effect.sync(() => {
          const index = sleepers.indexOf(sleeper)
          if (index >= 0) sleepers.splice(index, 1)
          options.onActivity()
        })
      })
    }

  const millis = () => now
  const nanos = () => BigInt(Math.round(now)) * 1_000_000n
  const monotonic = () => BigInt(Math.round((now - start) * 1_000_000))
  const face = (isUsers: boolean): Clock.Clock => ({
    currentTimeMillisUnsafe: millis,
    currentTimeMillis: Effect.sync(millis),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: monotonic,
    monotonicTimeNanos: Effect.sync(monotonic),
    sleep: sleepOn(isUsers),
  })

  return {
    now: millis,
    internal: face(false),
    user: {
      ...face(true),
      adjust: (duration) => Effect.suspend(() => options.advanceBy(Duration.toMillis(duration))),
      setTime: (instant) => options.advanceTo(instant),
      withLive: (effect) => Effect.provideService(effect, Clock.Clock, Clock.Clock.defaultValue()),
    },
    nextWake: () => sleepers[0]?.at ?? null,
    userSleepers: () => sleepers.filter((one) => one.isUsers).length,
    moveTo: (instant) => {
      now = Math.max(now, instant)
      if (sleepers[0] !== undefined && sleepers[0].at <= now) {
        options.onActivity()
        sleepers.shift()?.wake()
      }
    },
  }
}
