/** Claims: who gets what, in which order; signals; handing back. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import {
  compensate,
  handBack,
  id,
  idsOf,
  leaseMs,
  newRun,
  park,
  parse,
  pause,
  record,
  settle,
  start,
  type Test,
  workerId,
} from "./conformanceFixture.ts"

export const claimTests = (test: Test) => {
  describe("claims", () => {
    test("a claimed run is the row as the claim left it", function* (s) {
      yield* s.insert(newRun(1, { version: "v1", timeoutMs: 60_000, maxAttempts: 3, priority: 2 }))
      yield* s.advance(5)
      const { input, ...claim } = yield* s.claimOnly(yield* s.worker(1), 1, {
        workflows: [{ name: "w", version: "v1" }],
      })
      assert.deepStrictEqual(parse(input), { n: 1 })
      assert.deepStrictEqual(claim, {
        workflowRunId: id(1),
        workflow: "w",
        version: "v1",
        token: 1,
        seed: id(1),
        compensating: false,
        attempt: 1,
        maxAttempts: 3,
        error: null,
        parent: null,
        createdAt: start,
        startedAt: start + 5,
        deadlineAt: start + 60_000,
        crashCount: 0,
        hasHistory: false,
        wakeCounter: 0,
        cancelRequest: null,
        pauseRequest: null,
        deadlinePassed: false,
      })
      const row = yield* s.row(1)
      assert.deepStrictEqual(
        [row.status, row.workerId, row.token, row.startedAt],
        ["running", workerId(1), 1, start + 5],
      )
    })

    test("a run is not claimed before its due time, and is claimed at it", function* (s) {
      const a = yield* s.worker(1)
      yield* s.insert(newRun(1, { scheduledFor: start + 1000 }))
      assert.deepStrictEqual(yield* s.claim(a), [])
      yield* s.advance(999)
      assert.deepStrictEqual(yield* s.claim(a), [])
      yield* s.advance(1)
      yield* s.claimOnly(a, 1)
    })

    test("the order is priority, then due time, then id, across workflows", function* (s) {
      const a = yield* s.worker(1)
      yield* s.insert(
        newRun(1, { scheduledFor: start + 20 }),
        newRun(2, { scheduledFor: start + 10, workflow: "x" }),
        newRun(3, { priority: -1, scheduledFor: start + 30 }),
        newRun(4, { priority: 1 }),
        newRun(6, { scheduledFor: start + 20, workflow: "x" }),
        newRun(5, { scheduledFor: start + 20 }),
      )
      yield* s.advance(50)
      const order = []
      for (let n = 0; n < 6; n++) {
        order.push(...idsOf(yield* s.claim(a, { limit: 1, workflows: ["w", "x"] })))
      }
      assert.deepStrictEqual(order, [3, 2, 1, 5, 6, 4].map(id))
    })

    test("an urgent run goes before many of another workflow that came first", function* (s) {
      const a = yield* s.worker(1)
      yield* s.insert(...Array.from({ length: 40 }, (_, n) => newRun(n + 10)))
      yield* s.advance(5)
      yield* s.insert(newRun(1, { priority: -1, workflow: "x" }))
      const claims = yield* s.claim(a, { limit: 1, workflows: ["w", "x"] })
      assert.deepStrictEqual(idsOf(claims), [id(1)])
    })

    test("one claim of many takes the best, whatever order it answers in", function* (s) {
      const a = yield* s.worker(1)
      yield* s.insert(...[5, 3, 4, 1, 2].map((n) => newRun(n, { priority: n })))
      const claims = yield* s.claim(a, { limit: 3 })
      assert.sameMembers(idsOf(claims), [1, 2, 3].map(id))
    })

    test("a run is claimed for its own version only; no version is a version", function* (s) {
      const versions = [null, "1", "2", null, "2"]
      yield* s.insert(...versions.map((version, n) => newRun(n + 1, { version })))
      const a = yield* s.worker(1)
      const ids = (
        workflows: ReadonlyArray<{ name: string; version: string | null }>,
        limit = 10,
      ) => Effect.map(s.claim(a, { workflows, limit }), idsOf)
      const w = (version: string | null) => ({ name: "w", version })
      assert.deepStrictEqual(yield* ids([w("3"), { name: "x", version: "2" }]), [])
      assert.deepStrictEqual(yield* ids([w("2")], 1), [id(3)])
      assert.deepStrictEqual(yield* ids([w(null), w("1"), w(null)]), [id(1), id(2), id(4)])
      assert.deepStrictEqual(yield* ids([w(null), w("1")]), [])
      // what was given back is, again, for its own version
      yield* s.store.releaseClaims([{ workflowRunId: id(3), token: 1 }])
      assert.deepStrictEqual(yield* ids([w(null), w("1")]), [])
      const claimed = yield* s.claim(a, { workflows: [w("2")] })
      assert.deepStrictEqual(idsOf(claimed), [id(3), id(5)])
      assert.deepStrictEqual(
        claimed.map(({ version }) => version),
        ["2", "2"],
      )
    })

    test("a run of a foreign version waits untouched, also as a suspect", function* (s) {
      yield* s.insert(newRun(1, { version: "1" }))
      const workflows = [{ name: "w", version: "1" }]
      for (const n of [1, 2]) {
        const worker = yield* s.worker(n)
        assert.deepStrictEqual(idsOf(yield* s.claim(worker, { workflows })), [id(1)])
        assert.strictEqual(yield* s.lapseAndSweep, 1)
        yield* TestClock.adjust(60_000)
      }
      const c = yield* s.worker(3)
      assert.deepStrictEqual(yield* s.claim(c, { suspects: true }), [])
      const other = [{ name: "w", version: "2" }]
      assert.deepStrictEqual(yield* s.claim(c, { suspects: true, workflows: other }), [])
      assert.deepStrictEqual(idsOf(yield* s.claim(c, { suspects: true, workflows })), [id(1)])
    })

    test("only the named workflows are claimed, however much foreign work waits", function* (s) {
      const a = yield* s.worker(1)
      yield* s.insert(...Array.from({ length: 30 }, (_, n) => newRun(n, { workflow: "foreign" })))
      yield* s.insert(newRun(99))
      assert.deepStrictEqual(idsOf(yield* s.claim(a, { limit: 1 })), [id(99)])
      assert.deepStrictEqual(yield* s.claim(a, { workflows: [] }), [])
    })

    test("a workflow that is named twice gives each run once", function* (s) {
      yield* s.insert(newRun(1), newRun(2))
      const claims = yield* s.claim(yield* s.worker(1), { workflows: ["w", "w"] })
      assert.sameMembers(idsOf(claims), [id(1), id(2)])
    })

    test("no more than the limit are claimed", function* (s) {
      const a = yield* s.worker(1)
      yield* s.insert(...[1, 2, 3].map((n) => newRun(n)))
      assert.strictEqual((yield* s.claim(a, { limit: 2 })).length, 2)
      assert.strictEqual((yield* s.claim(a, { limit: 2 })).length, 1)
    })

    test("a claimed run is claimed by nobody else", function* (s) {
      const a = yield* s.worker(1)
      const b = yield* s.worker(2)
      yield* s.insert(newRun(1))
      yield* s.claimOnly(a, 1)
      assert.deepStrictEqual(yield* s.claim(a), [])
      assert.deepStrictEqual(yield* s.claim(b), [])
    })

    test("workers that claim at once share the runs, and miss none", function* (s) {
      const workers = []
      for (let n = 1; n <= 4; n++) workers.push(yield* s.worker(n))
      yield* s.insert(...Array.from({ length: 40 }, (_, n) => newRun(n)))
      const claims = []
      for (let round = 0; round < 20 && claims.length < 40; round++) {
        const batch = workers.map((worker) => s.claim(worker, { limit: 5 }))
        claims.push(...(yield* Effect.all(batch, { concurrency: "unbounded" })).flat())
      }
      assert.strictEqual(claims.length, 40)
      assert.strictEqual(new Set(idsOf(claims)).size, 40)
    })

    test("tokens of a run strictly increase, whoever claims and however it ends", function* (s) {
      yield* s.insert(newRun(1))
      const tokens: Array<number> = []
      for (let n = 1; n <= 4; n++) {
        const claim = yield* s.claimOnly(yield* s.worker(n), 1)
        tokens.push(claim.token)
        if (n === 1) yield* s.committed(claim, { transition: handBack })
        if (n === 2) yield* s.store.releaseClaims([claim])
        if (n === 3) yield* s.committed(claim, { records: [record("a", 1)] })
        if (n === 3) yield* s.lapseAndSweep
      }
      assert.deepStrictEqual(
        tokens,
        [...new Set(tokens)].toSorted((a, b) => a - b),
      )
    })

    test("a worker without a live lease claims nothing", function* (s) {
      yield* s.insert(newRun(1))
      assert.deepStrictEqual(yield* s.claim(workerId(9)), [])
      const a = yield* s.worker(1)
      yield* s.advance(leaseMs)
      assert.deepStrictEqual(yield* s.claim(a), [])
      assert.strictEqual((yield* s.row(1)).status, "pending")
    })

    test("only the first claim of an untouched run has no history", function* (s) {
      const a = yield* s.worker(1)
      yield* s.insert(newRun(1))
      const first = yield* s.claimOnly(a, 1)
      assert.isFalse(first.hasHistory)
      yield* s.store.releaseClaims([first])
      assert.isTrue((yield* s.claimOnly(a, 1)).hasHistory)
    })

    test("an event that came before the first claim is history to read", function* (s) {
      yield* s.insert(newRun(1))
      yield* s.sendEvent(1)
      const claim = yield* s.claimOnly(yield* s.worker(1), 1)
      assert.isTrue(claim.hasHistory)
      assert.strictEqual(claim.wakeCounter, 1)
      assert.strictEqual((yield* s.history(1)).events.length, 1)
    })

    test("neither paused nor settled runs are claimed", function* (s) {
      const a = yield* s.worker(1)
      yield* s.committed(yield* s.hold(a, 1), { transition: pause })
      yield* s.committed(yield* s.hold(a, 2), { transition: settle("completed") })
      yield* s.committed(yield* s.hold(a, 3), { transition: settle("failed") })
      yield* s.advance(1000)
      assert.deepStrictEqual(yield* s.claim(a), [])
    })

    test("the first start stays the run's start", function* (s) {
      const a = yield* s.worker(1)
      yield* s.committed(yield* s.hold(a, 1), { transition: handBack })
      yield* s.advance(500)
      assert.strictEqual((yield* s.claimOnly(a, 1)).startedAt, start)
    })

    test("a claim to compensate names the error that must be undone", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.committed(claim, { transition: compensate })
      yield* s.committed(claim, { transition: handBack })
      const again = yield* s.claimOnly(a, 1)
      assert.isTrue(again.compensating)
      assert.strictEqual(again.error?.message, "must undo")
      assert.strictEqual((yield* s.row(1)).status, "compensating")
    })
  })

  describe("signals", () => {
    test("are read for the claims that are still held, and for no other", function* (s) {
      const a = yield* s.worker(1)
      const held = yield* s.hold(a, 1, { timeoutMs: 100 })
      const released = yield* s.hold(a, 2)
      yield* s.committed(released, { transition: park(0) })
      const stale = { workflowRunId: id(1), token: held.token + 1 }
      const unknown = { workflowRunId: id(9), token: 1 }
      yield* s.sendEvent(1)
      yield* s.cancel(1, true, "because")
      yield* s.advance(100)
      assert.deepStrictEqual(yield* s.store.readSignals([stale, released, unknown]), [])
      assert.deepStrictEqual(yield* s.store.readSignals([unknown, held]), [
        {
          workflowRunId: id(1),
          wakeCounter: 2,
          cancelRequest: { compensate: true, reason: "because" },
          pauseRequest: null,
          deadlinePassed: true,
        },
      ])
    })
  })

  describe("released claims", () => {
    test("are due now, for anybody", function* (s) {
      const a = yield* s.worker(1)
      const claims = [yield* s.hold(a, 1), yield* s.hold(a, 2)]
      yield* s.advance(10)
      assert.strictEqual(yield* s.store.releaseClaims(claims), 2)
      const { status, dueAt, workerId: holder } = yield* s.row(1)
      assert.deepStrictEqual([status, dueAt, holder], ["pending", start + 10, null])
      assert.strictEqual((yield* s.claim(yield* s.worker(2))).length, 2)
    })

    test("are released once: sent again, or stale, changes nothing", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      assert.strictEqual(yield* s.store.releaseClaims([claim]), 1)
      assert.strictEqual(yield* s.store.releaseClaims([claim]), 0)
      const again = yield* s.claimOnly(a, 1)
      const before = yield* s.observe(1)
      assert.strictEqual(yield* s.store.releaseClaims([claim]), 0)
      assert.deepStrictEqual(yield* s.observe(1), before)
      assert.notStrictEqual(again.token, claim.token)
    })

    test("of a compensating run leave it compensating", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.committed(claim, { transition: compensate })
      yield* s.store.releaseClaims([claim])
      assert.strictEqual((yield* s.row(1)).status, "compensating")
      assert.isTrue((yield* s.claimOnly(a, 1)).compensating)
    })
  })
}
