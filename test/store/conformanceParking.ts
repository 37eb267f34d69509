/** Parking and waking: what comes between the reading of the sources and the park is not lost. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Claim } from "../../src/WorkflowStore.ts"
import {
  childOf,
  compensate,
  type Fixture,
  id,
  newRun,
  park,
  pause,
  record,
  settle,
  start,
  type Test,
  write,
} from "./conformanceFixture.ts"

/** A parent (run 1) and its child (run 2), both held by worker 1. */
const family = Effect.fnUntraced(function* (s: Fixture) {
  const a = yield* s.worker(1)
  const parent = yield* s.hold(a, 1)
  yield* s.committed(parent, { children: [newRun(2, childOf(1))] })
  const child = yield* s.claimOnly(a, 2)
  return { a, parent, child }
})

const isDueNow = Effect.fnUntraced(function* (s: Fixture, n: number) {
  const { status, dueAt } = yield* s.row(n)
  assert.deepStrictEqual([status, dueAt], ["pending", yield* s.store.now])
})

export const parkingTests = (test: Test) => {
  describe("parking", () => {
    test("until a time: claimable from then on, not before", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.committed(claim, { transition: park(0, { status: "sleeping", dueAt: start + 50 }) })
      const { status, dueAt, workerId } = yield* s.row(1)
      assert.deepStrictEqual([status, dueAt, workerId], ["sleeping", start + 50, null])
      yield* s.advance(49)
      assert.deepStrictEqual(yield* s.claim(a), [])
      yield* s.advance(1)
      yield* s.claimOnly(a, 1)
    })

    test("with a time and a delay: whichever is sooner, the delay from the commit", function* (s) {
      const a = yield* s.worker(1)
      const [first, second] = [yield* s.hold(a, 1), yield* s.hold(a, 2)]
      yield* s.advance(10)
      const dueAt = start + 100
      yield* s.committed(first, { transition: park(0, { dueAt, delayMs: 20 }) })
      yield* s.committed(second, { transition: park(0, { dueAt, delayMs: 2000 }) })
      assert.strictEqual((yield* s.row(1)).dueAt, start + 30)
      assert.strictEqual((yield* s.row(2)).dueAt, start + 100)
    })

    test("without a time: until woken", function* (s) {
      const a = yield* s.worker(1)
      yield* s.committed(yield* s.hold(a, 1), { transition: park(0) })
      yield* s.advance(20_000)
      assert.deepStrictEqual(yield* s.claim(a), [])
      const { status, dueAt } = yield* s.row(1)
      assert.deepStrictEqual([status, dueAt], ["waiting", null])
    })

    test("the run's deadline is part of its due time", function* (s) {
      const a = yield* s.worker(1)
      const [first, second] = [
        yield* s.hold(a, 1, { timeoutMs: 500 }),
        yield* s.hold(a, 2, { timeoutMs: 500 }),
      ]
      yield* s.committed(first, { transition: park(0) })
      yield* s.committed(second, { transition: park(0, { delayMs: 400 }) })
      assert.strictEqual((yield* s.row(1)).dueAt, start + 500)
      assert.strictEqual((yield* s.row(2)).dueAt, start + 400)
      yield* s.cancel(2)
      yield* s.advance(500)
      const claims = yield* s.claim(a)
      assert.isTrue(claims.every((claim) => claim.deadlinePassed))
      assert.strictEqual(claims.length, 2)
    })

    test("the deadline has no say while compensating", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1, { timeoutMs: 500 })
      yield* s.advance(600)
      const answer = yield* s.committed(claim, { transition: compensate })
      assert.isFalse(answer.deadlinePassed)
      yield* s.committed(claim, { transition: park(0, { status: "sleeping", delayMs: 1000 }) })
      const { status, dueAt } = yield* s.row(1)
      assert.deepStrictEqual([status, dueAt], ["compensating", start + 1600])
    })

    test("a due time that has passed is due at once", function* (s) {
      const a = yield* s.worker(1)
      yield* s.committed(yield* s.hold(a, 1), { transition: park(0, { dueAt: start - 5 }) })
      yield* s.claimOnly(a, 1)
    })
  })

  describe("no wake-up is lost:", () => {
    const between: Record<string, (s: Fixture, child: Claim) => Effect.Effect<unknown, unknown>> = {
      "an event": (s) => s.sendEvent(1),
      "a child's end": (s, child) => s.committed(child, { transition: settle("completed") }),
      "a child's failure": (s, child) => s.committed(child, { transition: settle("failed") }),
      "a cancel": (s) => s.cancel(1),
    }
    for (const [what, happens] of Object.entries(between)) {
      test(`${what} between the reading and the park makes the run due now`, function* (s) {
        const { a, parent, child } = yield* family(s)
        const { wakeCounter } = yield* s.history(1)
        yield* happens(s, child)
        yield* s.committed(parent, { transition: park(wakeCounter, { delayMs: 9000 }) })
        yield* isDueNow(s, 1)
        const again = yield* s.claimOnly(a, 1)
        assert.strictEqual(again.wakeCounter, wakeCounter + 1)
      })

      test(`${what} after the park makes the run due now`, function* (s) {
        const { a, parent, child } = yield* family(s)
        yield* s.committed(parent, { transition: park(0, { delayMs: 9000 }) })
        yield* s.advance(10)
        yield* happens(s, child)
        yield* isDueNow(s, 1)
        assert.strictEqual((yield* s.claimOnly(a, 1)).wakeCounter, 1)
      })

      test(`${what} before the reading does not keep the run awake`, function* (s) {
        const { parent, child } = yield* family(s)
        yield* happens(s, child)
        const { wakeCounter } = yield* s.history(1)
        assert.strictEqual(wakeCounter, 1)
        yield* s.committed(parent, { transition: park(wakeCounter) })
        assert.strictEqual((yield* s.row(1)).status, "waiting")
      })

      test(`${what} at the very time of the park makes the run due now`, function* (s) {
        const { a, parent, child } = yield* family(s)
        // Either may find the row in the other's hands: busy, and sent again.
        const parked = s.sentUntilAnswered(parent, { transition: park(0) })
        const ended = what.startsWith("a child's")
          ? s.sentUntilAnswered(child, { transition: settle("completed") })
          : happens(s, child)
        yield* Effect.all([parked, ended], { concurrency: "unbounded" })
        yield* s.claimOnly(a, 1)
      })
    }

    for (const order of ["park first", "end first"]) {
      test(`a parent parks while its child settles in one batch (${order})`, function* (s) {
        const { parent, child } = yield* family(s)
        const parked = write(parent, { transition: park(0) })
        const ended = write(child, { transition: settle("completed") })
        yield* s.store.commit(order === "park first" ? [parked, ended] : [ended, parked])
        yield* isDueNow(s, 1)
        assert.strictEqual((yield* s.row(1)).wakeCounter, 1)
        assert.strictEqual((yield* s.history(1)).children[0]?.status, "completed")
      })
    }

    test("children that settle in one batch wake their parent once each", function* (s) {
      const a = yield* s.worker(1)
      const parent = yield* s.hold(a, 1)
      const children = [2, 3, 4].map((n) => newRun(n, childOf(1, `c${n}`)))
      yield* s.committed(parent, { children, transition: park(0) })
      const claims = yield* s.claim(a)
      yield* s.store.commit(claims.map((c) => write(c, { transition: settle("completed") })))
      assert.strictEqual((yield* s.row(1)).wakeCounter, 3)
      yield* isDueNow(s, 1)
    })

    test("a parent's records and its child's end in one batch are both kept", function* (s) {
      const { parent, child } = yield* family(s)
      const answers = yield* s.store.commit([
        write(parent, { records: [record("a", 1)] }),
        write(child, { transition: settle("completed") }),
      ])
      assert.deepStrictEqual(
        answers.map((answer) => answer._tag),
        ["committed", "committed"],
      )
      const { wakeCounter, status } = yield* s.row(1)
      assert.deepStrictEqual([wakeCounter, status], [1, "running"])
      assert.strictEqual((yield* s.store.getSteps(id(1))).length, 1)
    })
  })

  describe("waking", () => {
    test("a claimed run stays with its holder, who hears the counter", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.sendEvent(1)
      const { status, workerId } = yield* s.row(1)
      assert.deepStrictEqual([status, workerId], ["running", a])
      assert.strictEqual((yield* s.committed(claim)).wakeCounter, 1)
    })

    test("a sleeping run wakes too: it may have a wait beside its sleep", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.committed(claim, { transition: park(0, { status: "sleeping", delayMs: 999 }) })
      yield* s.sendEvent(1)
      yield* isDueNow(s, 1)
    })

    test("a run scheduled for later is not started earlier by an event", function* (s) {
      const a = yield* s.worker(1)
      yield* s.insert(newRun(1, { scheduledFor: start + 100 }))
      yield* s.sendEvent(1)
      assert.deepStrictEqual(yield* s.claim(a), [])
      const { dueAt, wakeCounter } = yield* s.row(1)
      assert.deepStrictEqual([dueAt, wakeCounter], [start + 100, 1])
    })

    test("a compensating run that parked is due now, and stays compensating", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.committed(claim, { transition: compensate })
      yield* s.committed(claim, { transition: park(0, { delayMs: 9000 }) })
      yield* s.sendEvent(1)
      const { status, dueAt } = yield* s.row(1)
      assert.deepStrictEqual([status, dueAt], ["compensating", start])
    })

    test("a paused run stays paused, and knows that it was woken", function* (s) {
      const a = yield* s.worker(1)
      yield* s.committed(yield* s.hold(a, 1), { transition: pause })
      yield* s.sendEvent(1)
      const { status, wakeCounter } = yield* s.row(1)
      assert.deepStrictEqual([status, wakeCounter], ["paused", 1])
    })

    test("a parent that has ended is left alone by its child's end", function* (s) {
      const { parent, child } = yield* family(s)
      yield* s.committed(parent, { transition: settle("failed") })
      const before = yield* s.row(1)
      yield* s.committed(child, { transition: settle("completed") })
      assert.deepStrictEqual(yield* s.row(1), before)
    })
  })
}
