/**
 * Starting thousands of runs: chunks, answers that were lost, ids that were chosen.
 */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Result from "effect/Result"
import { startMany } from "../../src/engine/startMany.ts"
import type { NewRun } from "../../src/WorkflowStore.ts"
import { json, newRun } from "../store/conformanceFixture.ts"
import { it, quiet, until } from "./scripted.ts"
import { pass, setUp } from "./starterRig.ts"

describe("thousands of starts", () => {
  const itemOf = (run: NewRun, chosen = false) => ({ run, onConflict: undefined, chosen })
  const numbered = (count: number, keys: Partial<NewRun> = {}) =>
    Array.from({ length: count }, (_, n) => itemOf(newRun(n, keys)))

  it.effect("are inserted a thousand at a time, or four million characters", () =>
    Effect.gen(function* () {
      const { store, sent } = yield* setUp
      const options = { deadlineMs: 1000, again: true }
      yield* startMany(store, numbered(2001), options)
      const large = { codec: "json" as const, json: `"${"x".repeat(1_500_000)}"` }
      yield* startMany(store, numbered(3, { input: large }), options)
      assert.deepStrictEqual(
        sent().map((runs) => runs.length),
        [1000, 1000, 1, 2, 1],
      )
    }),
  )

  for (const [what, atOnce, again, item] of [
    ["without keys: two thousand at once", 2, true, (n: number) => itemOf(newRun(n))],
    ["within a transaction: one after another", 1, false, (n: number) => itemOf(newRun(n))],
    ["of chosen ids: one after another", 1, true, (n: number) => itemOf(newRun(n), n === 7)],
    ...(["idempotencyKey", "concurrencyKey"] as const).map(
      (key) =>
        [
          `one with a ${key}: one after another`,
          1,
          true,
          (n: number) => itemOf(newRun(n, n === 2500 ? { [key]: "k" } : {})),
        ] as const,
    ),
  ] as const) {
    it.effect(`are inserted, ${what}`, () =>
      Effect.gen(function* () {
        const bench = yield* setUp
        bench.script("insertRuns", () => "hang")
        const items = Array.from({ length: 3001 }, (_, n) => item(n))
        yield* Effect.forkChild(startMany(bench.store, items, { deadlineMs: 1000, again }))
        yield* until("one is under way", () => bench.open("insertRuns") > 0)
        yield* quiet
        assert.strictEqual(bench.open("insertRuns"), atOnce)
      }),
    )
  }

  it.effect("whose answer was lost are sent again, until the deadline", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const begin = (n: number, again: boolean) =>
        Effect.forkChild(
          startMany(bench.store, [itemOf(newRun(n))], { deadlineMs: 60_000, again }),
          { startImmediately: true },
        )
      bench.script("insertRuns", (nth) => (nth === 1 ? "fail-after" : undefined))
      const first = yield* begin(1, true)
      yield* pass(1000)
      assert.isTrue(Result.isSuccess((yield* Fiber.join(first))[0]!))
      bench.script("insertRuns", () => "hang")
      const open = [yield* begin(2, true), yield* begin(3, false)]
      yield* pass(90_000)
      const late = yield* Effect.forEach(open, (fiber) => Effect.flip(Fiber.join(fiber)))
      // where the caller's transaction is rolled back, nothing was applied
      assert.deepStrictEqual(
        late.map((error) => error._tag === "TriggerTimeout" && error.outcome),
        ["unknown", "not-applied"],
      )
    }),
  )

  it.effect("under an id that another start has taken meanwhile are a conflict", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const before = yield* Latch.make()
      bench.script("insertRuns", (nth) => (nth === 1 ? { before } : undefined))
      const chosen = [itemOf(newRun(1, { input: json("mine") }), true)]
      const fiber = yield* Effect.forkChild(
        startMany(bench.store, chosen, { deadlineMs: 1000, again: true }),
        { startImmediately: true },
      )
      yield* until("it is under way", () => bench.sent().length === 1)
      yield* bench.insert(newRun(1))
      yield* before.open
      const [outcome] = yield* Fiber.join(fiber)
      assert.isTrue(Result.isFailure(outcome!) && outcome.failure._tag === "IdempotencyConflict")
    }),
  )
})
