/** What others ask of a run: cancel, resume, retry, events. */
import { assert, describe } from "@effect/vitest"
import {
  childOf,
  compensate,
  failed,
  handBack,
  id,
  json,
  newRun,
  park,
  parse,
  pause,
  record,
  retryRun,
  retrying,
  settle,
  start,
  type Test,
} from "./conformanceFixture.ts"

const goTo = (n: number, eventId: string | null) => ({
  workflowRunId: id(n),
  name: "go",
  payload: json({ n }),
  id: eventId,
})

export const requestTests = (test: Test) => {
  describe("cancel", () => {
    test("of a run that never started settles it", function* (s) {
      yield* s.insert(newRun(1), newRun(2, { scheduledFor: start + 1000 }))
      yield* s.advance(5)
      assert.strictEqual(yield* s.cancel(1), "cancelled")
      assert.strictEqual(yield* s.cancel(2), "cancelled")
      const { status, completedAt } = yield* s.row(1)
      assert.deepStrictEqual([status, completedAt], ["cancelled", start + 5])
      yield* s.advance(1000)
      assert.deepStrictEqual(yield* s.claim(yield* s.worker(1)), [])
    })

    test("of a child that never started wakes its parent", function* (s) {
      const a = yield* s.worker(1)
      const parent = yield* s.hold(a, 1)
      yield* s.committed(parent, { children: [newRun(2, childOf(1))], transition: park(0) })
      yield* s.cancel(2)
      const { status, wakeCounter } = yield* s.row(1)
      assert.deepStrictEqual([status, wakeCounter], ["pending", 1])
      assert.strictEqual((yield* s.history(1)).children[0]?.status, "cancelled")
    })

    test("of a claimed run is a request to its holder", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      assert.strictEqual(yield* s.cancel(1, true, "changed my mind"), "requested")
      const { status, workerId, wakeCounter } = yield* s.row(1)
      assert.deepStrictEqual([status, workerId, wakeCounter], ["running", a, 1])
      const { cancelRequest } = yield* s.committed(claim)
      assert.deepStrictEqual(cancelRequest, { compensate: true, reason: "changed my mind" })
    })

    for (const [what, transition] of [
      ["parked", park(0, { delayMs: 9000 })],
      ["handed back", handBack],
      ["backing off", retryRun(null, 9000)],
      ["paused", pause],
    ] as const) {
      test(`of a run that is ${what} makes it due now, for whoever claims it next`, function* (s) {
        const a = yield* s.worker(1)
        yield* s.committed(yield* s.hold(a, 1), { transition })
        yield* s.advance(10)
        assert.strictEqual(yield* s.cancel(1), "requested")
        const { status, pauseReason } = yield* s.row(1)
        assert.deepStrictEqual([status, pauseReason], ["pending", null])
        const claim = yield* s.claimOnly(a, 1)
        assert.deepStrictEqual(claim.cancelRequest, { compensate: null, reason: null })
      })
    }

    test("asked for twice stands as it was asked for first", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.cancel(1, true, "first")
      assert.strictEqual(yield* s.cancel(1, false, "second"), "requested")
      const { cancelRequest } = yield* s.committed(claim)
      assert.deepStrictEqual(cancelRequest, { compensate: true, reason: "first" })
    })

    test("of a compensating run is refused, also while it is paused", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, { transition: compensate })
      const before = yield* s.row(1)
      assert.strictEqual(yield* s.cancel(1), "compensating")
      assert.deepStrictEqual(yield* s.row(1), before)
      yield* s.committed(claim, { transition: pause })
      assert.strictEqual(yield* s.cancel(1), "compensating")
    })

    for (const status of ["completed", "failed", "cancelled", "dead_letter"] as const) {
      test(`of a ${status} run is refused`, function* (s) {
        yield* s.committed(yield* s.hold(yield* s.worker(1), 1), { transition: settle(status) })
        const before = yield* s.row(1)
        assert.strictEqual(yield* s.cancel(1), "terminal")
        assert.deepStrictEqual(yield* s.row(1), before)
      })
    }

    test("of an unknown run is answered so", function* (s) {
      assert.strictEqual(yield* s.cancel(9), "unknown")
    })
  })

  describe("resume", () => {
    test("of a run that is not paused, or not there, is answered so", function* (s) {
      yield* s.hold(yield* s.worker(1), 1)
      const before = yield* s.row(1)
      assert.strictEqual(yield* s.store.resumeRun(id(1)), "not-paused")
      assert.strictEqual(yield* s.store.resumeRun(id(9)), "unknown")
      assert.deepStrictEqual(yield* s.row(1), before)
    })
  })

  describe("an explicit retry", () => {
    for (const status of ["failed", "dead_letter"] as const) {
      test(`of a ${status} run is its next attempt, as fresh as a new run`, function* (s) {
        const a = yield* s.worker(1)
        const claim = yield* s.hold(a, 1, { timeoutMs: 100 })
        yield* s.cancel(1)
        yield* s.advance(500)
        yield* s.committed(claim, { transition: settle(status) })
        yield* s.advance(10)
        assert.strictEqual(yield* s.store.retryRun(id(1)), "retried")
        const row = yield* s.row(1)
        assert.deepStrictEqual(
          [row.status, row.attempt, row.dueAt, row.error, row.cancelRequest, row.completedAt],
          ["pending", 2, start + 510, null, null, null],
        )
        assert.strictEqual(row.deadlineAt, start + 610)
        const again = yield* s.claimOnly(a, 1)
        assert.isFalse(again.deadlinePassed)
        assert.isTrue(again.hasHistory)
      })
    }

    test("starts where the run had failed, and carries what completed after that", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, {
        timers: ["caught", "f"].map((stepKey) => ({ stepKey, delayMs: 10 })),
        records: [failed("caught", 1), failed("f", 2), record("b", 3), retrying("r", 1)],
        transition: settle("failed", { failedPosition: 2 }),
      })
      yield* s.store.retryRun(id(1))
      const steps = yield* s.store.getSteps(id(1))
      assert.deepStrictEqual(
        steps.map((step) => [step.stepKey, step.carried]),
        [
          ["caught", false],
          ["b", true],
        ],
      )
      const { timers } = yield* s.history(1)
      assert.deepStrictEqual(
        timers.map((timer) => timer.stepKey),
        ["caught"],
      )
    })

    test("of a run that settled without a position starts at its last failure", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, {
        records: [failed("caught", 1), failed("f", 2), record("b", 3)],
        transition: settle("failed"),
      })
      yield* s.store.retryRun(id(1))
      const steps = yield* s.store.getSteps(id(1))
      assert.deepStrictEqual(
        steps.map((step) => step.stepKey),
        ["caught", "b"],
      )
    })

    test("of a poison run keeps its outcomes: none of them was the reason", function* (s) {
      const a = yield* s.worker(1)
      const first = yield* s.hold(a, 1)
      yield* s.committed(first, {
        records: [failed("caught", 1), record("b", 2), retrying("r", 1)],
        transition: handBack,
      })
      yield* s.claimOnly(a, 1)
      yield* s.lapseAndSweep
      yield* s.store.deadLetterPoison({ maxCrashes: 1, limit: 1 })
      assert.strictEqual(yield* s.store.retryRun(id(1)), "retried")
      const steps = yield* s.store.getSteps(id(1))
      assert.deepStrictEqual(
        steps.map((step) => [step.stepKey, step.carried]),
        [
          ["caught", false],
          ["b", false],
        ],
      )
      const { crashCount, dueAt } = yield* s.row(1)
      assert.deepStrictEqual([crashCount, dueAt], [0, yield* s.store.now])
      yield* s.claimOnly(yield* s.worker(2), 1)
    })

    for (const status of ["completed", "cancelled"] as const) {
      test(`of a ${status} run is refused`, function* (s) {
        yield* s.committed(yield* s.hold(yield* s.worker(1), 1), { transition: settle(status) })
        const before = yield* s.row(1)
        assert.strictEqual(yield* s.store.retryRun(id(1)), "not-retryable")
        assert.deepStrictEqual(yield* s.row(1), before)
      })
    }

    for (const status of ["compensated", "failed"] as const) {
      test(`of a run that ${status} after it began to compensate is refused`, function* (s) {
        const claim = yield* s.hold(yield* s.worker(1), 1)
        yield* s.committed(claim, { transition: compensate })
        yield* s.committed(claim, { transition: settle(status) })
        assert.strictEqual(yield* s.store.retryRun(id(1)), "not-retryable")
      })
    }

    test("of a run that is not over, or not there, is answered so", function* (s) {
      yield* s.hold(yield* s.worker(1), 1)
      assert.strictEqual(yield* s.store.retryRun(id(1)), "not-retryable")
      assert.strictEqual(yield* s.store.retryRun(id(9)), "unknown")
    })

    test("is refused while another run holds the concurrency key, else takes it", function* (s) {
      const a = yield* s.worker(1)
      const keyed = { concurrencyKey: "c" }
      yield* s.committed(yield* s.hold(a, 1, keyed), { transition: settle("failed") })
      const other = yield* s.hold(a, 2, keyed)
      assert.strictEqual(yield* s.store.retryRun(id(1)), "not-retryable")
      assert.strictEqual((yield* s.row(1)).status, "failed")
      yield* s.committed(other, { transition: settle("completed") })
      assert.strictEqual(yield* s.store.retryRun(id(1)), "retried")
      const [answer] = yield* s.insert(newRun(3, keyed))
      assert.deepStrictEqual(answer, { _tag: "ConcurrencyHeld", workflowRunId: id(1) })
    })
  })

  describe("events", () => {
    test("are kept in the order in which they were sent, also when early", function* (s) {
      yield* s.insert(newRun(1))
      const names = ["b", "a", "c"]
      for (const name of names) yield* s.sendEvent(1, name)
      const { events } = yield* s.history(1)
      assert.deepStrictEqual(
        events.map((event) => event.name),
        names,
      )
      const [event] = events
      assert.deepStrictEqual(
        [event?.direction, event?.workflowRunId, event?.createdAt, event?.id],
        ["sent", id(1), start, null],
      )
      assert.strictEqual((yield* s.row(1)).wakeCounter, 3)
    })

    test("answer each for itself, aligned", function* (s) {
      yield* s.insert(newRun(1), newRun(2))
      yield* s.cancel(2)
      const answers = yield* s.store.sendEvents([
        goTo(9, "x"),
        goTo(1, "x"),
        goTo(2, "x"),
        goTo(1, "x"),
        goTo(1, null),
        goTo(1, null),
      ])
      assert.deepStrictEqual(answers, ["unknown", "sent", "terminal", "duplicate", "sent", "sent"])
      const { events } = yield* s.history(1)
      assert.deepStrictEqual(
        events.map((event) => event.id),
        ["x", null, null],
      )
      assert.deepStrictEqual(parse(events[0]?.payload), { n: 1 })
      assert.strictEqual((yield* s.row(1)).wakeCounter, 3)
      assert.deepStrictEqual(yield* s.store.sendEvents([]), [])
    })

    test("sent again change nothing, also when consumed, or when the run has ended", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      assert.strictEqual(yield* s.sendEvent(1, "go", "k"), "sent")
      const [event] = (yield* s.history(1)).events
      assert.strictEqual(event?.id, "k")
      yield* s.committed(claim, {
        records: [record("wait", 1, { kind: "event", eventId: event!.eventId })],
      })
      const before = yield* s.observe(1)
      assert.strictEqual(yield* s.sendEvent(1, "other", "k"), "duplicate")
      assert.deepStrictEqual(yield* s.observe(1), before)
      yield* s.committed(claim, { transition: settle("completed") })
      assert.strictEqual(yield* s.sendEvent(1, "go", "k"), "duplicate")
      assert.strictEqual(yield* s.sendEvent(1, "go", "k2"), "terminal")
    })

    test("with one id twice in one call: the second repeats the first, whatever became of it", function* (s) {
      yield* s.insert(newRun(1), newRun(2))
      yield* s.cancel(2)
      const answers = yield* s.store.sendEvents([
        goTo(2, "x"),
        goTo(2, "x"),
        goTo(1, "x"),
        goTo(1, "x"),
      ])
      assert.deepStrictEqual(answers, ["terminal", "terminal", "sent", "duplicate"])
    })

    test("are refused beyond the limit of those that wait, until one is consumed", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.insert(newRun(2))
      const bound = { maxPending: 3 }
      const send = (...events: ReadonlyArray<ReturnType<typeof goTo>>) =>
        s.store.sendEvents(events, bound)
      assert.deepStrictEqual(yield* send(goTo(1, "a"), goTo(1, null)), ["sent", "sent"])
      assert.deepStrictEqual(
        yield* send(
          goTo(1, "a"),
          goTo(1, "b"),
          goTo(2, "a"),
          goTo(1, "b"),
          goTo(1, "c"),
          goTo(1, "c"),
          goTo(1, null),
        ),
        ["duplicate", "sent", "sent", "duplicate", "full", "full", "full"],
      )
      const { wakeCounter } = yield* s.row(1)
      const before = yield* s.observe(1)
      assert.deepStrictEqual(yield* send(goTo(1, "b"), goTo(1, "c")), ["duplicate", "full"])
      assert.deepStrictEqual(yield* s.observe(1), before)
      assert.strictEqual(wakeCounter, 3)
      const [first] = (yield* s.history(1)).events
      yield* s.committed(claim, {
        records: [record("wait", 1, { kind: "event", eventId: first!.eventId })],
      })
      assert.deepStrictEqual(yield* send(goTo(1, "c"), goTo(1, "d")), ["sent", "full"])
      assert.deepStrictEqual(yield* s.store.sendEvents([goTo(1, "d")]), ["sent"])
      yield* s.committed(claim, { transition: settle("completed") })
      assert.deepStrictEqual(yield* send(goTo(1, "e")), ["terminal"])
    })

    test("that a run emits are no part of its backlog", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      for (let n = 1; n <= 3; n++) {
        yield* s.committed(claim, {
          records: [record(`tell#${n}`, n, { kind: "emit" })],
          emitted: [{ stepKey: `tell#${n}`, name: "tell", payload: json(n) }],
        })
      }
      const answers = yield* s.store.sendEvents([goTo(1, "a"), goTo(1, "b")], { maxPending: 1 })
      assert.deepStrictEqual(answers, ["sent", "full"])
    })

    test("with one id go to several runs", function* (s) {
      yield* s.insert(newRun(1), newRun(2))
      assert.strictEqual(yield* s.sendEvent(1, "go", "k"), "sent")
      assert.strictEqual(yield* s.sendEvent(2, "go", "k"), "sent")
    })

    test("for a token: only a token that this very run has recorded is found", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.hold(a, 2)
      const find = (n: number, token: string) => s.store.findToken({ workflowRunId: id(n), token })
      assert.strictEqual(yield* find(1, "secret"), null)
      yield* s.committed(claim, {
        records: [
          record("step", 1, { result: json("said by a step") }),
          record("approval", 2, { kind: "token", result: json("secret") }),
          record("approval#2", 3, { kind: "token", result: json("other") }),
        ],
      })
      assert.strictEqual(yield* find(1, "secret"), "approval")
      assert.strictEqual(yield* find(1, "other"), "approval#2")
      for (const [n, token] of [
        [2, "secret"],
        [9, "secret"],
        [1, "said by a step"],
        [1, "Secret"],
        [1, "secret "],
        [1, "sec\0ret"],
        [1, '"secret"'],
        [1, ""],
      ] as const) {
        assert.strictEqual(yield* find(n, token), null, `${n} ${token}`)
      }
      assert.strictEqual(
        yield* s.store.findToken({ workflowRunId: "no id", token: "secret" }),
        null,
      )
    })

    test("are not among the events that a run emitted", function* (s) {
      yield* s.insert(newRun(1))
      yield* s.sendEvent(1)
      assert.deepStrictEqual(yield* s.store.getEvents(id(1)), [])
    })
  })
}
