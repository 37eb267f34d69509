/**
 * Waiting for runs to settle.
 */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as TestClock from "effect/testing/TestClock"
import { makeHearing } from "../../src/engine/hearing.ts"
import { makeOutcomes } from "../../src/engine/outcomes.ts"
import { compensate, id, json, settle } from "../store/conformanceFixture.ts"
import { makeRig, pass } from "./rig.ts"
import { it, quiet, until } from "./scripted.ts"
import { aPoll, pollMs, setUp } from "./waitingRig.ts"

const complete = { transition: settle("completed") }

describe("outcomes", () => {
  const waitingRoom = Effect.gen(function* () {
    const bench = yield* setUp
    const here = new Set<string>()
    const outcomes = yield* makeOutcomes(
      bench.store,
      bench.hints,
      yield* makeHearing(bench.store, bench.hints, false),
      pollMs,
      (run) => here.has(run),
    )
    return {
      ...bench,
      here,
      outcomes,
      wait: (n: number) => Effect.forkChild(outcomes.wait(id(n)), { startImmediately: true }),
      queries: () => bench.calls("getRuns").map(([ids]) => ids),
    }
  })

  it.effect("a waiter that comes after the run settled is answered at once", () =>
    Effect.gen(function* () {
      const room = yield* waitingRoom
      const claim = yield* room.fixture.hold(room.worker, 1)
      yield* room.fixture.committed(claim, complete)
      const outcome = yield* room.outcomes.wait(id(1))
      assert.strictEqual(outcome.status, "completed")
      assert.strictEqual(outcome.result?.json, `"done"`)
    }),
  )

  it.effect("a run that this process settles is told without a query", () =>
    Effect.gen(function* () {
      const room = yield* waitingRoom
      yield* room.fixture.hold(room.worker, 1)
      const fiber = yield* room.wait(1)
      yield* quiet
      const { length } = room.queries()
      room.outcomes.settled(id(1), { status: "completed", result: json(7), error: null })
      assert.strictEqual((yield* Fiber.join(fiber)).result?.json, "7")
      assert.strictEqual(room.queries().length, length)
    }),
  )

  it.effect("a run that executes here is looked for at the poll interval only", () =>
    Effect.gen(function* () {
      const room = yield* waitingRoom
      const claim = yield* room.fixture.hold(room.worker, 1)
      room.here.add(id(1))
      const fiber = yield* room.wait(1)
      yield* Effect.andThen(TestClock.adjust(pollMs - 1), quiet)
      room.hints.local("settled")
      yield* quiet
      assert.deepStrictEqual(room.queries(), [])
      yield* Effect.andThen(TestClock.adjust(2), quiet)
      assert.deepStrictEqual(room.queries(), [[id(1)]])
      // whoever else settles it, unheard
      yield* room.fixture.committed(claim, complete)
      yield* Effect.andThen(TestClock.adjust(pollMs - 10), quiet)
      assert.strictEqual(room.queries().length, 1)
      yield* Effect.andThen(TestClock.adjust(10), quiet)
      assert.strictEqual((yield* Fiber.join(fiber)).status, "completed")
      assert.strictEqual(room.queries().length, 2)
    }),
  )

  it.effect(
    "hints of others' ends let one who has waited long look four times a second at most",
    () =>
      Effect.gen(function* () {
        const room = yield* waitingRoom
        const claim = yield* room.fixture.hold(room.worker, 1)
        const fiber = yield* room.wait(1)
        const hinted = Effect.fnUntraced(function* (times: number) {
          const { length } = room.queries()
          for (let i = 0; i < times; i++) {
            room.hints.local("settled")
            yield* Effect.andThen(TestClock.adjust(10), quiet)
          }
          return room.queries().length - length
        })
        // who has just come is looked for at each
        assert.isAtLeast(yield* hinted(5), 5)
        yield* Effect.andThen(TestClock.adjust(20_000), quiet)
        const looks = yield* hinted(100)
        assert.isAtLeast(looks, 4)
        assert.isAtMost(looks, 5)
        yield* room.fixture.committed(claim, complete)
        yield* hinted(26)
        assert.strictEqual((yield* Fiber.join(fiber)).status, "completed")
      }),
  )

  it.effect("a run that no longer executes here is looked for soon", () =>
    Effect.gen(function* () {
      const room = yield* waitingRoom
      const claim = yield* room.fixture.hold(room.worker, 1)
      room.here.add(id(1))
      const fiber = yield* room.wait(1)
      yield* Effect.andThen(TestClock.adjust(6), quiet)
      room.here.delete(id(1))
      room.outcomes.left(id(1))
      yield* room.fixture.committed(claim, complete)
      yield* Effect.andThen(TestClock.adjust(6), quiet)
      assert.isDefined(fiber.pollUnsafe())
      assert.strictEqual((yield* Fiber.join(fiber)).status, "completed")
    }),
  )

  it.effect("a run that undoes its steps has none yet", () =>
    Effect.gen(function* () {
      const room = yield* waitingRoom
      const claim = yield* room.fixture.hold(room.worker, 1)
      yield* room.fixture.committed(claim, { transition: compensate })
      const fiber = yield* room.wait(1)
      for (let i = 0; i < 3; i++) yield* aPoll
      assert.isUndefined(fiber.pollUnsafe())
      yield* room.fixture.committed(claim, { transition: settle("compensated") })
      for (let i = 0; i < 3; i++) yield* aPoll
      assert.strictEqual((yield* Fiber.join(fiber)).status, "compensated")
    }),
  )

  it.effect("an unknown run is not waited for", () =>
    Effect.gen(function* () {
      const room = yield* waitingRoom
      const error = yield* Effect.flip(room.outcomes.wait(id(9)))
      assert.strictEqual(error._tag, "RunNotFound")
    }),
  )

  it.effect("a run that comes to be while the store is asked is not unknown", () =>
    Effect.gen(function* () {
      const room = yield* waitingRoom
      const latch = yield* Latch.make()
      room.script("getRuns", (nth) => (nth === 1 ? { after: latch } : undefined))
      const early = yield* room.wait(1)
      yield* until("the store is asked", () => room.open("getRuns") === 1)
      yield* quiet
      yield* room.fixture.hold(room.worker, 1)
      const late = yield* room.wait(1)
      yield* latch.open
      assert.strictEqual((yield* Effect.flip(Fiber.join(early)))._tag, "RunNotFound")
      yield* quiet
      assert.isUndefined(late.pollUnsafe())
      room.outcomes.settled(id(1), { status: "completed", result: null, error: null })
      assert.strictEqual((yield* Fiber.join(late)).status, "completed")
    }),
  )

  it.effect("one query asks for all, each interval, and for nobody when nobody waits", () =>
    Effect.gen(function* () {
      const room = yield* waitingRoom
      const claims = yield* Effect.forEach([1, 2, 3], (n) => room.fixture.hold(room.worker, n))
      const fibers = yield* Effect.forEach([1, 2, 3, 3], room.wait)
      // who has just come is looked for more often
      for (let i = 0; i < 5; i++) yield* aPoll
      const before = room.queries().length
      yield* aPoll
      assert.deepStrictEqual(room.queries().slice(before), [[id(1), id(2), id(3)]])
      for (const claim of claims) yield* room.fixture.committed(claim, complete)
      yield* aPoll
      yield* Effect.forEach(fibers, Fiber.join)
      const { length } = room.queries()
      for (let i = 0; i < 5; i++) yield* aPoll
      assert.strictEqual(room.queries().length, length)
    }),
  )

  it.effect("who has just come is looked for soon, then ever more seldom", () =>
    Effect.gen(function* () {
      const room = yield* waitingRoom
      const claim = yield* room.fixture.hold(room.worker, 1)
      yield* room.fixture.hold(room.worker, 2)
      yield* room.wait(2)
      const soon = yield* room.wait(1)
      yield* quiet
      yield* room.fixture.committed(claim, complete)
      yield* Effect.andThen(TestClock.adjust(6), quiet)
      assert.strictEqual((yield* Fiber.join(soon)).status, "completed")
      for (let i = 0; i < 10; i++) yield* aPoll
      assert.isAtMost(room.queries().length, 30)
    }),
  )

  it.effect("more than a thousand are asked for in pages", () =>
    Effect.gen(function* () {
      const room = yield* waitingRoom
      const fibers = yield* Effect.forEach(
        Array.from({ length: 2500 }, (_, n) => n),
        room.wait,
      )
      yield* Effect.forEach(fibers, Fiber.await)
      assert.isTrue(room.queries().every((ids) => ids.length <= 1000))
      assert.isAtMost(room.queries().length, 10)
    }),
  )

  for (const hint of ["settled", "reconnected"] as const) {
    it.effect(`a hint of another process is enough: ${hint}`, () =>
      Effect.gen(function* () {
        const room = yield* waitingRoom
        const claim = yield* room.fixture.hold(room.worker, 1)
        const fiber = yield* room.wait(1)
        yield* quiet
        yield* room.fixture.committed(claim, complete)
        room.hints.local(hint)
        yield* quiet
        assert.isDefined(fiber.pollUnsafe())
        assert.strictEqual((yield* Fiber.join(fiber)).status, "completed")
      }),
    )
  }

  it.effect("a hint that comes while the store is asked is followed by another look", () =>
    Effect.gen(function* () {
      const room = yield* waitingRoom
      const claim = yield* room.fixture.hold(room.worker, 1)
      const latch = yield* Latch.make()
      room.script("getRuns", (nth) => (nth === 1 ? { after: latch } : undefined))
      const fiber = yield* room.wait(1)
      yield* until("it is looked for", () => room.open("getRuns") === 1)
      yield* room.fixture.committed(claim, complete)
      room.hints.local("settled")
      yield* latch.open
      yield* quiet
      assert.isDefined(fiber.pollUnsafe())
    }),
  )

  it.effect("who comes to one that others wait for is looked for at once", () =>
    Effect.gen(function* () {
      const room = yield* waitingRoom
      const claim = yield* room.fixture.hold(room.worker, 1)
      const first = yield* room.wait(1)
      for (let i = 0; i < 5; i++) yield* aPoll
      yield* room.fixture.committed(claim, complete)
      const second = yield* room.wait(1)
      yield* quiet
      assert.isDefined(second.pollUnsafe())
      assert.isDefined(first.pollUnsafe())
    }),
  )

  it.effect("interrupted waiters leave nothing behind", () =>
    Effect.gen(function* () {
      const room = yield* waitingRoom
      yield* room.fixture.hold(room.worker, 1)
      const fibers = yield* Effect.forEach([1, 1], room.wait)
      yield* quiet
      yield* Fiber.interrupt(fibers[0]!)
      yield* aPoll
      assert.deepStrictEqual(room.queries().at(-1), [id(1)])
      yield* Fiber.interrupt(fibers[1]!)
      yield* aPoll
      const { length } = room.queries()
      for (let i = 0; i < 5; i++) yield* aPoll
      assert.strictEqual(room.queries().length, length)
    }),
  )

  for (const fault of ["fail", "die", "interrupt", "hang", "reject"] as const) {
    it.effect(`a store that answers with "${fault}" is asked again`, () =>
      Effect.gen(function* () {
        const room = yield* waitingRoom
        const claim = yield* room.fixture.hold(room.worker, 1)
        room.script("getRuns", (nth) => (nth <= 2 ? fault : undefined))
        const fiber = yield* room.wait(1)
        yield* quiet
        yield* room.fixture.committed(claim, complete)
        for (let i = 0; i < 40; i++) yield* Effect.andThen(TestClock.adjust(5000), quiet)
        assert.strictEqual((yield* Fiber.join(fiber)).status, "completed")
      }),
    )
  }
})

describe("an engine that is told no interval", () => {
  it.effect("looks once a second for a run that it waits for", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig()
      const [run] = yield* rig.insert(1)
      yield* Effect.forkChild(rig.engine.outcome(run!))
      yield* pass(10_000)
      const { length } = rig.calls("getRuns")
      yield* pass(5000)
      assert.strictEqual(rig.calls("getRuns").length - length, 5)
    }),
  )
})
