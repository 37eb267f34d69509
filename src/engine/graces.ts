/**
 * How long an execution waits for a body that is at rest and may be at pure asynchronous work.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** Of this process, also under a test's clock. */
export const realMonotonicMs = (): number =>
  Number(Clock.Clock.defaultValue().monotonicTimeNanosUnsafe()) / 1e6

/** What may still come is work of this process: it takes real time, also under a test's clock. */
export const inRealTime = (millis: number, turns: number): Effect.Effect<void> =>
  Effect.andThen(
    Effect.provideService(Effect.sleep(millis), Clock.Clock, Clock.Clock.defaultValue()),
    Effect.repeat(Effect.yieldNow, { times: turns - 1 }),
  )

/**
 * A grace is waited for in so many pieces. To park needs fewer turns: in a busy process the slot that
 * is held meanwhile is dear.
 */
export const graceSlices = 5
export const turnsToDiverge = 250
/** What hangs on it is which code a run takes, both of which are right: it need not be long. */
export const mostPatchGraceMs = 100
export const turnsToPark = 50

/** No step key: keys are not empty. */
export const parking = ""

/** Before the key of what is awaited while a patch is undecided; no key has a NUL. */
export const atPatch = "\0"
