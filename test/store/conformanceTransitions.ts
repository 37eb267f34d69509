/** The status changes that a holder makes: settle, hand back, compensate, pause, retry. */
import { assert, describe } from "@effect/vitest"
import type { Claim } from "../../src/WorkflowStore.ts"
import {
  childOf,
  compensate,
  error,
  failed,
  type Fixture,
  handBack,
  id,
  json,
  newRun,
  parse,
  pause,
  record,
  retryRun,
  retrying,
  settle,
  start,
  type Test,
} from "./conformanceFixture.ts"

/** An attempt that failed at position 4, with much around it. */
const attempted = function* (s: Fixture, claim: Claim) {
  yield* s.sendEvent(1)
  const [event] = (yield* s.history(1)).events
  yield* s.committed(claim, {
    timers: [
      { stepKey: "wait", delayMs: 100 },
      { stepKey: "nap", delayMs: 100 },
    ],
    records: [
      record("a", 1),
      failed("caught", 2),
      failed("f", 4),
      record("later", 5),
      failed("wait", 6, { kind: "event", eventId: event!.eventId }),
      record("last", 7),
      retrying("backoff", 2),
    ],
  })
}
const seen = function* (s: Fixture) {
  const { records } = yield* s.history(1)
  return records.map((step) => [step.stepKey, step.carried])
}

export const transitionTests = (test: Test) => {
  describe("settling", () => {
    for (const status of ["completed", "failed", "cancelled", "dead_letter"] as const) {
      test(`a running run ends as ${status}, and its claim with it`, function* (s) {
        const claim = yield* s.hold(yield* s.worker(1), 1)
        yield* s.advance(10)
        const outcome = { result: json({ ok: [1] }), error: error("why") }
        yield* s.committed(claim, { transition: settle(status, outcome) })
        const row = yield* s.row(1)
        assert.deepStrictEqual(
          [row.status, row.workerId, row.token, row.completedAt, row.error, row.dueAt],
          [status, null, 1, start + 10, error("why"), null],
        )
        assert.deepStrictEqual(parse(row.result), { ok: [1] })
        assert.deepStrictEqual(yield* s.store.readSignals([claim]), [])
      })
    }

    for (const status of ["compensated", "failed", "dead_letter"] as const) {
      test(`a compensating run ends as ${status}, with the error that was undone`, function* (s) {
        const claim = yield* s.hold(yield* s.worker(1), 1)
        yield* s.committed(claim, { transition: compensate })
        yield* s.committed(claim, { transition: settle(status, { error: null }) })
        const row = yield* s.row(1)
        assert.deepStrictEqual(
          [row.status, row.compensating, row.error?.message],
          [status, true, "must undo"],
        )
      })
    }

    test("without an error clears the error of an earlier attempt", function* (s) {
      const a = yield* s.worker(1)
      yield* s.committed(yield* s.hold(a, 1), { transition: retryRun(null) })
      assert.strictEqual((yield* s.row(1)).error?.message, "attempt failed")
      yield* s.committed(yield* s.claimOnly(a, 1), { transition: settle("completed") })
      assert.isNull((yield* s.row(1)).error)
    })

    test("a child wakes its parent, once", function* (s) {
      const a = yield* s.worker(1)
      yield* s.hold(a, 1)
      const child = yield* s.hold(a, 2, childOf(1))
      const parts = { transition: settle("cancelled") }
      yield* s.committed(child, parts)
      yield* s.committed(child, parts)
      assert.strictEqual((yield* s.row(1)).wakeCounter, 1)
    })
  })

  describe("handing back", () => {
    test("makes the run pending and due now, its history intact", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.advance(10)
      yield* s.committed(claim, { records: [record("a", 1)], transition: handBack })
      const { status, dueAt, workerId, attempt } = yield* s.row(1)
      assert.deepStrictEqual([status, dueAt, workerId, attempt], ["pending", start + 10, null, 1])
      yield* s.claimOnly(a, 1)
      assert.strictEqual((yield* s.history(1)).records.length, 1)
    })
  })

  describe("beginning to compensate", () => {
    test("keeps the claim, and commits what came before", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.committed(claim, { records: [failed("a", 1)], transition: compensate })
      const row = yield* s.row(1)
      assert.deepStrictEqual(
        [row.status, row.compensating, row.workerId, row.token, row.error?.message],
        ["compensating", true, a, 1, "must undo"],
      )
      assert.strictEqual((yield* s.store.getSteps(id(1))).length, 1)
      yield* s.committed(claim, { records: [record("b", 2)] })
      const other = { _tag: "Compensate", error: error("undone already") } as const
      yield* s.committed(claim, { transition: other })
      assert.strictEqual((yield* s.row(1)).error?.message, "must undo", "why it began stays")
    })
  })

  describe("pausing", () => {
    test("shows its reason, keeps the history, and waits for a person", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.committed(claim, { records: [record("a", 1)], transition: pause })
      const { status, pauseReason, workerId, error: failure } = yield* s.row(1)
      assert.deepStrictEqual(
        [status, pauseReason?.message, workerId, failure],
        ["paused", "paused", null, null],
      )
      yield* s.advance(20_000)
      assert.deepStrictEqual(yield* s.claim(a), [])
      assert.strictEqual((yield* s.history(1)).records.length, 1)
    })

    test("ends by resume: due now, its reason gone", function* (s) {
      const a = yield* s.worker(1)
      yield* s.committed(yield* s.hold(a, 1), { transition: pause })
      yield* s.advance(10)
      assert.strictEqual(yield* s.store.resumeRun(id(1)), "resumed")
      const { status, dueAt, pauseReason } = yield* s.row(1)
      assert.deepStrictEqual([status, dueAt, pauseReason], ["pending", start + 10, null])
      assert.isFalse((yield* s.claimOnly(a, 1)).compensating)
    })

    test("while compensating ends by resume in compensating", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.committed(claim, { transition: compensate })
      yield* s.committed(claim, { transition: pause })
      assert.deepStrictEqual(
        [(yield* s.row(1)).status, (yield* s.row(1)).compensating],
        ["paused", true],
      )
      assert.strictEqual(yield* s.store.resumeRun(id(1)), "resumed")
      assert.strictEqual((yield* s.row(1)).status, "compensating")
      assert.isTrue((yield* s.claimOnly(a, 1)).compensating)
    })
  })

  describe("a run-level retry", () => {
    test("removes the failures from its position on, carries what completed", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* attempted(s, claim)
      yield* s.committed(claim, { transition: retryRun(4) })
      assert.deepStrictEqual(yield* seen(s), [
        ["a", false],
        ["caught", false],
        ["later", true],
        ["last", true],
      ])
    })

    test("without a position starts at the last failed record", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* attempted(s, claim)
      yield* s.committed(claim, { transition: retryRun(null) })
      assert.deepStrictEqual(yield* seen(s), [
        ["a", false],
        ["caught", false],
        ["f", false],
        ["later", false],
        ["last", true],
      ])
    })

    test("takes no copy of a failure that stands for a later one", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, { records: [failed("a", 1)] })
      yield* s.committed(claim, {
        records: [record("b", 2), failed("a", 3)],
        transition: retryRun(null, 0),
      })
      const { records } = yield* s.history(1)
      assert.deepStrictEqual(
        records.map((one) => [one.stepKey, one.position, one.carried]),
        [["b", 2, true]],
      )
    })

    test("of a run without failed records keeps them all", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, { records: [record("a", 1), record("b", 2)] })
      yield* s.committed(claim, { transition: retryRun(null) })
      assert.deepStrictEqual(yield* seen(s), [
        ["a", false],
        ["b", false],
      ])
    })

    test("removes the timers of removed records, and frees their events", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* attempted(s, claim)
      assert.strictEqual((yield* s.history(1)).events.length, 0)
      yield* s.committed(claim, { transition: retryRun(4) })
      const { timers, events } = yield* s.history(1)
      assert.deepStrictEqual(timers, [{ stepKey: "nap", wakeAt: start + 100 }])
      assert.strictEqual(events.length, 1)
    })

    test("lets a removed step be recorded anew, and keeps what is carried", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* attempted(s, claim)
      yield* s.committed(claim, { transition: retryRun(4) })
      const again = yield* s.claimOnly(a, 1)
      const records = [record("f", 8), record("later", 9, { result: json("changed") })]
      yield* s.committed(again, { records })
      const steps = yield* s.store.getSteps(id(1))
      const byKey = new Map(steps.map((step) => [step.stepKey, step]))
      assert.deepStrictEqual(
        [byKey.get("f")?.status, byKey.get("f")?.carried, byKey.get("f")?.position],
        ["completed", false, 8],
      )
      assert.deepStrictEqual(
        [parse(byKey.get("later")?.result), byKey.get("later")?.carried],
        ["later", true],
      )
      yield* s.committed(again, { transition: retryRun(null) })
      assert.isTrue((yield* s.store.getSteps(id(1))).find((r) => r.stepKey === "later")?.carried)
    })

    test("is the next attempt, due after its delay, with the error to see", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1, { maxAttempts: 3 })
      yield* s.advance(10)
      yield* s.committed(claim, { transition: retryRun(null, 500) })
      const row = yield* s.row(1)
      assert.deepStrictEqual(
        [row.status, row.attempt, row.dueAt, row.workerId, row.error?.message],
        ["pending", 2, start + 510, null, "attempt failed"],
      )
      yield* s.advance(499)
      assert.deepStrictEqual(yield* s.claim(a), [])
      yield* s.advance(1)
      const again = yield* s.claimOnly(a, 1)
      assert.deepStrictEqual([again.attempt, again.maxAttempts, again.hasHistory], [2, 3, true])
    })

    test("is due at the deadline, if that is sooner", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1, { timeoutMs: 200 })
      yield* s.committed(claim, { transition: retryRun(null, 500) })
      assert.strictEqual((yield* s.row(1)).dueAt, start + 200)
    })

    test("is due now, if a cancel is requested", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.cancel(1)
      yield* s.committed(claim, { transition: retryRun(null, 500) })
      assert.isNotNull((yield* s.claimOnly(a, 1)).cancelRequest)
    })

    test("starts children of a new attempt beside those of the old", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.committed(claim, { children: [newRun(2, childOf(1))] })
      yield* s.committed(yield* s.claimOnly(a, 2), { transition: settle("failed") })
      yield* s.committed(claim, { transition: retryRun(null) })
      const again = yield* s.claimOnly(a, 1)
      yield* s.committed(again, { children: [newRun(3, childOf(1, "child", 2))] })
      const { children } = yield* s.history(1)
      assert.deepStrictEqual(
        children.map((child) => [child.workflowRunId, child.parentAttempt, child.status]),
        [[id(3), 2, "pending"]],
      )
    })
  })
}
