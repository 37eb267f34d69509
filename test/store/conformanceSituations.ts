/** Why a run does not move: every answer, from what each store tells. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { explain } from "../../src/engine/explain.ts"
import { encodeError } from "../../src/ErrorPayload.ts"
import { RunPaused } from "../../src/FlowlyError.ts"
import type { ParkedWait, Transition } from "../../src/WorkflowStore.ts"
import {
  childOf,
  type Fixture,
  id,
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

const explained = (s: Fixture, n: number) =>
  Effect.map(s.store.getSituation(id(n)), (situation) => {
    assert.isNotNull(situation)
    return explain(situation, null)
  })

const waitOn = (wait: Partial<ParkedWait>): ParkedWait => ({
  stepKey: "s",
  kind: "sleep",
  event: null,
  until: null,
  attempt: null,
  maxAttempts: null,
  ...wait,
})

const parkedOn = (
  wakeCounter: number,
  ...waits: ReadonlyArray<Partial<ParkedWait>>
): Transition => ({
  _tag: "Park",
  status: "waiting",
  dueAt: null,
  delayMs: 9000,
  wakeCounter,
  waits: waits.map(waitOn),
})

export const situationTests = (test: Test) => {
  describe("an explanation", () => {
    test("of a run that waits names what for, and until when", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, {
        timers: [{ stepKey: "nap", delayMs: 9000 }],
        records: [retrying("flaky", 2, 9500)],
        children: [newRun(2, childOf(1))],
        transition: parkedOn(
          0,
          { stepKey: "nap", kind: "sleep", until: start + 9000 },
          { stepKey: "flaky", kind: "backoff", attempt: 3, maxAttempts: 5, until: start + 9500 },
          { stepKey: "go", kind: "event", event: "approved" },
          { stepKey: "child", kind: "child" },
        ),
      })
      const answer = yield* explained(s, 1)
      assert.strictEqual(answer._tag, "waiting")
      assert.deepStrictEqual(answer._tag === "waiting" ? answer.for : [], [
        { kind: "sleep", stepKey: "nap", until: start + 9000 },
        { kind: "backoff", stepKey: "flaky", attempt: 3, maxAttempts: 5, until: start + 9500 },
        { kind: "event", stepKey: "go", event: "approved", until: null },
        { kind: "child", stepKey: "child", workflowRunId: id(2), status: "pending" },
      ])
      for (const word of ["nap", "attempt 3 of 5", '"approved"', id(2), "pending"]) {
        assert.include(answer.summary, word)
      }
    })

    test("tells the time to which a sleep was moved", function* (s) {
      const a = yield* s.worker(1)
      const wait = { stepKey: "nap", kind: "sleep", until: start + 9000 } as const
      const claim = yield* s.hold(a, 1)
      yield* s.committed(claim, {
        timers: [{ stepKey: "nap", delayMs: 9000 }],
        transition: parkedOn(0, wait),
      })
      const options = { workflowRunIds: [id(1)], at: start + 500, sleep: null, reason: null }
      yield* s.store.rescheduleRuns(options)
      const again = yield* s.claimOnly(a, 1)
      yield* s.committed(again, { transition: parkedOn(1, wait) })
      assert.deepInclude(yield* explained(s, 1), {
        _tag: "waiting",
        for: [{ kind: "sleep", stepKey: "nap", until: start + 500 }],
      })
    })

    test("tells nothing of what a run waited for when it parked before", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      const wait = { stepKey: "go", kind: "event", event: "approved" } as const
      yield* s.committed(claim, { transition: parkedOn(0, wait) })
      yield* s.sendEvent(1)
      const again = yield* s.claimOnly(a, 1)
      yield* s.committed(again, { transition: park(1, { delayMs: 9000 }) })
      assert.strictEqual((yield* explained(s, 1))._tag, "backing-off")
    })

    test("of a held run names its worker, its last heartbeat, and what it was asked", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.advance(1000)
      yield* s.committed(claim, { records: [record("done", 1)] })
      yield* s.cancel(1)
      assert.deepInclude(yield* explained(s, 1), {
        _tag: "executing",
        worker: {
          workerId: a,
          label: "worker",
          heartbeatAt: start,
          leaseExpiresAt: start + leaseMs,
        },
        steps: null,
        lastStep: { stepKey: "done", completedAt: start + 1000 },
        asked: "cancel",
      })
      yield* s.advance(leaseMs)
      assert.strictEqual((yield* explained(s, 1))._tag, "lapsed")
    })

    test("of a paused run tells who paused it", function* (s) {
      const a = yield* s.worker(1)
      yield* s.committed(yield* s.hold(a, 1), { transition: pause })
      yield* s.insert(newRun(2))
      const error = encodeError(new RunPaused({ workflowRunId: id(2), reason: "audit" }))
      yield* s.store.pauseRuns([{ workflowRunId: id(2), error, reason: "audit" }])
      assert.deepInclude(yield* explained(s, 1), { _tag: "paused", byOperator: false })
      const byHand = yield* explained(s, 2)
      assert.deepInclude(byHand, { _tag: "paused", byOperator: true })
      assert.include(byHand.summary, "audit")
    })

    test("of a run that is not due tells when it is, and why", function* (s) {
      const a = yield* s.worker(1)
      yield* s.insert(newRun(1, { scheduledFor: start + 9000 }))
      const failing = yield* s.hold(a, 2, { maxAttempts: 3 })
      yield* s.committed(failing, { transition: retryRun(null, 5000) })
      yield* s.hold(a, 3)
      assert.deepInclude(yield* explained(s, 1), { _tag: "scheduled", until: start + 9000 })
      const backingOff = { _tag: "backing-off", attempt: 2, maxAttempts: 3, crashes: 0 } as const
      assert.deepInclude(yield* explained(s, 2), { ...backingOff, until: start + 5000 })
      yield* s.lapseAndSweep
      const crashed = { _tag: "backing-off", attempt: 1, crashes: 1 } as const
      assert.deepInclude(yield* explained(s, 3), { ...crashed, until: start + leaseMs + 1000 })
    })

    test("of a due run tells that no live worker knows it, or how many are before it", function* (s) {
      yield* s.insert(newRun(1), newRun(2, { version: "v2" }), newRun(3, { priority: -1 }))
      const alone = yield* explained(s, 1)
      assert.deepInclude(alone, { _tag: "no-worker", workflow: "w", workers: 0, versions: [] })
      yield* s.worker(1)
      assert.deepInclude(yield* explained(s, 1), { _tag: "queued", ahead: 1, since: start })
      assert.deepInclude(yield* explained(s, 3), { _tag: "queued", ahead: 0 })
      const versions: ReadonlyArray<string | null> = [null]
      const other = yield* explained(s, 2)
      assert.deepInclude(other, { _tag: "no-worker", version: "v2", workers: 1, versions })
      const workflows = [{ name: "w", version: "v2" }]
      yield* s.store.registerWorker({ ...registration(2), workerId: workerId(2), workflows })
      assert.deepInclude(yield* explained(s, 2), { _tag: "queued", ahead: 0 })
      yield* s.advance(leaseMs)
      assert.deepInclude(yield* explained(s, 1), { _tag: "no-worker", workers: 0 })
    })

    test("of a due run counts what has become due, and of a run that is not due nothing", function* (s) {
      yield* s.insert(newRun(1, { priority: -1, scheduledFor: start + 1000 }))
      yield* s.advance(2000)
      yield* s.insert(newRun(2), newRun(3))
      yield* s.cancel(3)
      assert.strictEqual((yield* s.store.getSituation(id(2)))?.ahead, 1)
      assert.strictEqual((yield* s.store.getSituation(id(3)))?.ahead, 0)
    })

    test("of a due run counts no suspects, and no runs of other workflows or versions", function* (s) {
      const a = yield* s.worker(1)
      yield* s.hold(a, 1, { priority: -1 })
      yield* s.lapseAndSweep
      yield* s.advance(5000)
      yield* s.claimOnly(yield* s.worker(2), 1)
      yield* s.lapseAndSweep
      yield* s.insert(newRun(2, { workflow: "x" }), newRun(3, { version: "v2" }), newRun(4))
      yield* s.advance(60_000)
      yield* s.insert(newRun(5))
      assert.strictEqual((yield* s.row(1)).crashCount, 2)
      assert.strictEqual((yield* s.store.getSituation(id(5)))?.ahead, 1)
      assert.strictEqual((yield* s.store.getSituation(id(1)))?.ahead, 0)
    })

    test("tells the last step in the order of completion, and no waits of a run that has ended", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, { records: [record("b", 2), record("c", 3)] })
      yield* s.committed(claim, { records: [retrying("d", 1), record("a", 1)] })
      const wait = { stepKey: "go", kind: "event", event: "approved" } as const
      yield* s.committed(claim, { transition: parkedOn(0, wait) })
      assert.strictEqual((yield* s.store.getSituation(id(1)))?.lastStep?.stepKey, "c")
      assert.strictEqual((yield* s.store.getSituation(id(1)))?.waits.length, 1)
      const error = encodeError(new RunPaused({ workflowRunId: id(1), reason: "over" }))
      yield* s.store.terminateRuns([{ workflowRunId: id(1), error, reason: "over" }])
      assert.deepStrictEqual((yield* s.store.getSituation(id(1)))?.waits, [])
    })

    test("of a held run tells its worker's last heartbeat, also when that was retired", function* (s) {
      const a = yield* s.worker(1)
      yield* s.hold(a, 1)
      yield* s.advance(5)
      // a heartbeat brings another list of workflows, and no other name
      yield* s.store.renewLease({ ...registration(1), workerId: a, label: "other", workflows: [] })
      yield* s.advance(7)
      yield* s.store.retireWorker(a)
      const holder = (yield* s.store.getSituation(id(1)))?.holder
      const told = { heartbeatAt: start + 5, leaseExpiresAt: start + 12, label: "worker" }
      assert.deepInclude(holder as object, { ...told, workflows: [], isLive: false })
    })

    test("of a run that has ended tells how, and who has its key", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1, { concurrencyKey: "k" })
      yield* s.committed(claim, { transition: settle("failed") })
      const before = yield* explained(s, 1)
      assert.deepInclude(before, { _tag: "settled", status: "failed", at: start, keyHolder: null })
      yield* s.insert(newRun(2, { concurrencyKey: "k" }))
      assert.deepInclude(yield* explained(s, 1), { _tag: "settled", keyHolder: id(2) })
    })

    test("of no run is none", function* (s) {
      assert.isNull(yield* s.store.getSituation(id(9)))
      assert.isNull(yield* s.store.getSituation("nobody"))
    })
  })
}
