/** Leases, the sweeper, and the bound on poison runs. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { isTerminal } from "../../src/Run.ts"
import {
  childOf,
  compensate,
  error,
  failed,
  handBack,
  id,
  idsOf,
  leaseMs,
  newRun,
  park,
  pause,
  record,
  registration,
  retryRun,
  retrying,
  settle,
  start,
  type Test,
  workerId,
} from "./conformanceFixture.ts"

export const workerTests = (test: Test) => {
  describe("leases", () => {
    test("a heartbeat extends the lease from its own instant", function* (s) {
      const a = yield* s.worker(1)
      yield* s.insert(newRun(1))
      yield* s.advance(leaseMs - 1)
      assert.isTrue((yield* s.store.renewLease(registration(1))).renewed)
      yield* s.advance(leaseMs - 1)
      yield* s.claimOnly(a, 1)
    })

    test("a heartbeat grants the lease that it asks for", function* (s) {
      const a = yield* s.worker(1)
      yield* s.insert(newRun(1))
      yield* s.store.renewLease(registration(1, 2 * leaseMs))
      yield* s.advance(2 * leaseMs - 1)
      yield* s.claimOnly(a, 1)
    })

    test("a lapsed lease cannot be renewed, even if nobody swept it", function* (s) {
      const a = yield* s.worker(1)
      yield* s.insert(newRun(1))
      yield* s.advance(leaseMs)
      assert.isFalse((yield* s.store.renewLease(registration(1))).renewed)
      assert.isFalse((yield* s.store.renewLease(registration(1))).renewed)
      assert.deepStrictEqual(yield* s.claim(a), [])
    })

    test("a worker that never registered has no lease to renew", function* (s) {
      const answer = yield* s.store.renewLease(registration(1))
      assert.deepStrictEqual(answer, { renewed: false, claims: [] })
    })

    test("a worker id that is known is refused", function* (s) {
      yield* s.worker(1)
      const again = yield* Effect.flip(s.store.registerWorker(registration(1)))
      assert.strictEqual(again._tag, "StoreRejected")
    })

    test("a worker that holds nothing is forgotten an hour after its lease; its id is free then", function* (s) {
      yield* s.worker(1)
      const holding = yield* s.worker(2)
      yield* s.hold(holding, 1)
      yield* s.advance(leaseMs + 3_600_000)
      yield* Effect.flip(s.store.registerWorker(registration(1)))
      yield* s.advance(1)
      yield* s.worker(1)
      yield* Effect.flip(s.store.registerWorker(registration(2)))
    })

    test("a lapsed worker is told its claims, that it may know what it lost", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.advance(leaseMs)
      const answer = yield* s.store.renewLease(registration(1))
      assert.deepStrictEqual(answer, { renewed: false, claims: [claim] })
    })

    test("a heartbeat lists the claims that the store holds for the worker", function* (s) {
      const a = yield* s.worker(1)
      const b = yield* s.worker(2)
      yield* s.hold(a, 1)
      const released = yield* s.hold(a, 2)
      yield* s.hold(b, 3)
      yield* s.committed(released, { transition: handBack })
      yield* s.insert(newRun(4))
      const [first] = yield* s.claim(a, { limit: 1 })
      const { claims } = yield* s.store.renewLease(registration(1))
      const byRun = [...claims].toSorted((x, y) => (x.workflowRunId < y.workflowRunId ? -1 : 1))
      assert.deepStrictEqual(byRun, [
        { workflowRunId: id(1), token: 1 },
        { workflowRunId: first!.workflowRunId, token: first!.token },
      ])
    })

    test("a retired worker can neither renew nor claim, and its claims are swept", function* (s) {
      const a = yield* s.worker(1)
      yield* s.hold(a, 1)
      yield* s.insert(newRun(2))
      yield* s.store.retireWorker(a)
      assert.isFalse((yield* s.store.renewLease(registration(1))).renewed)
      assert.deepStrictEqual(yield* s.claim(a), [])
      assert.strictEqual(yield* s.store.sweep({ limit: 10 }), 1)
      assert.isNull((yield* s.row(1)).workerId)
    })
  })

  describe("sweep", () => {
    test("returns the runs of a lapsed worker, under a fresh token", function* (s) {
      const a = yield* s.worker(1)
      yield* s.hold(a, 1)
      assert.strictEqual(yield* s.store.sweep({ limit: 10 }), 0)
      yield* s.advance(leaseMs - 1)
      assert.strictEqual(yield* s.store.sweep({ limit: 10 }), 0)
      yield* s.advance(1)
      assert.strictEqual(yield* s.store.sweep({ limit: 10 }), 1)
      const { status, workerId: holder, token } = yield* s.row(1)
      assert.deepStrictEqual(
        { status, holder, token },
        { status: "pending", holder: null, token: 2 },
      )
      assert.strictEqual(yield* s.store.sweep({ limit: 10 }), 0)
    })

    test("leaves the runs of live workers alone", function* (s) {
      const a = yield* s.worker(1)
      const b = yield* s.worker(2, 2 * leaseMs)
      yield* s.hold(a, 1)
      yield* s.hold(b, 2)
      assert.strictEqual(yield* s.lapseAndSweep, 1)
      assert.strictEqual((yield* s.row(2)).workerId, b)
      assert.strictEqual((yield* s.row(2)).status, "running")
    })

    test("a compensating run stays compensating, and is claimed to compensate", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.committed(claim, { records: [record("a", 1)], transition: compensate })
      yield* s.lapseAndSweep
      assert.strictEqual((yield* s.row(1)).status, "compensating")
      const b = yield* s.worker(2)
      assert.isTrue((yield* s.claimOnly(b, 1)).compensating)
    })

    test("takes no more than its limit, and the rest later", function* (s) {
      const a = yield* s.worker(1)
      for (let n = 1; n <= 5; n++) yield* s.hold(a, n)
      yield* s.advance(leaseMs)
      assert.strictEqual(yield* s.store.sweep({ limit: 3 }), 3)
      assert.strictEqual(yield* s.store.sweep({ limit: 3 }), 2)
    })

    test("sees a worker that lapsed hours ago while it still held a run", function* (s) {
      const a = yield* s.worker(1)
      yield* s.hold(a, 1)
      yield* s.advance(5 * 3_600_000)
      yield* s.worker(2)
      assert.strictEqual(yield* s.store.sweep({ limit: 10 }), 1)
    })
  })

  describe("crashes", () => {
    test("each claim that ends without a record doubles the delay of the next", function* (s) {
      const delays = []
      yield* s.insert(newRun(1))
      for (let n = 1; n <= 4; n++) {
        const worker = yield* s.worker(n)
        yield* s.claimOnly(worker, 1, { suspects: n > 2 })
        yield* s.lapseAndSweep
        const { dueAt, crashCount } = yield* s.row(1)
        assert.strictEqual(crashCount, n)
        delays.push(dueAt! - (yield* s.store.now))
        yield* s.advance(dueAt! - (yield* s.store.now))
      }
      assert.deepStrictEqual(delays, [1000, 2000, 4000, 8000])
    })

    test("the delay grows to twelve days, and no longer", function* (s) {
      yield* s.insert(newRun(1))
      const delays = []
      for (let n = 1; n <= 23; n++) {
        const worker = yield* s.worker(n)
        yield* s.claimOnly(worker, 1, { suspects: n > 2 })
        yield* s.lapseAndSweep
        const delay = (yield* s.row(1)).dueAt! - (yield* s.store.now)
        delays.push(delay)
        yield* s.advance(delay)
      }
      assert.deepStrictEqual(
        delays.slice(-4),
        [19, 20, 20, 20].map((power) => 1000 * 2 ** power),
      )
    })

    for (const [what, parts] of [
      ["a record", { records: [record("b", 2)] }],
      ["a failure", { records: [failed("b", 2)] }],
      ["a backoff", { records: [retrying("b", 1)] }],
      [
        "an undo",
        { compensations: [{ stepKey: "a", status: "completed", attempts: 1, error: null }] },
      ],
    ] as const) {
      test(`${what} written under the claim makes its end no crash: due at once`, function* (s) {
        const a = yield* s.worker(1)
        yield* s.hold(a, 1)
        yield* s.lapseAndSweep
        yield* s.advance(1000)
        const again = yield* s.claimOnly(yield* s.worker(2), 1)
        assert.strictEqual(again.crashCount, 1)
        yield* s.committed(again, {
          records: [record("a", 1)],
          // an earlier try of the undo, under an earlier claim
          compensations: [{ stepKey: "a", status: "retrying", attempts: 1, error: error("no") }],
          transition: handBack,
        })
        const last = yield* s.claimOnly(yield* s.worker(3), 1)
        yield* s.committed(last, parts)
        yield* s.lapseAndSweep
        const { crashCount, dueAt } = yield* s.row(1)
        assert.deepStrictEqual([crashCount, dueAt], [0, yield* s.store.now])
      })
    }

    for (const [what, transition] of [
      ["parking", park(0)],
      ["handing back", handBack],
      ["settling", settle("failed")],
      ["pausing", pause],
      ["a run-level retry", retryRun(null)],
    ] as const) {
      test(`${what} resets the crash count`, function* (s) {
        yield* s.hold(yield* s.worker(1), 1)
        yield* s.lapseAndSweep
        yield* s.advance(1000)
        const claim = yield* s.claimOnly(yield* s.worker(2), 1)
        yield* s.committed(claim, { transition })
        assert.strictEqual((yield* s.row(1)).crashCount, 0)
      })
    }

    test("releasing a claim keeps the crash count", function* (s) {
      yield* s.hold(yield* s.worker(1), 1)
      yield* s.lapseAndSweep
      yield* s.advance(1000)
      const claim = yield* s.claimOnly(yield* s.worker(2), 1)
      assert.strictEqual(yield* s.store.releaseClaims([claim]), 1)
      assert.strictEqual((yield* s.row(1)).crashCount, 1)
    })

    test("a run with two crashes is claimed as a suspect, and only so", function* (s) {
      yield* s.insert(newRun(1))
      for (const n of [1, 2]) {
        yield* s.claimOnly(yield* s.worker(n), 1)
        yield* s.lapseAndSweep
        yield* s.advance(10_000)
      }
      const c = yield* s.worker(3)
      yield* s.insert(newRun(2))
      assert.deepStrictEqual(idsOf(yield* s.claim(c)), [id(2)])
      const suspect = yield* s.claimOnly(c, 1, { suspects: true })
      assert.strictEqual(suspect.crashCount, 2)
      yield* s.insert(newRun(3))
      assert.deepStrictEqual(yield* s.claim(c, { suspects: true }), [])
    })

    test("a frozen worker that returns gives back the crashes it was charged with", function* (s) {
      const a = yield* s.worker(1)
      yield* s.hold(a, 1)
      yield* s.hold(a, 2)
      yield* s.lapseAndSweep
      assert.strictEqual(yield* s.store.refundCrashes(workerId(9)), 0)
      assert.strictEqual(yield* s.store.refundCrashes(a), 2)
      assert.strictEqual((yield* s.row(1)).crashCount, 0)
      assert.strictEqual(yield* s.store.refundCrashes(a), 0)
    })

    test("a refund leaves the crashes of other workers, and a suspect may be none", function* (s) {
      const a = yield* s.worker(1)
      yield* s.hold(a, 1)
      yield* s.lapseAndSweep
      yield* s.advance(1000)
      yield* s.claimOnly(yield* s.worker(2), 1)
      yield* s.lapseAndSweep
      yield* s.advance(2000)
      assert.strictEqual(yield* s.store.refundCrashes(a), 1)
      assert.strictEqual((yield* s.row(1)).crashCount, 1)
      // asked again, because the answer was lost
      assert.strictEqual(yield* s.store.refundCrashes(a), 0)
      assert.strictEqual((yield* s.row(1)).crashCount, 1)
      yield* s.claimOnly(yield* s.worker(3), 1)
    })
  })

  describe("poison", () => {
    test("a run at the limit of crashes is dead-lettered, with its reason", function* (s) {
      yield* s.hold(yield* s.worker(1), 1)
      yield* s.hold(workerId(1), 2)
      yield* s.committed({ workflowRunId: id(2), token: 1 }, { records: [record("a", 1)] })
      yield* s.lapseAndSweep
      assert.deepStrictEqual(yield* s.store.deadLetterPoison({ maxCrashes: 2, limit: 10 }), [])
      assert.deepStrictEqual(yield* s.store.deadLetterPoison({ maxCrashes: 1, limit: 10 }), [id(1)])
      const dead = yield* s.row(1)
      assert.strictEqual(dead.status, "dead_letter")
      assert.isTrue(isTerminal(dead.status))
      assert.isNotNull(dead.error)
      assert.strictEqual(dead.completedAt, start + leaseMs)
      assert.strictEqual(dead.crashCount, 0)
      assert.deepStrictEqual(yield* s.store.deadLetterPoison({ maxCrashes: 1, limit: 10 }), [])
      assert.strictEqual((yield* s.row(2)).status, "pending")
    })

    test("a run and its child may be dead-lettered in one go", function* (s) {
      const worker = yield* s.worker(1)
      yield* s.hold(worker, 1)
      yield* s.hold(worker, 2, childOf(1))
      yield* s.lapseAndSweep
      const dead = yield* s.store.deadLetterPoison({ maxCrashes: 1, limit: 10 })
      assert.deepStrictEqual(dead.toSorted(), [id(1), id(2)])
      for (const n of [1, 2]) assert.strictEqual((yield* s.row(n)).status, "dead_letter")
    })

    test("a run in somebody's hands is not dead-lettered", function* (s) {
      yield* s.hold(yield* s.worker(1), 1)
      yield* s.lapseAndSweep
      yield* s.advance(1000)
      yield* s.claimOnly(yield* s.worker(2), 1)
      assert.deepStrictEqual(yield* s.store.deadLetterPoison({ maxCrashes: 1, limit: 10 }), [])
    })

    test("a paused run is left to the person it waits for, and judged when it was resumed", function* (s) {
      yield* s.hold(yield* s.worker(1), 1)
      yield* s.lapseAndSweep
      const asked = { workflowRunId: id(1), error: error("paused"), reason: null }
      assert.deepStrictEqual(yield* s.store.pauseRuns([asked]), ["paused"])
      const poison = { maxCrashes: 1, limit: 10 }
      assert.deepStrictEqual(yield* s.store.deadLetterPoison(poison), [])
      assert.strictEqual((yield* s.row(1)).status, "paused")
      yield* s.store.resumeRun(id(1), null)
      assert.deepStrictEqual(yield* s.store.deadLetterPoison(poison), [id(1)])
    })

    test("a pause that its holder did not live to see is over with the run", function* (s) {
      yield* s.hold(yield* s.worker(1), 1)
      const asked = { workflowRunId: id(1), error: error("paused"), reason: null }
      assert.deepStrictEqual(yield* s.store.pauseRuns([asked]), ["requested"])
      yield* s.lapseAndSweep
      yield* s.store.deadLetterPoison({ maxCrashes: 1, limit: 10 })
      const { status, pauseRequest } = yield* s.row(1)
      assert.deepStrictEqual([status, pauseRequest], ["dead_letter", null])
    })

    test("the error of its last attempt is the cause of a dead letter's", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, { transition: retryRun(null) })
      yield* s.claimOnly(workerId(1), 1)
      yield* s.lapseAndSweep
      yield* s.store.deadLetterPoison({ maxCrashes: 1, limit: 10 })
      const dead = yield* s.row(1)
      assert.deepStrictEqual(
        [dead.error?.tag, dead.error?.cause?.message],
        ["PoisonRun", "attempt failed"],
      )
    })

    test("no more than the limit are dead-lettered at once", function* (s) {
      const a = yield* s.worker(1)
      for (const n of [1, 2, 3]) yield* s.hold(a, n)
      yield* s.lapseAndSweep
      assert.strictEqual((yield* s.store.deadLetterPoison({ maxCrashes: 1, limit: 2 })).length, 2)
      assert.strictEqual((yield* s.store.deadLetterPoison({ maxCrashes: 1, limit: 2 })).length, 1)
    })

    test("a dead-lettered child wakes its parent", function* (s) {
      const parent = yield* s.hold(yield* s.worker(1, 10 * leaseMs), 1)
      yield* s.committed(parent, { children: [newRun(2, childOf(1))], transition: park(0) })
      yield* s.claimOnly(yield* s.worker(2), 2)
      yield* s.lapseAndSweep
      yield* s.store.deadLetterPoison({ maxCrashes: 1, limit: 10 })
      const { status, wakeCounter } = yield* s.row(1)
      assert.deepStrictEqual([status, wakeCounter], ["pending", 1])
    })

    test("a compensating run can be poison too, and cannot be retried then", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, { transition: compensate })
      yield* s.lapseAndSweep
      assert.deepStrictEqual(yield* s.store.deadLetterPoison({ maxCrashes: 1, limit: 10 }), [id(1)])
      assert.isTrue((yield* s.row(1)).compensating)
      assert.strictEqual(yield* s.store.retryRun(id(1)), "not-retryable")
    })
  })
}
