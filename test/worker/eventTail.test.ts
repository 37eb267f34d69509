/**
 * Following the events that runs emit.
 */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Logger from "effect/Logger"
import * as TestClock from "effect/testing/TestClock"
import { makeEventTail } from "../../src/engine/eventTail.ts"
import { makeHearing } from "../../src/engine/hearing.ts"
import type { Claim, EventRow } from "../../src/WorkflowStore.ts"
import { type Fixture, json, record, write } from "../store/conformanceFixture.ts"
import { it, quiet, until } from "./scripted.ts"
import { aPoll, pollMs, setUp } from "./waitingRig.ts"

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
