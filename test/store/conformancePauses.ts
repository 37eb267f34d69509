/** Pauses that operators ask for: at once, or when the holder lets go. */
import { assert, describe } from "@effect/vitest"
import {
  compensate,
  error,
  handBack,
  id,
  newRun,
  park,
  pause,
  record,
  retryRun,
  settle,
  start,
  type Test,
} from "./conformanceFixture.ts"
import { askPause, logOf } from "./conformanceControl.ts"

export const pauseTests = (test: Test) => {
  describe("pause", () => {
    for (const [what, transition, before] of [
      ["handed back", handBack, "pending"],
      ["sleeping", park(0, { status: "sleeping", delayMs: 100 }), "sleeping"],
      ["waiting", park(0), "waiting"],
      ["between attempts", retryRun(null, 100), "pending"],
    ] as const) {
      test(`of a run that is ${what} is immediate, and resume makes it due now`, function* (s) {
        const a = yield* s.worker(1)
        yield* s.committed(yield* s.hold(a, 1), { transition })
        assert.strictEqual((yield* s.row(1)).status, before)
        assert.deepStrictEqual(yield* askPause(s, 1), ["paused"])
        const paused = yield* s.row(1)
        assert.deepStrictEqual(
          [paused.status, paused.dueAt, paused.pauseReason?.message],
          ["paused", null, "paused by hand"],
        )
        yield* s.sendEvent(1)
        yield* s.advance(1000)
        assert.deepStrictEqual(yield* s.claim(a), [], "an event does not end a pause")
        assert.strictEqual(yield* s.store.resumeRun(id(1), "go on"), "resumed")
        assert.deepStrictEqual(yield* logOf(s, 1), [
          ["pause", "why", {}],
          ["resume", "go on", {}],
        ])
        assert.strictEqual((yield* s.claimOnly(a, 1)).pauseRequest, null)
      })
    }

    test("of a run that never started keeps its time", function* (s) {
      const a = yield* s.worker(1)
      yield* s.insert(newRun(1, { scheduledFor: start + 1000 }))
      assert.deepStrictEqual(yield* askPause(s, 1), ["paused"])
      yield* s.store.resumeRun(id(1))
      const { status, dueAt } = yield* s.row(1)
      assert.deepStrictEqual([status, dueAt], ["pending", start + 1000])
      assert.deepStrictEqual(yield* s.claim(a), [])
    })

    test("of a claimed run is a request that its holder reads", function* (s) {
      const held = yield* s.hold(yield* s.worker(1), 1)
      assert.deepStrictEqual(yield* askPause(s, 1, 1), ["requested", "requested"])
      const { status, wakeCounter, pauseRequest } = yield* s.row(1)
      assert.deepStrictEqual([status, wakeCounter], ["running", 1])
      assert.deepStrictEqual(pauseRequest, { reason: "why" })
      const answer = yield* s.committed(held, { records: [record("ends", 1)] })
      assert.deepStrictEqual(answer.pauseRequest, { reason: "why" })
      const [signals] = yield* s.store.readSignals([held])
      assert.deepStrictEqual(signals?.pauseRequest, { reason: "why" })
      assert.strictEqual((yield* logOf(s, 1)).length, 1, "the first request stands")
    })

    for (const [what, transition] of [
      ["hands back", handBack],
      ["parks", park(0, { delayMs: 10 })],
      ["begins another attempt", retryRun(null, 10)],
    ] as const) {
      test(`is there when the holder ${what}`, function* (s) {
        const a = yield* s.worker(1)
        const held = yield* s.hold(a, 1)
        yield* askPause(s, 1)
        yield* s.committed(held, { transition })
        const { status, dueAt, pauseReason, pauseRequest, workerId } = yield* s.row(1)
        assert.deepStrictEqual(
          [status, dueAt, pauseRequest, workerId],
          ["paused", null, null, null],
        )
        assert.strictEqual(pauseReason?.message, "paused by hand")
        yield* s.advance(1000)
        assert.deepStrictEqual(yield* s.claim(a), [])
      })
    }

    test("does not stand in the way of the end", function* (s) {
      const held = yield* s.hold(yield* s.worker(1), 1)
      yield* askPause(s, 1)
      yield* s.committed(held, { transition: settle("completed") })
      const { status, pauseRequest } = yield* s.row(1)
      assert.deepStrictEqual([status, pauseRequest], ["completed", null])
    })

    test("that was resumed before the holder acted is withdrawn", function* (s) {
      const a = yield* s.worker(1)
      const held = yield* s.hold(a, 1)
      yield* askPause(s, 1)
      assert.strictEqual(yield* s.store.resumeRun(id(1)), "resumed")
      assert.strictEqual((yield* s.committed(held)).pauseRequest, null)
      yield* s.committed(held, { transition: handBack })
      assert.strictEqual((yield* s.row(1)).status, "pending")
      assert.strictEqual(yield* s.store.resumeRun(id(1)), "not-paused")
    })

    test("outlives the holder: the next one reads the request", function* (s) {
      yield* s.hold(yield* s.worker(1), 1)
      yield* askPause(s, 1)
      yield* s.lapseAndSweep
      const b = yield* s.worker(2)
      yield* s.advance(1000)
      const claim = yield* s.claimOnly(b, 1)
      assert.deepStrictEqual(claim.pauseRequest, { reason: "why" })
      yield* s.committed(claim, { transition: handBack })
      assert.strictEqual((yield* s.row(1)).status, "paused")
    })

    test("of a compensating run pauses it, and resume lets it undo again", function* (s) {
      const a = yield* s.worker(1)
      const held = yield* s.hold(a, 1)
      yield* s.committed(held, { transition: compensate })
      assert.deepStrictEqual(yield* askPause(s, 1), ["requested"])
      yield* s.committed(held, { transition: handBack })
      assert.deepStrictEqual(
        [(yield* s.row(1)).status, (yield* s.row(1)).compensating],
        ["paused", true],
      )
      yield* s.store.resumeRun(id(1))
      const claim = yield* s.claimOnly(a, 1)
      assert.isTrue(claim.compensating)
      yield* s.committed(claim, { transition: handBack })
      assert.deepStrictEqual(yield* askPause(s, 1), ["paused"])
    })

    test("loses against a cancel, whichever came first", function* (s) {
      const a = yield* s.worker(1)
      const held = yield* s.hold(a, 1)
      yield* askPause(s, 1)
      assert.strictEqual(yield* s.cancel(1), "requested")
      const answer = yield* s.committed(held)
      assert.deepStrictEqual([answer.pauseRequest, answer.cancelRequest !== null], [null, true])
      yield* s.hold(a, 2)
      yield* s.cancel(2)
      assert.deepStrictEqual(yield* askPause(s, 2), ["cancelling"])
      assert.strictEqual((yield* s.row(2)).pauseRequest, null)
    })

    test("that is asked for twice at once has the first reason", function* (s) {
      yield* s.insert(newRun(1))
      const asked = ["first", "second"].map((message) => ({
        workflowRunId: id(1),
        error: error(message),
        reason: message,
      }))
      assert.deepStrictEqual(yield* s.store.pauseRuns(asked), ["paused", "paused"])
      assert.strictEqual((yield* s.row(1)).pauseReason?.message, "first")
    })

    test("of what is paused, has ended or is unknown changes nothing", function* (s) {
      const a = yield* s.worker(1)
      yield* s.committed(yield* s.hold(a, 1), { transition: pause })
      yield* s.committed(yield* s.hold(a, 2), { transition: settle("completed") })
      const before = [yield* s.observe(1), yield* s.observe(2)]
      assert.deepStrictEqual(yield* askPause(s, 1, 2, 9), ["paused", "terminal", "unknown"])
      assert.deepStrictEqual([yield* s.observe(1), yield* s.observe(2)], before)
      assert.deepStrictEqual(yield* logOf(s, 1), [])
    })
  })
}
