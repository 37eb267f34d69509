/** What a write stores beside its records: timers, children, emitted events, undos; its answer. */
import { assert, describe } from "@effect/vitest"
import {
  childOf,
  compensate,
  error,
  failed,
  id,
  idsOf,
  json,
  newRun,
  parse,
  record,
  settle,
  sleepEnd,
  start,
  type Test,
  waitEnd,
  write,
} from "./conformanceFixture.ts"

const emit = (stepKey: string, position: number) => ({
  records: [record(stepKey, position, { kind: "emit", result: null })],
  emitted: [{ stepKey, name: `n-${stepKey}`, payload: json(position) }],
})

const undo = (status: "completed" | "failed" | "retrying", attempts: number) => ({
  compensations: [
    { stepKey: "a", status, attempts, error: status === "completed" ? null : error("stuck") },
  ],
})

export const journalTests = (test: Test) => {
  describe("events", () => {
    test("are consumed by the record that names them, and by no other", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.sendEvent(1, "first")
      yield* s.sendEvent(1, "second")
      const [first, ...others] = (yield* s.history(1)).events
      const consuming = record("wait", 1, { kind: "event", eventId: first!.eventId })
      yield* s.committed(claim, { records: [consuming, record("other", 2)] })
      assert.deepStrictEqual((yield* s.history(1)).events, others)
      const [sources] = yield* s.store.loadSources([id(1)])
      assert.deepStrictEqual(sources?.events, others)
    })

    test("emitted by a run are its events, in order, and wake nobody", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, emit("b", 1))
      yield* s.advance(10)
      yield* s.committed(claim, emit("a", 2))
      const events = yield* s.store.getEvents(id(1))
      assert.deepStrictEqual(
        events.map((e) => [e.name, parse(e.payload), e.direction, e.createdAt, e.workflowRunId]),
        [
          ["n-b", 1, "emitted", start, id(1)],
          ["n-a", 2, "emitted", start + 10, id(1)],
        ],
      )
      assert.isAbove(events[1]!.eventId, events[0]!.eventId)
      assert.deepStrictEqual((yield* s.history(1)).events, [])
      assert.strictEqual((yield* s.row(1)).wakeCounter, 0)
      // senders choose their ids without a thought for the keys of steps
      assert.strictEqual(yield* s.sendEvent(1, "go", "a"), "sent")
    })
  })

  describe("timers", () => {
    test("are fixed when first reached, by the store's clock", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.advance(10)
      const first = yield* s.committed(claim, { timers: [{ stepKey: "nap", delayMs: 100 }] })
      const fixed = [{ stepKey: "nap", wakeAt: start + 110 }]
      assert.deepStrictEqual(first.timers, fixed)
      yield* s.advance(50)
      const timers = [
        { stepKey: "nap", delayMs: 100 },
        { stepKey: "at", wakeAt: start + 7777 },
      ]
      const second = yield* s.committed(claim, { timers })
      assert.deepStrictEqual(second.timers, [...fixed, { stepKey: "at", wakeAt: start + 7777 }])
      const third = yield* s.committed(claim, { timers: [{ stepKey: "at", wakeAt: start }] })
      assert.deepStrictEqual(third.timers, [{ stepKey: "at", wakeAt: start + 7777 }])
      assert.sameDeepMembers([...(yield* s.history(1)).timers], [...second.timers])
    })

    test("end no sleep early: the end is refused until the very instant", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, { timers: [{ stepKey: "nap", delayMs: 100 }] })
      const timer = { stepKey: "nap", wakeAt: start + 100 }
      yield* s.advance(99)
      const early = yield* s.committed(claim, { records: [sleepEnd("nap", 1)] })
      assert.deepStrictEqual(early.refusedSleeps, [timer])
      assert.deepStrictEqual(yield* s.store.getSteps(id(1)), [])
      yield* s.advance(1)
      const late = yield* s.committed(claim, { records: [sleepEnd("nap", 1)] })
      assert.deepStrictEqual(late.refusedSleeps, [])
      assert.strictEqual((yield* s.store.getSteps(id(1)))[0]?.completedAt, start + 100)
    })

    test("end no wait for an event early; the event, when it comes, does", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      const timers = ["a", "b"].map((stepKey) => ({ stepKey, delayMs: 100 }))
      yield* s.committed(claim, { timers })
      yield* s.advance(99)
      const early = yield* s.committed(claim, { records: [waitEnd("a", 1), waitEnd("b", 2)] })
      const wakeAt = start + 100
      assert.deepStrictEqual(
        early.refusedSleeps.toSorted((one, other) => (one.stepKey < other.stepKey ? -1 : 1)),
        [
          { stepKey: "a", wakeAt },
          { stepKey: "b", wakeAt },
        ],
      )
      assert.deepStrictEqual(yield* s.store.getSteps(id(1)), [])
      yield* s.sendEvent(1, "a")
      const [event] = (yield* s.history(1)).events
      const received = record("a", 1, { kind: "event", eventId: event!.eventId })
      const took = yield* s.committed(claim, {
        records: [received, failed("c", 2, { kind: "event" })],
      })
      assert.deepStrictEqual(took.refusedSleeps, [])
      // it has ended: nothing is left to wait for
      const again = yield* s.committed(claim, { records: [waitEnd("a", 3)] })
      assert.deepStrictEqual(again.refusedSleeps, [])
      yield* s.advance(1)
      const late = yield* s.committed(claim, { records: [waitEnd("b", 3)] })
      assert.deepStrictEqual(late.refusedSleeps, [])
      const steps = yield* s.store.getSteps(id(1))
      assert.deepStrictEqual(
        steps.map((step) => [step.stepKey, step.completedAt]),
        [
          ["a", start + 99],
          ["c", start + 99],
          ["b", start + 100],
        ],
      )
    })

    test("of a sleep that is refused hold nothing else back", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      const answer = yield* s.committed(claim, {
        timers: [
          { stepKey: "long", delayMs: 100 },
          { stepKey: "none", delayMs: 0 },
        ],
        records: [record("a", 1), sleepEnd("long", 2), sleepEnd("none", 3)],
        transition: settle("completed"),
      })
      assert.deepStrictEqual(answer.refusedSleeps, [{ stepKey: "long", wakeAt: start + 100 }])
      const steps = yield* s.store.getSteps(id(1))
      assert.deepStrictEqual(
        steps.map((step) => step.stepKey),
        ["a", "none"],
      )
      assert.strictEqual((yield* s.row(1)).status, "completed")
    })
  })

  describe("children of a write", () => {
    test("are inserted with it, pending, and are their parent's", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      const children = [
        newRun(2, childOf(1, "a")),
        newRun(3, { ...childOf(1, "b"), workflow: "x" }),
      ]
      const answer = yield* s.committed(claim, { children })
      assert.sameDeepMembers(
        [...answer.children],
        [
          { stepKey: "a", workflowRunId: id(2) },
          { stepKey: "b", workflowRunId: id(3) },
        ],
      )
      assert.deepStrictEqual(idsOf(yield* s.list({ parentRunId: id(1) })), [id(3), id(2)])
      const { status, parent, workflow } = yield* s.row(3)
      assert.deepStrictEqual([status, workflow], ["pending", "x"])
      assert.deepStrictEqual(parent, { workflowRunId: id(1), stepKey: "b", attempt: 1 })
      const row = {
        parentAttempt: 1,
        onParentClose: "cancel" as const,
        status: "pending" as const,
        result: null,
        error: null,
      }
      assert.deepStrictEqual((yield* s.history(1)).children, [
        { stepKey: "a", workflowRunId: id(2), ...row },
        { stepKey: "b", workflowRunId: id(3), ...row },
      ])
    })

    test("that stand already are not started again: the answer names them", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, { children: [newRun(2, childOf(1))] })
      const again = yield* s.committed(claim, { children: [newRun(3, childOf(1))] })
      assert.deepStrictEqual(again.children, [{ stepKey: "child", workflowRunId: id(2) }])
      assert.deepStrictEqual(yield* s.store.getRuns([id(3)]), [])
    })

    test("show their outcome in the parent's history", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      const children = [newRun(2, childOf(1, "a")), newRun(3, childOf(1, "b"))]
      yield* s.committed(claim, { children })
      const claims = yield* s.claim(a)
      const transitions = [settle("completed", { result: json([7]) }), settle("failed")] as const
      for (const child of claims) {
        const transition = transitions[child.workflowRunId === id(2) ? 0 : 1]
        yield* s.committed(child, { transition })
      }
      const [first, second] = (yield* s.history(1)).children
      assert.deepStrictEqual([first?.status, parse(first?.result)], ["completed", [7]])
      assert.deepStrictEqual([second?.status, second?.error?.message], ["failed", "failed"])
    })
  })

  describe("undos", () => {
    test("are kept on the step's record, which stays as it was", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, {
        records: [record("a", 1, { hasCompensate: true }), record("b", 2)],
        transition: compensate,
      })
      const before = yield* s.store.getSteps(id(1))
      yield* s.advance(10)
      yield* s.committed(claim, undo("completed", 2))
      assert.deepStrictEqual(yield* s.store.getSteps(id(1)), [
        {
          ...before[0]!,
          compensation: { status: "completed", attempts: 2, error: null, retryAt: null },
        },
        before[1]!,
      ])
    })

    test("that back off are replaced by later ones; final ones never change", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, { records: [record("a", 1)], transition: compensate })
      const seen = []
      for (const parts of [
        undo("retrying", 1),
        undo("retrying", 2),
        undo("retrying", 1),
        undo("failed", 3),
        undo("completed", 4),
        undo("retrying", 5),
      ]) {
        yield* s.committed(claim, parts)
        const [step] = yield* s.store.getSteps(id(1))
        seen.push([step?.compensation?.status, step?.compensation?.attempts])
      }
      assert.deepStrictEqual(seen, [
        ["retrying", 1],
        ["retrying", 2],
        ["retrying", 2],
        ["failed", 3],
        ["failed", 3],
        ["failed", 3],
      ])
    })

    test("of a step that is recorded in the same write are kept too", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, { transition: compensate })
      yield* s.committed(claim, { records: [failed("a", 1)], ...undo("completed", 1) })
      const [step] = yield* s.store.getSteps(id(1))
      assert.strictEqual(step?.compensation?.status, "completed")
    })
  })

  describe("the answer to a write", () => {
    test("carries the run's signals", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1, { timeoutMs: 100 })
      const first = yield* s.committed(claim)
      assert.deepStrictEqual(
        [first.wakeCounter, first.cancelRequest, first.deadlinePassed, first.now],
        [0, null, false, start],
      )
      yield* s.cancel(1, false, "enough")
      yield* s.advance(100)
      const second = yield* s.committed(claim)
      assert.deepStrictEqual(
        [second.wakeCounter, second.cancelRequest, second.deadlinePassed, second.now],
        [1, { compensate: false, reason: "enough" }, true, start + 100],
      )
    })

    test("carries the run's signals beside a record too, alone or in a batch", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1, { timeoutMs: 100 })
      const other = yield* s.hold(a, 2, { timeoutMs: 100 })
      yield* s.cancel(1, true, "enough")
      yield* s.advance(100)
      const cancelRequest = { compensate: true, reason: "enough" }
      const told = { wakeCounter: 1, cancelRequest, pauseRequest: null, deadlinePassed: true }
      assert.deepInclude(yield* s.committed(claim, { records: [record("a", 1)] }), told)
      const both = yield* s.store.commit([
        write(claim, { records: [record("b", 2)] }),
        write(other, { records: [record("b", 1)] }),
      ])
      assert.deepInclude(both[0] as object, told)
      assert.deepInclude(both[1] as object, { ...told, wakeCounter: 0, cancelRequest: null })
    })

    test("aligns with the writes of the batch", function* (s) {
      const a = yield* s.worker(1)
      const claims = []
      for (const n of [3, 1, 2]) claims.push(yield* s.hold(a, n))
      const answers = yield* s.store.commit(claims.map((claim) => write(claim)))
      assert.deepStrictEqual(idsOf(answers), [3, 1, 2].map(id))
      assert.deepStrictEqual(yield* s.store.commit([]), [])
    })

    test("of a batch of two hundred runs is two hundred answers", function* (s) {
      const a = yield* s.worker(1)
      yield* s.insertFor(a, ...Array.from({ length: 200 }, (_, n) => newRun(n)))
      const writes = Array.from({ length: 200 }, (_, n) =>
        write(
          { workflowRunId: id(n), token: 1 },
          { records: [record("a", 1), record("b", 2)], transition: settle("completed") },
        ),
      )
      const answers = yield* s.store.commit(writes)
      assert.isTrue(answers.every((answer) => answer._tag === "committed"))
      assert.strictEqual((yield* s.list({ statuses: ["completed"] })).length, 200)
    })
  })
}
