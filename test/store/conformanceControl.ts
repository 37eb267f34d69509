/** What operators ask of a run beyond cancel, resume and retry; and the log of all of it. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import {
  childOf,
  compensate,
  error,
  type Fixture,
  handBack,
  id,
  newRun,
  park,
  pause,
  record,
  retryRun,
  retrying,
  settle,
  sleepEnd,
  start,
  type Test,
  write,
} from "./conformanceFixture.ts"

export const terminate = (s: Fixture, ...ns: ReadonlyArray<number>) =>
  s.store.terminateRuns(
    ns.map((n) => ({ workflowRunId: id(n), error: error("terminated"), reason: "why" })),
  )

export const askPause = (s: Fixture, ...ns: ReadonlyArray<number>) =>
  s.store.pauseRuns(
    ns.map((n) => ({ workflowRunId: id(n), error: error("paused by hand"), reason: "why" })),
  )

export const wake = (s: Fixture, n: number, endSleeps = true) =>
  Effect.map(
    s.store.wakeRuns({ workflowRunIds: [id(n)], endSleeps, reason: "why" }),
    ([answer]) => answer,
  )

export const reschedule = (s: Fixture, n: number, at: number, sleep: string | null = null) =>
  Effect.map(
    s.store.rescheduleRuns({ workflowRunIds: [id(n)], at, sleep, reason: "why" }),
    ([answer]) => answer,
  )

/** What the control log holds of run `n`. */
export const logOf = (s: Fixture, n: number) =>
  Effect.map(s.store.getControls(id(n)), (log) =>
    log.map(({ verb, reason, detail }) => [verb, reason, detail]),
  )

/** Run `n`, parked on the sleep "nap" for a minute. */
const asleep = function* (s: Fixture, worker: string, n: number) {
  const claim = yield* s.hold(worker, n)
  yield* s.committed(claim, {
    timers: [{ stepKey: "nap", delayMs: 60_000 }],
    transition: park(0, { status: "sleeping", delayMs: 60_000 }),
  })
  return claim
}

export const controlTests = (test: Test) => {
  describe("terminate", () => {
    test("ends a run at once, whoever holds it, and says so", function* (s) {
      const a = yield* s.worker(1)
      const held = yield* s.hold(a, 1)
      yield* s.committed(held, { records: [record("done", 1, { hasCompensate: true })] })
      yield* s.insert(newRun(2))
      yield* s.committed(yield* s.hold(a, 3), { transition: pause })
      yield* s.advance(5)
      assert.deepStrictEqual(yield* terminate(s, 1, 2, 3, 9), [
        "terminated",
        "terminated",
        "terminated",
        "unknown",
      ])
      for (const n of [1, 2, 3]) {
        const { status, error: reason, workerId, completedAt, dueAt, pauseReason } = yield* s.row(n)
        assert.deepStrictEqual(
          [status, workerId, dueAt, pauseReason],
          ["cancelled", null, null, null],
        )
        assert.deepStrictEqual([reason?.message, completedAt], ["terminated", start + 5])
        assert.deepStrictEqual(yield* logOf(s, n), [["terminate", "why", {}]])
      }
      assert.deepStrictEqual(yield* s.claim(a), [])
    })

    test("fences the holder out: his next write is lost, and no signal is his", function* (s) {
      const held = yield* s.hold(yield* s.worker(1), 1)
      yield* terminate(s, 1)
      for (const transition of [null, handBack, park(0), settle("completed")]) {
        const answer = yield* s.commit(write(held, { records: [record("late", 1)], transition }))
        assert.strictEqual(answer._tag, "lost")
      }
      assert.deepStrictEqual(yield* s.store.readSignals([held]), [])
      assert.deepStrictEqual((yield* s.history(1)).records, [])
    })

    test("keeps the error that the run had as its cause", function* (s) {
      const held = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(held, { transition: compensate })
      assert.deepStrictEqual(yield* terminate(s, 1), ["terminated"])
      const row = yield* s.row(1)
      assert.deepStrictEqual([row.status, row.compensating], ["cancelled", true])
      assert.strictEqual(row.error?.cause?.message, "must undo")
    })

    test("forgets that its workers died", function* (s) {
      yield* s.hold(yield* s.worker(1), 1)
      yield* s.lapseAndSweep
      yield* terminate(s, 1)
      assert.strictEqual((yield* s.row(1)).crashCount, 0)
    })

    test("of a run that has ended changes nothing", function* (s) {
      yield* s.committed(yield* s.hold(yield* s.worker(1), 1), { transition: settle("failed") })
      const before = yield* s.observe(1)
      assert.deepStrictEqual(yield* terminate(s, 1), ["terminal"])
      assert.deepStrictEqual(yield* s.observe(1), before)
      assert.deepStrictEqual(yield* logOf(s, 1), [])
    })

    test("wakes the parent, and asks the children to cancel", function* (s) {
      const a = yield* s.worker(1)
      const parent = yield* s.hold(a, 1)
      yield* s.committed(parent, { children: [newRun(2, childOf(1))], transition: park(0) })
      const middle = yield* s.claimOnly(a, 2)
      const children = [3, 4, 5].map((n) => newRun(n, childOf(2, `child ${n}`)))
      yield* s.committed(middle, { children })
      const [, begun] = [yield* s.claim(a, { limit: 1 }), yield* s.claim(a, { limit: 1 })]
      yield* s.committed(begun[0]!, { transition: settle("completed") })
      assert.deepStrictEqual(yield* terminate(s, 2), ["terminated"])
      assert.deepStrictEqual((yield* s.row(1)).status, "pending")
      assert.strictEqual((yield* s.history(1)).children[0]?.status, "cancelled")
      const [held, settled, fresh] = [yield* s.row(3), yield* s.row(4), yield* s.row(5)]
      assert.deepStrictEqual(
        [held.status, held.cancelRequest?.reason],
        ["running", "its parent was terminated"],
      )
      assert.deepStrictEqual([settled.status, settled.cancelRequest], ["completed", null])
      assert.strictEqual(fresh.status, "cancelled")
      assert.strictEqual((yield* logOf(s, 5))[0]?.[0], "cancel")
    })

    test("leaves the deadline of a step alone when sleeps are ended", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, {
        timers: [
          { stepKey: "step", delayMs: 5000 },
          { stepKey: "nap", delayMs: 5000 },
          { stepKey: "wait", delayMs: 5000 },
        ],
        records: [
          { ...retrying("step", 1), retryDelayMs: 3000 },
          { ...retrying("wait", 0), kind: "event", retryDelayMs: null },
          // begun, and no more
          { ...retrying("begun", 0), retryDelayMs: null },
        ],
        transition: park(0, { delayMs: 3000 }),
      })
      yield* wake(s, 1)
      const { timers, dueTimes } = yield* s.history(1)
      const [sources] = yield* s.store.loadSources([id(1)])
      const due = ["nap", "step", "wait"].map((stepKey) => ({ stepKey, wakeAt: start }))
      assert.deepStrictEqual([dueTimes, sources?.dueTimes], [due, due])
      assert.deepStrictEqual(timers.map(({ stepKey, wakeAt }) => [stepKey, wakeAt]).toSorted(), [
        ["nap", start],
        ["step", start + 5000],
        ["wait", start],
      ])
    })

    test("of a parent and its child in one call ends both", function* (s) {
      const a = yield* s.worker(1)
      yield* s.committed(yield* s.hold(a, 1), {
        children: [newRun(2, childOf(1))],
        transition: park(0),
      })
      yield* s.claimOnly(a, 2)
      assert.deepStrictEqual(yield* terminate(s, 2, 1), ["terminated", "terminated"])
      assert.deepStrictEqual(
        [(yield* s.row(1)).status, (yield* s.row(2)).status],
        ["cancelled", "cancelled"],
      )
    })

    test("frees the concurrency key", function* (s) {
      yield* s.hold(yield* s.worker(1), 1, { concurrencyKey: "k" })
      yield* terminate(s, 1)
      const [answer] = yield* s.insert(newRun(2, { concurrencyKey: "k" }))
      assert.strictEqual(answer?._tag, "Inserted")
    })
  })

  describe("wake", () => {
    test("ends open sleeps and stored backoffs now, and no other", function* (s) {
      const a = yield* s.worker(1)
      const held = yield* s.hold(a, 1)
      yield* s.committed(held, { timers: [{ stepKey: "over", delayMs: 0 }] })
      yield* s.committed(held, { records: [sleepEnd("over", 1)] })
      yield* s.committed(held, {
        timers: [{ stepKey: "nap", delayMs: 60_000 }],
        records: [retrying("step", 2, 50_000)],
        transition: park(0, { status: "sleeping", delayMs: 50_000 }),
      })
      yield* s.advance(10)
      assert.strictEqual(yield* wake(s, 1), "woken")
      const claim = yield* s.claimOnly(a, 1)
      const history = yield* s.history(1)
      assert.deepStrictEqual(
        history.timers.toSorted((x, y) => x.wakeAt - y.wakeAt),
        [
          { stepKey: "over", wakeAt: start },
          { stepKey: "nap", wakeAt: start + 10 },
        ],
      )
      assert.strictEqual(history.records[1]?.retryAt, start + 10)
      const due = [
        { stepKey: "nap", wakeAt: start + 10 },
        { stepKey: "step", wakeAt: start + 10 },
      ]
      assert.deepStrictEqual(history.dueTimes, due)
      assert.deepStrictEqual((yield* s.store.loadSources([id(1)]))[0]?.dueTimes, due)
      const answer = yield* s.committed(claim, { records: [sleepEnd("nap", 2)] })
      assert.deepStrictEqual(answer.refusedSleeps, [])
      assert.deepStrictEqual(yield* logOf(s, 1), [["wake", "why", {}]])
    })

    test("reaches a holder by the wake counter", function* (s) {
      const held = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(held, { timers: [{ stepKey: "nap", delayMs: 60_000 }] })
      yield* wake(s, 1)
      assert.strictEqual((yield* s.committed(held)).wakeCounter, 1)
      assert.strictEqual((yield* s.store.loadSources([id(1)]))[0]?.dueTimes[0]?.wakeAt, start)
    })

    test("ends the backoff between attempts, but starts nothing early", function* (s) {
      const a = yield* s.worker(1)
      yield* s.committed(yield* s.hold(a, 1), { transition: retryRun(null, 9000) })
      yield* s.insert(newRun(2, { scheduledFor: start + 9000 }))
      assert.deepStrictEqual([yield* wake(s, 1), yield* wake(s, 2)], ["woken", "woken"])
      yield* s.claimOnly(a, 1)
    })

    test("without ending sleeps moves no timer, and leaves no trace", function* (s) {
      const a = yield* s.worker(1)
      yield* asleep(s, a, 1)
      assert.strictEqual(yield* wake(s, 1, false), "woken")
      yield* s.claimOnly(a, 1)
      assert.strictEqual((yield* s.history(1)).timers[0]?.wakeAt, start + 60_000)
      assert.deepStrictEqual(yield* logOf(s, 1), [])
    })

    test("of a paused run leaves it paused, of an ended one is refused", function* (s) {
      const a = yield* s.worker(1)
      yield* asleep(s, a, 1)
      yield* askPause(s, 1)
      assert.strictEqual(yield* wake(s, 1), "woken")
      assert.strictEqual((yield* s.row(1)).status, "paused")
      assert.strictEqual((yield* s.history(1)).timers[0]?.wakeAt, start)
      yield* s.committed(yield* s.hold(a, 2), { transition: settle("completed") })
      assert.deepStrictEqual([yield* wake(s, 2), yield* wake(s, 9)], ["terminal", "unknown"])
    })
  })

  describe("reschedule", () => {
    test("moves a run that has not started, with its deadline", function* (s) {
      const a = yield* s.worker(1)
      yield* s.insert(newRun(1, { scheduledFor: start + 9000, timeoutMs: 100 }))
      assert.strictEqual(yield* reschedule(s, 1, start + 500), "rescheduled")
      const { dueAt, scheduledFor, deadlineAt } = yield* s.row(1)
      assert.deepStrictEqual(
        [dueAt, scheduledFor, deadlineAt],
        [start + 500, start + 500, start + 600],
      )
      assert.deepStrictEqual(yield* s.claim(a), [])
      yield* s.advance(500)
      yield* s.claimOnly(a, 1)
      assert.deepStrictEqual(yield* logOf(s, 1), [["reschedule", "why", { at: start + 500 }]])
    })

    test("into the past makes it due now, and later puts it off", function* (s) {
      const a = yield* s.worker(1)
      yield* s.insert(newRun(1, { scheduledFor: start + 9000, timeoutMs: 100 }), newRun(2))
      yield* reschedule(s, 1, start - 5000)
      const { dueAt, deadlineAt } = yield* s.row(1)
      assert.deepStrictEqual([dueAt, deadlineAt], [start, start + 100])
      yield* reschedule(s, 2, start + 5000)
      yield* s.claimOnly(a, 1)
      assert.strictEqual((yield* s.row(2)).dueAt, start + 5000)
    })

    test("moves a paused run that has not started, and leaves it paused", function* (s) {
      yield* s.insert(newRun(1, { scheduledFor: start + 9000 }))
      yield* askPause(s, 1)
      assert.strictEqual(yield* reschedule(s, 1, start - 5000), "rescheduled")
      const { status, dueAt } = yield* s.row(1)
      assert.deepStrictEqual([status, dueAt], ["paused", null])
      assert.deepStrictEqual(yield* s.claim(yield* s.worker(1)), [])
      yield* reschedule(s, 1, start + 500)
      yield* s.store.resumeRun(id(1))
      assert.strictEqual((yield* s.row(1)).dueAt, start + 500)
    })

    test("moves the one open sleep, and wakes the run to look at it", function* (s) {
      const a = yield* s.worker(1)
      yield* asleep(s, a, 1)
      assert.strictEqual(yield* reschedule(s, 1, start + 10), "rescheduled")
      yield* s.claimOnly(a, 1)
      assert.deepStrictEqual((yield* s.history(1)).timers, [{ stepKey: "nap", wakeAt: start + 10 }])
    })

    test("of one sleep of several needs its name", function* (s) {
      const held = yield* s.hold(yield* s.worker(1), 1)
      const timers = [
        { stepKey: "a", delayMs: 1000 },
        { stepKey: "b", delayMs: 1000 },
      ]
      assert.strictEqual(yield* reschedule(s, 1, start), "no-sleep")
      yield* s.committed(held, { timers })
      const before = yield* s.observe(1)
      assert.strictEqual(yield* reschedule(s, 1, start), "ambiguous")
      assert.strictEqual(yield* reschedule(s, 1, start, "c"), "no-sleep")
      assert.deepStrictEqual(yield* s.observe(1), before)
      assert.strictEqual(yield* reschedule(s, 1, start + 7, "b"), "rescheduled")
      const times = (yield* s.history(1)).timers.map((timer) => timer.wakeAt)
      assert.deepStrictEqual(times.toSorted(), [start + 7, start + 1000])
    })

    test("does not touch a sleep that has ended, nor a run that has", function* (s) {
      const held = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(held, { timers: [{ stepKey: "nap", delayMs: 0 }] })
      yield* s.committed(held, { records: [sleepEnd("nap", 1)] })
      assert.strictEqual(yield* reschedule(s, 1, start + 9), "no-sleep")
      yield* s.committed(held, { transition: settle("completed") })
      assert.strictEqual(yield* reschedule(s, 1, start + 9), "terminal")
      assert.strictEqual(yield* reschedule(s, 9, start + 9), "unknown")
    })
  })

  describe("the control log", () => {
    test("holds every accepted verb with its reason, in order, beside the events", function* (s) {
      const held = yield* s.hold(yield* s.worker(1), 1)
      yield* s.sendEvent(1)
      yield* s.cancel(1, false, "changed my mind")
      yield* s.committed(held, { transition: settle("failed") })
      yield* s.cancel(1, null, "too late")
      yield* s.store.retryRun(id(1), "once more")
      const log = yield* s.store.getControls(id(1))
      assert.deepStrictEqual(
        log.map(({ verb, reason, detail }) => [verb, reason, detail]),
        [
          ["cancel", "changed my mind", { compensate: false }],
          ["retry", "once more", {}],
        ],
      )
      assert.isTrue(log[0]!.controlId < log[1]!.controlId)
      assert.deepStrictEqual([log[0]!.createdAt, log[0]!.workflowRunId], [start, id(1)])
      assert.strictEqual((yield* s.history(1)).events.length, 1)
      assert.deepStrictEqual(yield* s.store.getEvents(id(1)), [])
    })
  })
}
