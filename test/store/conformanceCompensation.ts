/** Undos: when the next try is due, and an operator's word on those that gave up. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Claim, CompensationWrite } from "../../src/WorkflowStore.ts"
import {
  compensate,
  error,
  failed,
  type Fixture,
  handBack,
  id,
  pause,
  record,
  retrying,
  settle,
  start,
  type Test,
} from "./conformanceFixture.ts"

const undo = (
  stepKey: string,
  status: CompensationWrite["status"],
  more: Partial<CompensationWrite> = {},
): CompensationWrite => ({ stepKey, status, attempts: 1, error: null, ...more })

/** A run with three steps to undo, of which `a` gave up and `b` is undone. */
const undoing = Effect.fnUntraced(function* (s: Fixture, more: { concurrencyKey?: string } = {}) {
  const claim: Claim = yield* s.hold(yield* s.worker(1), 1, more)
  yield* s.committed(claim, {
    records: ["a", "b", "c"].map((key, n) => record(key, n + 1, { hasCompensate: true })),
    transition: compensate,
  })
  yield* s.committed(claim, {
    compensations: [
      undo("a", "failed", { attempts: 3, error: error("stays") }),
      undo("b", "completed"),
    ],
  })
  return claim
})

const revise = (s: Fixture, verb: "retry" | "skip", stepKey: string | null = null) =>
  s.store.reviseCompensation({ workflowRunId: id(1), stepKey, verb })

const undosOf = (s: Fixture) =>
  Effect.map(s.store.getSteps(id(1)), (steps) =>
    steps.map(({ compensation }) => compensation && [compensation.status, compensation.attempts]),
  )

export const compensationTests = (test: Test) => {
  describe("undos", () => {
    test("say when their next try is due", function* (s) {
      const claim = yield* undoing(s)
      yield* s.advance(10)
      const again = undo("c", "retrying", { error: error("no"), retryDelayMs: 700 })
      yield* s.committed(claim, { compensations: [again] })
      const [, , c] = (yield* s.history(1)).records
      assert.deepStrictEqual(c?.compensation, {
        status: "retrying",
        attempts: 1,
        error: error("no"),
        retryAt: start + 710,
      })
      assert.deepStrictEqual((yield* s.store.getSteps(id(1)))[2], c)
      yield* s.committed(claim, { compensations: [undo("c", "completed", { attempts: 2 })] })
      const [, , done] = yield* s.store.getSteps(id(1))
      assert.strictEqual(done?.compensation?.retryAt, null)
    })

    test("of a step that is still `retrying` are kept on its record", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      const unknown = { ...retrying("u", 0), revision: 1, retryDelayMs: null, hasCompensate: true }
      yield* s.committed(claim, { records: [unknown] })
      yield* s.committed(claim, { transition: compensate })
      yield* s.committed(claim, { compensations: [undo("u", "completed")] })
      const [step] = yield* s.store.getSteps(id(1))
      assert.deepStrictEqual(
        [step?.status, step?.hasCompensate, step?.compensation?.status],
        ["retrying", true, "completed"],
      )
    })

    test("that gave up begin anew, and the run goes on undoing", function* (s) {
      const claim = yield* undoing(s)
      yield* s.committed(claim, {
        compensations: [undo("c", "failed")],
        transition: settle("failed"),
      })
      yield* s.advance(10)
      assert.strictEqual(yield* revise(s, "retry", "a"), "revised")
      assert.deepStrictEqual(yield* undosOf(s), [
        ["retrying", 0],
        ["completed", 1],
        ["failed", 1],
      ])
      const row = yield* s.row(1)
      assert.deepStrictEqual(
        [row.status, row.compensating, row.dueAt, row.completedAt, row.error?.message],
        ["compensating", true, start + 10, null, "failed"],
      )
      const claimed = yield* s.claimOnly(yield* s.worker(2), 1)
      assert.isTrue(claimed.compensating)
      // what the earlier holder still had under way changes nothing
      const late = yield* s.commit({
        workflowRunId: id(1),
        token: claim.token,
        timers: [],
        records: [],
        children: [],
        emitted: [],
        compensations: [undo("a", "completed", { attempts: 9 })],
        transition: null,
      })
      assert.strictEqual(late._tag, "lost")
      yield* s.committed(claimed, {
        compensations: [undo("a", "completed")],
        transition: settle("failed", { error: null }),
      })
      assert.strictEqual((yield* s.row(1)).error?.message, "failed")
      assert.strictEqual(yield* revise(s, "retry"), "revised")
      assert.deepStrictEqual((yield* undosOf(s))[2], ["retrying", 0])
    })

    test("that gave up can be skipped", function* (s) {
      const claim = yield* undoing(s)
      yield* s.committed(claim, {
        compensations: [undo("c", "failed")],
        transition: settle("failed"),
      })
      assert.strictEqual(yield* revise(s, "skip"), "revised")
      assert.deepStrictEqual(yield* undosOf(s), [
        ["skipped", 3],
        ["completed", 1],
        ["skipped", 1],
      ])
      assert.strictEqual((yield* s.row(1)).status, "compensating")
    })

    test("of a run that killed its workers while it undid can be retried", function* (s) {
      yield* undoing(s)
      yield* s.lapseAndSweep
      yield* s.claimOnly(yield* s.worker(2), 1)
      yield* s.lapseAndSweep
      assert.strictEqual((yield* s.row(1)).crashCount, 1)
      assert.strictEqual(yield* revise(s, "skip", "a"), "revised")
      assert.strictEqual((yield* s.row(1)).crashCount, 0)
      yield* s.claimOnly(yield* s.worker(3), 1)
      yield* s.lapseAndSweep
      yield* s.store.deadLetterPoison({ maxCrashes: 1, limit: 1 })
      assert.strictEqual(yield* revise(s, "retry", "c"), "revised")
      yield* s.claimOnly(yield* s.worker(4), 1)
    })

    test("that a paused run waits for can be skipped, one by one", function* (s) {
      const claim = yield* undoing(s)
      yield* s.committed(claim, { transition: pause })
      assert.strictEqual(yield* revise(s, "skip"), "which")
      assert.strictEqual(yield* revise(s, "retry", "a"), "refused")
      assert.strictEqual(yield* revise(s, "skip", "b"), "nothing")
      assert.strictEqual((yield* s.row(1)).status, "paused")
      assert.strictEqual(yield* revise(s, "skip", "c"), "revised")
      assert.deepStrictEqual((yield* undosOf(s))[2], ["skipped", 0])
      const row = yield* s.row(1)
      assert.deepStrictEqual([row.status, row.pauseReason], ["compensating", null])
    })

    test("that are skipped in their backoff have no next try", function* (s) {
      const claim = yield* undoing(s)
      const later = undo("c", "retrying", { error: error("no"), retryDelayMs: 60_000 })
      yield* s.committed(claim, { compensations: [later], transition: handBack })
      assert.strictEqual(yield* revise(s, "skip", "c"), "revised")
      const [, , c] = yield* s.store.getSteps(id(1))
      assert.deepStrictEqual([c?.compensation?.status, c?.compensation?.retryAt], ["skipped", null])
    })

    test("of a run that is held, that has not begun to undo, or is unknown are left alone", function* (s) {
      assert.strictEqual(yield* revise(s, "retry"), "unknown")
      const claim = yield* undoing(s)
      const before = yield* s.observe(1)
      assert.strictEqual(yield* revise(s, "skip", "c"), "refused")
      assert.strictEqual(yield* revise(s, "retry", "a"), "refused")
      assert.deepStrictEqual(yield* s.observe(1), before)
      yield* s.committed(claim, { transition: settle("compensated") })
      assert.strictEqual(yield* revise(s, "retry"), "refused")
      const other = yield* s.hold(yield* s.worker(2), 2)
      yield* s.committed(other, { records: [failed("a", 1)], transition: settle("failed") })
      const answer = yield* s.store.reviseCompensation({
        workflowRunId: id(2),
        stepKey: null,
        verb: "retry",
      })
      assert.strictEqual(answer, "refused")
    })

    test("stay as they are while another run holds the concurrency key", function* (s) {
      const claim = yield* undoing(s, { concurrencyKey: "k" })
      yield* s.committed(claim, {
        compensations: [undo("c", "failed")],
        transition: settle("failed"),
      })
      const other = yield* s.hold(yield* s.worker(2), 2, { concurrencyKey: "k" })
      const before = yield* s.observe(1)
      assert.strictEqual(yield* revise(s, "retry"), "refused")
      assert.deepStrictEqual(yield* s.observe(1), before)
      yield* s.committed(other, { transition: settle("completed") })
      assert.strictEqual(yield* revise(s, "retry"), "revised")
    })
  })
}
