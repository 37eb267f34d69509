/**
 * Two commits at once, where the store takes them: halves, never of the same run.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import { id } from "../store/conformanceFixture.ts"
import { it, quiet, until } from "../worker/scripted.ts"
import { type Bench, keysOf, one, setUpWith, stepsOf } from "./rig.ts"

const two = setUpWith({ commits: 2, from: 10 })

/** Holds back the answers of the first commits, each until its latch opens. */
const hold = Effect.fnUntraced(function* (bench: Bench, count: number) {
  const latches = yield* Effect.forEach(Array.from({ length: count }), () => Latch.make())
  bench.script("commit", (nth) => {
    const latch = latches[nth - 1]
    return latch === undefined ? undefined : { before: latch }
  })
  return latches
})

/** So many claimed runs, and the latches of the first commits. */
const twoWith = Effect.fnUntraced(function* (runs: number, held: number) {
  const bench = yield* two
  const claims = yield* bench.hold(runs)
  return { bench, claims, latches: yield* hold(bench, held) }
})

const sizes = (bench: Bench) => bench.commits().map((writes) => writes.length)

it.effect("what is worth two commits goes in halves, both under way at once", () =>
  Effect.gen(function* () {
    const { bench, claims, latches } = yield* twoWith(30, 2)
    for (const claim of claims) bench.append(claim, "x", one("a", 1))
    yield* until("both are under way", () => bench.commits().length === 2)
    assert.deepStrictEqual(sizes(bench), [15, 15])
    for (const latch of latches) yield* latch.open
    yield* until("all are committed", () => bench.told.length === 30)
  }),
)

it.effect("a half that comes back is not divided again", () =>
  Effect.gen(function* () {
    const { bench, claims, latches } = yield* twoWith(60, 2)
    const [first, second] = latches
    const next = (n: number) => ({
      ...one("a", 1),
      onCommitted: () => bench.append(claims[n]!, "again", one("b", 2)),
    })
    claims.forEach((claim, n) => bench.append(claim, "x", next(n)))
    yield* until("both are under way", () => bench.commits().length === 2)
    yield* first!.open
    yield* until("the first is back", () => bench.commits().length === 3)
    yield* second!.open
    yield* until("all are committed twice", () => bench.told.length === 60)
    assert.deepStrictEqual(sizes(bench), [30, 30, 30, 30])
  }),
)

it.effect("what few runs produce beside a commit waits for its end", () =>
  Effect.gen(function* () {
    const { bench, claims, latches } = yield* twoWith(24, 1)
    for (const claim of claims.slice(0, 15)) bench.append(claim, "x", one("a", 1))
    yield* until("it is under way", () => bench.commits().length === 1)
    for (const claim of claims.slice(15)) bench.append(claim, "y", one("a", 1))
    yield* quiet
    assert.deepStrictEqual(sizes(bench), [15])
    yield* latches[0]!.open
    yield* until("all are committed", () => bench.told.length === 24)
    assert.deepStrictEqual(sizes(bench), [15, 9])
  }),
)

it.effect("there are never three", () =>
  Effect.gen(function* () {
    const { bench, claims, latches } = yield* twoWith(45, 2)
    for (const claim of claims.slice(0, 30)) bench.append(claim, "x", one("a", 1))
    yield* until("two are under way", () => bench.commits().length === 2)
    for (const claim of claims.slice(30)) bench.append(claim, "y", one("a", 1))
    yield* quiet
    assert.strictEqual(bench.commits().length, 2)
    for (const latch of latches) yield* latch.open
    yield* until("all are committed", () => bench.told.length === 45)
  }),
)

it.effect(
  "what a run produces while a commit of it is under way waits for that, and comes after",
  () =>
    Effect.gen(function* () {
      const bench = yield* two
      const claims = yield* bench.hold(26)
      const latches = yield* hold(bench, 1)
      for (const claim of claims.slice(0, 13)) bench.append(claim, "x", one("a", 1))
      yield* until("it is under way", () => bench.commits().length === 1)
      // of runs that are under way, and of others: enough for a second commit
      bench.append(claims[0]!, "more", one("b", 2))
      for (const claim of claims.slice(13)) bench.append(claim, "y", one("a", 1))
      yield* until("the second is through", () => bench.told.length === 13)
      assert.isFalse(bench.commits()[1]!.some(({ workflowRunId }) => workflowRunId === id(0)))
      yield* latches[0]!.open
      yield* until("all are committed", () => bench.told.length === 27)
      assert.deepStrictEqual(keysOf(bench.commits()[2]!), [["b"]])
      assert.deepStrictEqual(yield* stepsOf(bench, 0), ["a completed 1", "b completed 2"])
    }),
)

it.effect("drained waits for both", () =>
  Effect.gen(function* () {
    const { bench, claims, latches } = yield* twoWith(30, 2)
    for (const claim of claims) bench.append(claim, "x", one("a", 1))
    yield* until("both are under way", () => bench.commits().length === 2)
    const drained = yield* Effect.forkChild(bench.journal.drained)
    yield* latches[0]!.open
    yield* until("the first is through", () => bench.told.length === 15)
    yield* quiet
    assert.isUndefined(drained.pollUnsafe())
    yield* latches[1]!.open
    yield* Fiber.join(drained)
    assert.strictEqual(bench.told.length, 30)
  }),
)
