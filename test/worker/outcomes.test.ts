/**
 * Waiting for runs to settle, and following the events that they emit.
 */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Logger from "effect/Logger"
import * as TestClock from "effect/testing/TestClock"
import { makeEventTail } from "../../src/engine/eventTail.ts"
import { type Hints, makeHints } from "../../src/engine/hints.ts"
import { makeHearing } from "../../src/engine/hearing.ts"
import { makeOutcomes } from "../../src/engine/outcomes.ts"
import * as MemoryStore from "../../src/MemoryStore.ts"
import type { Claim, EventRow } from "../../src/WorkflowStore.ts"
import {
  compensate,
  Fixture,
  id,
  json,
  record,
  settle,
  start,
  write,
} from "../store/conformanceFixture.ts"
import { makeRig, pass } from "./rig.ts"
import { it, makeScripted, quiet, until } from "./scripted.ts"

const pollMs = 1000

const setUp = Effect.gen(function* () {
  yield* TestClock.setTime(start)
  const memory = MemoryStore.makeUnsafe()
  const scripted = makeScripted(memory.store)
  const hints: Hints = yield* makeHints(scripted.store)
  const fixture = new Fixture(memory.store)
  const worker = yield* Effect.orDie(fixture.worker(1, 3_600_000))
  return { ...scripted, memory, hints, fixture, worker }
})

const aPoll = Effect.andThen(TestClock.adjust(pollMs), quiet)

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

describe("the event tail", () => {
  const listening = Effect.gen(function* () {
    const bench = yield* setUp
    const tail = yield* makeEventTail(
      bench.store,
      bench.hints,
      yield* makeHearing(bench.store, bench.hints, false),
      pollMs,
      (error) => `${(error as Error).message}, as it is shown`,
    )
    const claim = yield* Effect.orDie(bench.fixture.hold(bench.worker, 1))
    let position = 0
    const heard: Array<string> = []
    return {
      ...bench,
      tail,
      heard,
      hear: (event: EventRow) => {
        heard.push(event.name)
      },
      emit: (...names: ReadonlyArray<string>) =>
        Effect.orDie(emit(bench.fixture, claim, names, () => ++position)),
    }
  })

  const emit = (
    fixture: Fixture,
    claim: Claim,
    names: ReadonlyArray<string>,
    next: () => number,
  ) => {
    const rows = names.map((name) => {
      const position = next()
      return { name, position, stepKey: `e${position}` }
    })
    return fixture.commit(
      write(claim, {
        records: rows.map(({ stepKey, position }) => record(stepKey, position, { kind: "emit" })),
        emitted: rows.map(({ stepKey, name }) => ({ stepKey, name, payload: json(name) })),
      }),
    )
  }

  it.effect("tells each event from now on, once, in order", () =>
    Effect.gen(function* () {
      const bench = yield* listening
      yield* bench.emit("before")
      yield* bench.tail.listen(bench.hear)
      yield* bench.emit("a", "b")
      yield* aPoll
      yield* bench.emit("c")
      yield* aPoll
      yield* aPoll
      assert.deepStrictEqual(bench.heard, ["a", "b", "c"])
    }),
  )

  it.effect("reads behind a signal, and not behind the ends of runs", () =>
    Effect.gen(function* () {
      const bench = yield* listening
      yield* bench.tail.listen(bench.hear)
      yield* quiet
      yield* bench.emit("a")
      bench.hints.local("settled")
      yield* quiet
      assert.deepStrictEqual(bench.heard, [])
      bench.hints.local("signal")
      yield* quiet
      assert.deepStrictEqual(bench.heard, ["a"])
    }),
  )

  it.effect("reads on at once while pages are full", () =>
    Effect.gen(function* () {
      const bench = yield* listening
      yield* bench.tail.listen(bench.hear)
      yield* quiet
      const names = Array.from({ length: 1234 }, (_, n) => `${n}`)
      yield* bench.emit(...names)
      bench.hints.local("signal")
      yield* until("all are told", () => bench.heard.length === 1234)
      assert.deepStrictEqual(bench.heard, names)
    }),
  )

  it.effect("reads nothing while nobody listens, and begins with the present again", () =>
    Effect.gen(function* () {
      const bench = yield* listening
      const stop = yield* bench.tail.listen(bench.hear)
      yield* bench.emit("a")
      yield* aPoll
      stop()
      yield* aPoll
      const { length } = bench.calls("tailEvents")
      yield* bench.emit("b")
      for (let i = 0; i < 5; i++) yield* aPoll
      assert.strictEqual(bench.calls("tailEvents").length, length)
      yield* bench.tail.listen(bench.hear)
      yield* bench.emit("c")
      yield* aPoll
      assert.deepStrictEqual(bench.heard, ["a", "c"])
    }),
  )

  it.effect("who comes while the last one leaves misses nothing", () =>
    Effect.gen(function* () {
      const bench = yield* listening
      const stop = yield* bench.tail.listen(bench.hear)
      yield* quiet
      const latch = yield* Latch.make()
      bench.script("tailEvents", () => ({ after: latch }))
      stop()
      yield* TestClock.adjust(pollMs)
      yield* until("the tail reads", () => bench.open("tailEvents") === 1)
      yield* quiet
      yield* Effect.forkChild(bench.tail.listen(bench.hear), { startImmediately: true })
      yield* quiet
      yield* bench.emit("a")
      bench.script("tailEvents", null)
      yield* latch.open
      for (let i = 0; i < 3; i++) yield* aPoll
      assert.deepStrictEqual(bench.heard, ["a"])
    }),
  )

  it.effect("two that come at once fix the same present", () =>
    Effect.gen(function* () {
      const bench = yield* listening
      const latch = yield* Latch.make()
      bench.script("tailEvents", (nth) => (nth === 1 ? { after: latch } : undefined))
      const first = yield* Effect.forkChild(bench.tail.listen(bench.hear), {
        startImmediately: true,
      })
      yield* until("the store is asked", () => bench.open("tailEvents") === 1)
      yield* bench.tail.listen(bench.hear)
      yield* latch.open
      yield* Fiber.join(first)
      yield* bench.emit("a")
      for (let i = 0; i < 3; i++) yield* aPoll
      assert.deepStrictEqual(bench.heard, ["a", "a"])
    }),
  )

  it.effect("a listener that throws silences nobody", () => {
    const logged: Array<unknown> = []
    return Effect.gen(function* () {
      const bench = yield* listening
      yield* bench.tail.listen(() => {
        throw new Error("a listener's defect")
      })
      yield* bench.tail.listen(bench.hear)
      yield* bench.emit("a", "b")
      yield* aPoll
      yield* bench.emit("c")
      yield* aPoll
      assert.deepStrictEqual(bench.heard, ["a", "b", "c"])
      assert.include(String(logged), "a listener's defect, as it is shown")
    }).pipe(Effect.provide(Logger.layer([Logger.make(({ message }) => void logged.push(message))])))
  })

  for (const fault of ["fail", "fail-after", "die", "interrupt", "hang"] as const) {
    it.effect(`a store that answers with "${fault}" is read again, from the same place`, () =>
      Effect.gen(function* () {
        const bench = yield* listening
        yield* bench.tail.listen(bench.hear)
        yield* quiet
        const { length } = bench.calls("tailEvents")
        bench.script("tailEvents", (nth) => (nth <= length + 2 ? fault : undefined))
        yield* bench.emit("a")
        for (let i = 0; i < 40; i++) yield* Effect.andThen(TestClock.adjust(5000), quiet)
        assert.deepStrictEqual(bench.heard, ["a"])
      }),
    )
  }
})
