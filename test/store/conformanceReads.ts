/** Reading: rows, lists, the tail of events, sources; hints. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as TestClock from "effect/testing/TestClock"
import type { Claim } from "../../src/WorkflowStore.ts"
import {
  childOf,
  type Fixture,
  id,
  idsOf,
  json,
  newRun,
  parse,
  pause,
  record,
  settle,
  start,
  type Test,
} from "./conformanceFixture.ts"

const emit = (s: Fixture, claim: Claim, stepKey: string, position: number) =>
  s.committed(claim, {
    records: [record(stepKey, position, { kind: "emit", result: null })],
    emitted: [{ stepKey, name: stepKey, payload: json(position) }],
  })

export const readTests = (test: Test) => {
  describe("rows", () => {
    test("of runs that do not exist are left out", function* (s) {
      yield* s.insert(newRun(1), newRun(2))
      const rows = yield* s.store.getRuns([id(9), id(2), id(1)])
      assert.sameMembers(idsOf(rows), [id(1), id(2)])
      assert.deepStrictEqual(yield* s.store.getRuns([]), [])
    })

    test("that are asked for twice are given once", function* (s) {
      yield* s.insert(newRun(1), newRun(2))
      const rows = yield* s.store.getRuns([id(1), id(2), id(1)])
      assert.deepStrictEqual(idsOf(rows).toSorted(), [id(1), id(2)])
    })

    test("are listed newest first, page by page", function* (s) {
      yield* s.insert(...[3, 1, 5, 2, 4].map((n) => newRun(n)))
      assert.deepStrictEqual(idsOf(yield* s.list({ limit: 2 })), [id(5), id(4)])
      assert.deepStrictEqual(idsOf(yield* s.list({ limit: 2, before: id(4) })), [id(3), id(2)])
      assert.deepStrictEqual(idsOf(yield* s.list({ limit: 2, before: id(2) })), [id(1)])
      assert.deepStrictEqual(yield* s.list({ before: id(1) }), [])
    })

    test("are listed by status, workflow and parent", function* (s) {
      const a = yield* s.worker(1)
      yield* s.committed(yield* s.hold(a, 1), { transition: settle("completed") })
      yield* s.committed(yield* s.hold(a, 2), { transition: pause })
      yield* s.insert(newRun(3, { workflow: "x" }), newRun(4, { ...childOf(2), workflow: "x" }))
      yield* s.insert(newRun(5))
      const statuses = ["completed", "paused"] as const
      assert.deepStrictEqual(idsOf(yield* s.list({ statuses })), [id(2), id(1)])
      assert.deepStrictEqual(yield* s.list({ statuses: [] }), [])
      assert.deepStrictEqual(idsOf(yield* s.list({ workflow: "x" })), [id(4), id(3)])
      assert.deepStrictEqual(idsOf(yield* s.list({ parentRunId: id(2) })), [id(4)])
      const pending = { statuses: ["pending"], workflow: "w" } as const
      assert.deepStrictEqual(idsOf(yield* s.list(pending)), [id(5)])
    })
  })

  describe("histories", () => {
    test("of runs that do not exist are left out", function* (s) {
      yield* s.insert(newRun(1))
      assert.deepStrictEqual(idsOf(yield* s.store.loadHistory([id(9), id(1)])), [id(1)])
      assert.deepStrictEqual(idsOf(yield* s.store.loadSources([id(9), id(1)])), [id(1)])
      assert.deepStrictEqual(yield* s.store.getSteps(id(9)), [])
      assert.deepStrictEqual(yield* s.store.getEvents(id(9)), [])
    })

    test("of several runs are each their own", function* (s) {
      const a = yield* s.worker(1)
      for (const n of [1, 2]) {
        const claim = yield* s.hold(a, n)
        yield* s.committed(claim, {
          timers: [{ stepKey: "nap", delayMs: n }],
          records: [record(`s${n}`, 1)],
        })
        yield* s.sendEvent(n, `e${n}`)
      }
      yield* s.insert(newRun(3))
      const histories = yield* s.store.loadHistory([id(2), id(3), id(1)])
      const seen = new Map(
        histories.map((h) => [
          h.workflowRunId,
          [h.records[0]?.stepKey, h.timers[0]?.wakeAt, h.events[0]?.name, h.wakeCounter],
        ]),
      )
      assert.deepStrictEqual(seen.get(id(1)), ["s1", start + 1, "e1", 1])
      assert.deepStrictEqual(seen.get(id(2)), ["s2", start + 2, "e2", 1])
      assert.deepStrictEqual(seen.get(id(3)), [undefined, undefined, undefined, 0])
    })

    test("and sources tell the time of their reading and the run's signals", function* (s) {
      const a = yield* s.worker(1)
      yield* s.hold(a, 1, { timeoutMs: 10 })
      yield* s.cancel(1, false, "r")
      yield* s.advance(20)
      const [sources] = yield* s.store.loadSources([id(1)])
      assert.deepStrictEqual(sources, {
        workflowRunId: id(1),
        wakeCounter: 1,
        cancelRequest: { compensate: false, reason: "r" },
        pauseRequest: null,
        deadlinePassed: true,
        now: start + 20,
        children: [],
        events: [],
        dueTimes: [],
      })
    })
  })

  describe("the tail of events", () => {
    test("starts at the present, and goes on from its cursor", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* emit(s, claim, "before", 1)
      const first = yield* s.store.tailEvents({ cursor: null, limit: 10 })
      assert.deepStrictEqual(first.events, [])
      yield* emit(s, claim, "a", 2)
      yield* s.sendEvent(1, "sent")
      yield* emit(s, claim, "b", 3)
      const second = yield* s.store.tailEvents({ cursor: first.cursor, limit: 10 })
      assert.deepStrictEqual(
        second.events.map((event) => [event.name, parse(event.payload)]),
        [
          ["a", 2],
          ["b", 3],
        ],
      )
      const third = yield* s.store.tailEvents({ cursor: second.cursor, limit: 10 })
      assert.deepStrictEqual(third.events, [])
      yield* emit(s, claim, "c", 4)
      const fourth = yield* s.store.tailEvents({ cursor: third.cursor, limit: 10 })
      assert.deepStrictEqual(
        fourth.events.map((event) => event.name),
        ["c"],
      )
    })

    test("comes in pages, across runs, without loss", function* (s) {
      const a = yield* s.worker(1)
      const claims = [yield* s.hold(a, 1), yield* s.hold(a, 2)]
      let { cursor } = yield* s.store.tailEvents({ cursor: null, limit: 1 })
      for (let n = 1; n <= 7; n++) yield* emit(s, claims[n % 2]!, `e${n}`, n)
      const names = []
      for (let page = 0; page < 4; page++) {
        const tail = yield* s.store.tailEvents({ cursor, limit: 3 })
        assert.isAtMost(tail.events.length, 3)
        names.push(...tail.events.map((event) => event.name))
        cursor = tail.cursor
      }
      assert.deepStrictEqual(names, ["e1", "e2", "e3", "e4", "e5", "e6", "e7"])
    })
  })

  describe("the store", () => {
    test("has a name, a schema that is up to date, and the clock it is given", function* (s) {
      assert.isAbove(s.store.name.length, 0)
      yield* s.store.migrate
      yield* s.store.verify({ worker: true, listen: true })
      yield* s.advance(123)
      assert.strictEqual(yield* s.store.now, start + 123)
    })

    test("passes hints on to those who listen", function* (s) {
      const hints = yield* s.store.listen
      yield* s.store.notify(["work", "settled"])
      const heard = new Set<string>()
      yield* Effect.gen(function* () {
        while (!heard.has("work") || !heard.has("settled")) heard.add(yield* Queue.take(hints))
      }).pipe(Effect.timeout("10 seconds"), TestClock.withLive)
    })
  })
}
