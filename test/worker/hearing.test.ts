/** Hearing the hints of other processes while somebody waits: when, for how long, and what it saves. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { makeEventTail } from "../../src/engine/eventTail.ts"
import { makeHearing } from "../../src/engine/hearing.ts"
import { makeHints } from "../../src/engine/hints.ts"
import { makeOutcomes } from "../../src/engine/outcomes.ts"
import { StoreUnavailable } from "../../src/FlowlyError.ts"
import * as MemoryStore from "../../src/MemoryStore.ts"
import type { WorkflowStore } from "../../src/WorkflowStore.ts"
import { Fixture, id, record, settle, start, write } from "../store/conformanceFixture.ts"
import { it, makeScripted, quiet } from "./scripted.ts"

const complete = { transition: settle("completed") }

const roomWith = Effect.fnUntraced(function* (
  options: {
    readonly aside?: boolean
    readonly sparesConnection?: boolean
    /** How many subscriptions fail first. */
    readonly failures?: number
  } = {},
) {
  yield* TestClock.setTime(start)
  const memory = MemoryStore.makeUnsafe()
  const scripted = makeScripted(memory.store)
  let made = 0
  let open = 0
  const store: WorkflowStore["Service"] = {
    ...scripted.store,
    sparesConnection: options.sparesConnection ?? true,
    listen: Effect.suspend(() => {
      if (++made <= (options.failures ?? 0)) {
        return new StoreUnavailable({ operation: "listen", outcome: "not-applied", reason: "no" })
      }
      return Effect.acquireRelease(
        Effect.sync(() => open++),
        () => Effect.sync(() => open--),
      ).pipe(Effect.andThen(memory.store.listen))
    }),
  }
  const hints = yield* makeHints(store)
  const hearing = yield* makeHearing(store, hints, options.aside ?? true)
  const outcomes = yield* makeOutcomes(store, hints, hearing, 1000, () => false)
  const tail = yield* makeEventTail(store, hints, hearing, 1000)
  const fixture = new Fixture(memory.store)
  const worker = yield* Effect.orDie(fixture.worker(1, 3_600_000))
  const claims = yield* Effect.orDie(Effect.forEach([0, 1, 2, 3], (n) => fixture.hold(worker, n)))
  return {
    hearing,
    tail,
    made: () => made,
    open: () => open,
    looks: () => scripted.calls("getRuns").length,
    wait: (n: number) =>
      Effect.tap(Effect.forkChild(outcomes.wait(id(n)), { startImmediately: true }), quiet),
    /** Another process ends the run; and says so, if asked to. */
    end: (n: number, tells: boolean) =>
      Effect.orDie(fixture.committed(claims[n]!, complete)).pipe(
        Effect.andThen(tells ? Effect.orDie(memory.store.notify(["settled"])) : Effect.void),
        Effect.andThen(quiet),
      ),
    commit: (n: number, parts: Parameters<typeof write>[1]) =>
      Effect.orDie(fixture.committed(claims[n]!, parts)),
    tell: (hint: "settled" | "signal" | "reconnected") =>
      Effect.andThen(Effect.orDie(memory.store.notify([hint])), quiet),
  }
})

const pass = (ms: number) => Effect.andThen(TestClock.adjust(ms), quiet)

describe("who waits for a run", () => {
  it.effect("is told of its end elsewhere without a look at the clock", () =>
    Effect.gen(function* () {
      const room = yield* roomWith()
      const fiber = yield* room.wait(1)
      assert.strictEqual(room.open(), 1)
      yield* room.end(1, true)
      assert.strictEqual((yield* Fiber.join(fiber)).status, "completed")
    }),
  )

  it.effect("is heard for on one subscription, which ends seconds after the last has left", () =>
    Effect.gen(function* () {
      const room = yield* roomWith()
      const first = yield* room.wait(1)
      yield* pass(5000)
      assert.strictEqual(room.open(), 1)
      yield* room.end(1, true)
      yield* Fiber.join(first)
      const second = yield* room.wait(2)
      yield* room.end(2, true)
      yield* Fiber.join(second)
      // the two seconds in which somebody came and left have passed
      yield* pass(1200)
      assert.deepStrictEqual([room.made(), room.open()], [1, 1])
      yield* pass(3000)
      assert.strictEqual(room.open(), 0)
      yield* room.wait(0)
      assert.strictEqual(room.open(), 1)
    }),
  )

  for (const [what, options] of [
    ["the store has no connection to spare", { sparesConnection: false }],
    ["it is not wanted", { aside: false }],
  ] as const) {
    it.effect(`is looked for, and nothing is held, where ${what}`, () =>
      Effect.gen(function* () {
        const room = yield* roomWith(options)
        const fiber = yield* room.wait(1)
        assert.strictEqual(room.made(), 0)
        yield* room.end(1, true)
        assert.isUndefined(fiber.pollUnsafe())
        yield* pass(10)
        assert.strictEqual((yield* Fiber.join(fiber)).status, "completed")
      }),
    )
  }

  it.effect("is looked for where the subscription fails, which is tried again", () =>
    Effect.gen(function* () {
      const room = yield* roomWith({ failures: 1 })
      const fiber = yield* room.wait(1)
      assert.deepStrictEqual([room.made(), room.open()], [1, 0])
      yield* room.end(1, true)
      yield* pass(10)
      assert.strictEqual((yield* Fiber.join(fiber)).status, "completed")
      yield* room.wait(2)
      assert.strictEqual(room.made(), 1)
      yield* pass(30_000)
      assert.deepStrictEqual([room.made(), room.open()], [2, 1])
    }),
  )

  it.effect("is heard for by the worker where there is one", () =>
    Effect.gen(function* () {
      const room = yield* roomWith()
      const scope = yield* Scope.make()
      yield* Scope.provide(room.hearing.subscribe, scope)
      const fiber = yield* room.wait(1)
      assert.deepStrictEqual([room.made(), room.open()], [1, 1])
      yield* room.end(1, true)
      assert.strictEqual((yield* Fiber.join(fiber)).status, "completed")
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(room.open(), 0)
      yield* room.wait(2)
      assert.deepStrictEqual([room.made(), room.open()], [2, 1])
    }),
  )

  it.effect("is looked for often until a hint has been heard, seldom from then on", () =>
    Effect.gen(function* () {
      const room = yield* roomWith()
      const looksIn = Effect.fnUntraced(function* (ms: number) {
        const before = room.looks()
        for (let i = 0; i < ms; i++) yield* pass(1)
        return room.looks() - before
      })
      yield* room.wait(0)
      assert.isAbove(yield* looksIn(90), 5)
      yield* room.tell("settled")
      yield* pass(10)
      yield* room.wait(1)
      assert.isAtMost(yield* looksIn(90), 1)
      // the hint of its end was lost
      yield* room.end(1, false)
      assert.isAtLeast(yield* looksIn(20), 1)
      // what is heard now may be nothing
      yield* room.tell("reconnected")
      const last = yield* room.wait(2)
      assert.isAbove(yield* looksIn(90), 5)
      yield* room.end(0, true)
      yield* room.end(2, true)
      yield* pass(10)
      yield* Fiber.join(last)
      yield* pass(5000)
      yield* room.wait(3)
      assert.isAbove(yield* looksIn(90), 5)
    }),
  )
})

describe("who listens for events", () => {
  it.effect("is told of them without a look at the clock, and heard for until it leaves", () =>
    Effect.gen(function* () {
      const room = yield* roomWith()
      const heard: Array<string> = []
      const stop = yield* room.tail.listen((event) => heard.push(event.name))
      yield* quiet
      assert.strictEqual(room.open(), 1)
      yield* pass(5000)
      yield* room.commit(1, {
        records: [record("e", 1)],
        emitted: [{ stepKey: "e", name: "done", payload: { codec: "json", json: "1" } }],
      })
      yield* room.tell("signal")
      assert.deepStrictEqual(heard, ["done"])
      stop()
      stop()
      yield* pass(4000)
      assert.strictEqual(room.open(), 0)
      yield* room.wait(2)
      yield* pass(4000)
      assert.strictEqual(room.open(), 1)
    }),
  )
})
