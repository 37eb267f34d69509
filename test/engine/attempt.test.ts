/** One try of a step, with its time limits. */
import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { expect } from "vitest"
import { StepTimeout } from "../../src/FlowlyError.ts"
import { type AttemptEnd, startAttempt } from "../../src/engine/attempt.ts"

it.effect("a limit that rounding leaves a part of a millisecond of comes to its end", () =>
  Effect.gen(function* () {
    const context = yield* Effect.context<never>()
    const clock = yield* TestClock.testClockWith(Effect.succeed)
    const ends: Array<AttemptEnd<void, never>> = []
    startAttempt<void, never>({
      fork: (effect) => Effect.runForkWith(context)(effect) as Fiber.Fiber<void>,
      body: () => Effect.never,
      limits: [
        {
          afterMs: 2200,
          elapsedMs: () => clock.currentTimeMillisUnsafe() - 4.6e-13,
          error: () => new StepTimeout({ stepKey: "a", timeoutMs: 2200 }),
        },
      ],
      onEnd: (end) => ends.push(end),
    })
    yield* TestClock.adjust(2201)
    expect(ends.map((end) => end._tag)).toEqual(["TimedOut"])
  }),
)
