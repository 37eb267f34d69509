/** One try of a step, with its time limits. */
import { it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as TestClock from "effect/testing/TestClock"
import { expect, vi } from "vitest"
import { StepTimeout } from "../../src/FlowlyError.ts"
import { type AttemptEnd, type Hold, startAttempt } from "../../src/engine/attempt.ts"

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

/** A try with a limit, and what is told of it. */
const begin = Effect.fnUntraced(function* (
  afterMs: number,
  body: (signal: () => AbortSignal, hold: Hold) => Effect.Effect<void>,
) {
  const context = yield* Effect.context<never>()
  const fibers: Array<Fiber.Fiber<void>> = []
  const ends: Array<string> = []
  const attempt = startAttempt<void, never>({
    fork: (effect) => {
      const fiber = Effect.runForkWith(context)(effect)
      fibers.push(fiber)
      return fiber
    },
    body,
    limits: [{ afterMs, error: () => new StepTimeout({ stepKey: "a", timeoutMs: afterMs }) }],
    onEnd: (end, aborted) => ends.push(aborted ? `${end._tag}, aborted` : end._tag),
  })
  return { attempt, ends, fibers }
})

it.effect("a try that has ended leaves no timer behind", () =>
  Effect.gen(function* () {
    const latch = yield* Latch.make()
    const { ends, fibers } = yield* begin(3_600_000, () => Effect.interruptible(latch.await))
    yield* latch.open
    yield* Effect.promise(() => vi.waitFor(() => expect(ends).toEqual(["Success"])))
    yield* Effect.promise(() =>
      vi.waitFor(() => expect(fibers.filter((one) => one.pollUnsafe() === undefined)).toEqual([])),
    )
  }),
)

it.effect("a signal that is looked at after the abort is aborted", () =>
  Effect.gen(function* () {
    let look = (): AbortSignal => new AbortController().signal
    const { attempt } = yield* begin(1000, (signal) => {
      look = signal
      return Effect.never
    })
    const reason = new Error("enough")
    attempt.abort(reason)
    const { aborted, reason: told } = look()
    expect([aborted, told]).toEqual([true, reason])
  }),
)

it.effect("what is held is not cut off by a limit or an abort until it is let go", () =>
  Effect.gen(function* () {
    let letGo: (() => void) | null = null
    const { attempt, ends } = yield* begin(1000, (_, hold) => {
      letGo = hold()
      return Effect.interruptible(Effect.never)
    })
    yield* TestClock.adjust(2000)
    attempt.abort(new Error("enough"))
    expect(ends).toEqual([])
    letGo!()
    expect(ends).toEqual(["TimedOut"])
  }),
)

it.effect("nothing is held any more of a try that was told to stop", () =>
  Effect.gen(function* () {
    let take: Hold = () => null
    const { attempt } = yield* begin(1000, (_, hold) => {
      take = hold
      return Effect.never
    })
    attempt.abort(new Error("enough"))
    expect(take()).toBeNull()
  }),
)

it.effect("of a failure and a defect the failure counts, whichever came first", () =>
  Effect.gen(function* () {
    const context = yield* Effect.context<never>()
    const [failure, defect] = [Cause.fail("refused"), Cause.die(new Error("broke"))]
    const told: Array<unknown> = []
    for (const cause of [Cause.combine(failure, defect), Cause.combine(defect, failure)]) {
      startAttempt<void, string>({
        fork: (effect) => Effect.runForkWith(context)(effect),
        body: () => Effect.failCause(cause),
        limits: [],
        onEnd: (end) => told.push(end._tag === "Failure" ? end.failure : end._tag),
      })
    }
    yield* Effect.promise(() => vi.waitFor(() => expect(told).toEqual(["refused", "refused"])))
  }),
)
