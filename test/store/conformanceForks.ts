/** Forks: a new run with a part of another one's history. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { ForkPoint } from "../../src/Control.ts"
import {
  compensate,
  failed,
  type Fixture,
  id,
  json,
  newRun,
  parse,
  record,
  retrying,
  settle,
  sleepEnd,
  start,
  type Test,
  write,
} from "./conformanceFixture.ts"
import { logOf } from "./conformanceControl.ts"

const fork = (s: Fixture, n: number, to: number, from: ForkPoint, input?: unknown) =>
  Effect.map(
    s.store.forkRuns([
      {
        workflowRunId: id(n),
        from,
        newRunId: id(to),
        input: input === undefined ? null : json(input),
        reason: "why",
      },
    ]),
    ([answer]) => answer,
  )

export const forkTests = (test: Test) => {
  describe("fork", () => {
    const origin = function* (s: Fixture) {
      const held = yield* s.hold(yield* s.worker(1), 1, {
        idempotencyKey: "i",
        concurrencyKey: "c",
        timeoutMs: 5000,
        maxAttempts: 3,
        priority: 7,
      })
      yield* s.sendEvent(1)
      const { events } = yield* s.history(1)
      yield* s.committed(held, { timers: [{ stepKey: "nap", delayMs: 0 }] })
      yield* s.committed(held, {
        records: [
          record("a", 1, { hasCompensate: true }),
          sleepEnd("nap", 2),
          record("go", 3, { kind: "event", eventId: events[0]!.eventId }),
          failed("b", 4),
          record("c", 5),
          retrying("d", 1),
        ],
      })
      return held
    }

    test("copies the final records before a step, with their timers, and nothing else", function* (s) {
      const held = yield* origin(s)
      yield* s.committed(held, { transition: settle("failed") })
      const before = yield* s.observe(1)
      yield* s.advance(10)
      assert.strictEqual(yield* fork(s, 1, 2, { stepKey: "b" }, "edited"), "forked")
      assert.deepStrictEqual(yield* s.observe(1), before, "the origin is untouched")
      const row = yield* s.row(2)
      assert.deepStrictEqual(
        [row.status, row.attempt, row.maxAttempts, row.priority, row.workflow, row.dueAt],
        ["pending", 1, 3, 7, "w", start + 10],
      )
      assert.deepStrictEqual(
        [row.idempotencyKey, row.concurrencyKey, row.parent, row.startedAt, row.deadlineAt],
        [null, null, null, null, start + 5010],
      )
      assert.strictEqual(parse(row.input), "edited")
      const history = yield* s.history(2)
      assert.deepStrictEqual(history.records, before.history.records.slice(0, 3))
      assert.deepStrictEqual(history.timers, before.history.timers)
      assert.deepStrictEqual(history.events, [])
      assert.deepStrictEqual(yield* logOf(s, 2), [["fork", "why", { origin: id(1), stepKey: "b" }]])
    })

    test("has a history at its first claim, and is fenced like any run", function* (s) {
      yield* origin(s)
      yield* fork(s, 1, 2, { position: 2.5 })
      assert.deepStrictEqual((yield* s.row(2)).input, (yield* s.row(1)).input)
      const claim = yield* s.claimOnly("01980000-0000-7000-8000-000000000001", 2)
      assert.deepStrictEqual([claim.hasHistory, claim.attempt, claim.token], [true, 1, 1])
      assert.strictEqual(claim.seed, id(1), "it draws the random numbers of its origin")
      assert.deepStrictEqual(
        (yield* s.history(2)).records.map((one) => one.stepKey),
        ["a", "nap"],
      )
      yield* fork(s, 2, 3, null)
      const again = yield* s.claimOnly("01980000-0000-7000-8000-000000000001", 3)
      assert.strictEqual(again.seed, id(1), "and so does a fork of it")
      // what was copied is no progress of this claim, and proves nothing about its writes
      yield* s.lapseAndSweep
      assert.strictEqual((yield* s.row(2)).crashCount, 1)
      const late = yield* s.commit(write(claim, { records: [record("a", 1)] }))
      assert.strictEqual(late._tag, "lost")
    })

    test("without a point copies all that is final", function* (s) {
      yield* origin(s)
      yield* fork(s, 1, 2, null)
      const { records } = yield* s.history(2)
      assert.deepStrictEqual(
        records.map((one) => one.stepKey),
        ["a", "nap", "go", "b", "c"],
      )
      assert.deepStrictEqual(records, (yield* s.history(1)).records.slice(0, 5))
    })

    test("is of the version of its origin", function* (s) {
      yield* s.insert(newRun(1, { version: "2" }))
      yield* fork(s, 1, 2, null)
      assert.strictEqual((yield* s.row(2)).version, "2")
    })

    test("of a run that has undone its steps has done them", function* (s) {
      const held = yield* s.hold(yield* s.worker(1), 1)
      const done = record("a", 1, { hasCompensate: true })
      yield* s.committed(held, { records: [done], transition: compensate })
      const undo = { stepKey: "a", status: "completed", attempts: 1, error: null } as const
      yield* s.committed(held, { compensations: [undo], transition: settle("compensated") })
      yield* fork(s, 1, 2, null)
      assert.strictEqual((yield* s.history(2)).records[0]?.compensation, null)
    })

    test("a fork keeps what its steps told last of their progress", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, { records: [record("a", 1, { heartbeat: json("half") })] })
      yield* fork(s, 1, 2, null)
      assert.deepStrictEqual(yield* s.store.getSteps(id(2)), yield* s.store.getSteps(id(1)))
    })

    test("sent again is the same fork", function* (s) {
      yield* origin(s)
      yield* fork(s, 1, 2, { stepKey: "b" })
      const before = yield* s.observe(2)
      assert.strictEqual(yield* fork(s, 1, 2, null), "forked")
      assert.deepStrictEqual(yield* s.observe(2), before)
      assert.strictEqual((yield* logOf(s, 2)).length, 1)
    })

    test("from a step without a final record, or of no run, is refused", function* (s) {
      yield* origin(s)
      assert.strictEqual(yield* fork(s, 1, 2, { stepKey: "d" }), "no-step")
      assert.strictEqual(yield* fork(s, 1, 2, { stepKey: "z" }), "no-step")
      assert.strictEqual(yield* fork(s, 9, 2, null), "unknown")
      assert.deepStrictEqual(yield* s.store.getRuns([id(2)]), [])
    })
  })
}
