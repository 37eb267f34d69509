/** New runs: their keys, eager starts, deadlines. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { sameValue } from "../../src/Payload.ts"
import type { InsertAnswer, NewRun } from "../../src/WorkflowStore.ts"
import {
  childOf,
  compensate,
  handBack,
  id,
  json,
  leaseMs,
  newRun,
  park,
  parse,
  registration,
  settle,
  start,
  type Test,
  workerId,
} from "./conformanceFixture.ts"

/** What claims came with the insert. */
const tokens = (answers: ReadonlyArray<InsertAnswer>) =>
  answers.map((answer) => (answer._tag === "Inserted" ? answer.token : answer._tag))

export const insertTests = (test: Test) => {
  describe("inserts", () => {
    test("an inserted run is a row, pending and due", function* (s) {
      const run = newRun(1, {
        version: "v2",
        priority: 7,
        scheduledFor: start + 500,
        timeoutMs: 1000,
        maxAttempts: 4,
        idempotencyKey: "once",
        concurrencyKey: "alone",
        parent: { workflowRunId: id(8), stepKey: "child#2", attempt: 3 },
      })
      assert.deepStrictEqual(yield* s.insert(run), [
        {
          _tag: "Inserted",
          workflowRunId: id(1),
          token: null,
          createdAt: start,
          deadlineAt: start + 1500,
        },
      ])
      const { input, ...row } = yield* s.row(1)
      assert.deepStrictEqual(parse(input), { n: 1 })
      assert.deepStrictEqual(row, {
        workflowRunId: id(1),
        workflow: "w",
        version: "v2",
        status: "pending",
        compensating: false,
        attempt: 1,
        maxAttempts: 4,
        result: null,
        error: null,
        pauseReason: null,
        parent: { workflowRunId: id(8), stepKey: "child#2", attempt: 3 },
        idempotencyKey: "once",
        concurrencyKey: "alone",
        priority: 7,
        dueAt: start + 500,
        scheduledFor: start + 500,
        deadlineAt: start + 1500,
        cancelRequest: null,
        pauseRequest: null,
        attributes: {},
        statusText: null,
        wakeCounter: 0,
        token: 0,
        workerId: null,
        crashCount: 0,
        createdAt: start,
        startedAt: null,
        completedAt: null,
      })
    })

    test("a run becomes the same row alone as beside others", function* (s) {
      const a = yield* s.worker(1)
      yield* s.hold(a, 1)
      const given: ReadonlyArray<Partial<NewRun>> = [
        {},
        { version: "v2", priority: 7, maxAttempts: 4, timeoutMs: 1000 },
        { scheduledFor: start + 500, timeoutMs: 1000 },
        { scheduledFor: start - 500, input: { codec: "devalue", json: '["a"]' } },
        { idempotencyKey: "k", idempotencyRetentionMs: 10, concurrencyKey: "c" },
        { attributes: { a: 1, b: "x" } },
        { ...childOf(1), onParentClose: "abandon" },
        childOf(1, "other"),
      ]
      /** The same runs once more, with keys of their own. */
      const runs = (first: number, mark: string) =>
        given.map((of, i) => {
          const { idempotencyKey, concurrencyKey, parent } = newRun(0, of)
          return newRun(first + i, {
            input: json(i),
            ...of,
            idempotencyKey: idempotencyKey && idempotencyKey + mark,
            concurrencyKey: concurrencyKey && concurrencyKey + mark,
            parent: parent && { ...parent, stepKey: parent.stepKey + mark },
          })
        })
      const seen = (inserted: ReadonlyArray<NewRun>, answers: ReadonlyArray<InsertAnswer>) =>
        Effect.gen(function* () {
          const rows = yield* s.store.getRuns(inserted.map((run) => run.workflowRunId))
          const { children } = yield* s.history(1)
          return inserted.map(({ workflowRunId }, i) => {
            const row = rows.find((one) => one.workflowRunId === workflowRunId)
            const child = children.find((one) => one.workflowRunId === workflowRunId)
            return {
              answer: { ...answers[i], workflowRunId: null },
              row: {
                ...row,
                workflowRunId: null,
                idempotencyKey: row?.idempotencyKey?.slice(0, 1),
                concurrencyKey: row?.concurrencyKey?.slice(0, 1),
                parent: row?.parent && { ...row.parent, stepKey: null },
                input: row && { codec: row.input.codec, value: parse(row.input) },
              },
              onParentClose: child?.onParentClose,
            }
          })
        })
      const alone = runs(10, "1")
      const answers: Array<InsertAnswer> = []
      for (const run of alone) answers.push(...(yield* s.insertFor(a, run)))
      const together = runs(30, "2")
      const atOnce = yield* s.insertFor(a, ...together)
      assert.deepStrictEqual(yield* seen(together, atOnce), yield* seen(alone, answers))
      // how long a key is kept shows only when its run has ended
      for (const n of [14, 34]) {
        yield* s.committed({ workflowRunId: id(n), token: 1 }, { transition: settle("completed") })
      }
      const again = [
        newRun(50, { idempotencyKey: "k1" }),
        newRun(51, { idempotencyKey: "k2" }),
      ] as const
      const tags = (all: ReadonlyArray<InsertAnswer>) => all.map(({ _tag }) => _tag)
      yield* s.advance(9)
      assert.deepStrictEqual(tags(yield* s.insert(...again)), ["Existing", "Existing"])
      yield* s.advance(1)
      assert.deepStrictEqual(tags(yield* s.insert(...again)), ["Inserted", "Inserted"])
    })

    test("answers align with the runs", function* (s) {
      yield* s.insert(newRun(1, { idempotencyKey: "k" }), newRun(2, { concurrencyKey: "c" }))
      const answers = yield* s.insert(
        newRun(3),
        newRun(4, { idempotencyKey: "k" }),
        newRun(5, { concurrencyKey: "c" }),
        newRun(1, { idempotencyKey: "k" }),
        newRun(6),
      )
      const seen = answers.map((a) => [a._tag, a._tag === "Existing" ? a.run : a.workflowRunId])
      assert.deepStrictEqual(
        seen.map(([tag, of]) => [tag, typeof of === "string" ? of : of?.workflowRunId]),
        [
          ["Inserted", id(3)],
          ["Existing", id(1)],
          ["ConcurrencyHeld", id(2)],
          ["Inserted", id(1)],
          ["Inserted", id(6)],
        ],
      )
    })

    test("no runs, no answers", function* (s) {
      assert.deepStrictEqual(yield* s.insert(), [])
    })

    test("the same id again is the same insert, also when the run has ended", function* (s) {
      const first = yield* s.insert(newRun(1, { timeoutMs: 50 }))
      yield* s.advance(10)
      assert.deepStrictEqual(yield* s.insert(newRun(1, { timeoutMs: 50 })), first)
      yield* s.cancel(1)
      assert.deepStrictEqual(yield* s.insert(newRun(1, { timeoutMs: 50 })), first)
      assert.strictEqual((yield* s.list()).length, 1)
    })

    test("values come back as they were stored", function* (s) {
      const inputs = [
        json({ b: [1, 2.5, null, true, 'ü \u2028 \\ " 😀'], a: { __proto__x: 1 } }),
        json("text"),
        json(null),
        { codec: "devalue", json: JSON.stringify('[{"when":1},["Date","2026-01-01T00:00:00Z"]]') },
        { codec: "custom-7", json: '{"deep":[[[[]]]]}' },
      ]
      for (const [n, input] of inputs.entries()) yield* s.insert(newRun(n, { input }))
      for (const [n, input] of inputs.entries()) {
        const stored = (yield* s.row(n)).input
        assert.strictEqual(stored.codec, input.codec)
        assert.deepStrictEqual(parse(stored), parse(input))
      }
    })
  })

  describe("idempotency keys", () => {
    test("give the run that has the key, whatever the input", function* (s) {
      yield* s.insert(newRun(1, { idempotencyKey: "k" }))
      const [answer] = yield* s.insert(newRun(2, { idempotencyKey: "k", input: json("other") }))
      assert.strictEqual(answer?._tag, "Existing")
      if (answer?._tag !== "Existing") return
      assert.deepStrictEqual(parse(answer.run.input), { n: 1 })
      assert.isFalse(sameValue(answer.run.input, json("other")))
      assert.deepStrictEqual({ ...answer.run, input: 0 }, { ...(yield* s.row(1)), input: 0 })
    })

    test("are kept for ever, also by runs that ended", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1, { idempotencyKey: "k" })
      yield* s.committed(claim, { transition: settle("completed") })
      yield* s.advance(365 * 24 * 3_600_000)
      const [answer] = yield* s.insert(newRun(2, { idempotencyKey: "k" }))
      assert.strictEqual(answer?._tag, "Existing")
    })

    test("are of their workflow only", function* (s) {
      yield* s.insert(newRun(1, { idempotencyKey: "k" }))
      const [answer] = yield* s.insert(newRun(2, { idempotencyKey: "k", workflow: "x" }))
      assert.strictEqual(answer?._tag, "Inserted")
    })

    test("used twice in one call give the first", function* (s) {
      const keyed = { idempotencyKey: "k" }
      const [first, second] = yield* s.insert(newRun(1, keyed), newRun(2, keyed))
      assert.strictEqual(first?._tag, "Inserted")
      assert.strictEqual(second?._tag === "Existing" && second.run.workflowRunId, id(1))
    })

    test("used by many at once make one run", function* (s) {
      const many = Array.from({ length: 12 }, (_, n) =>
        s.insert(newRun(n, { idempotencyKey: "k" })),
      )
      const answers = (yield* Effect.all(many, { concurrency: "unbounded" })).flat()
      assert.strictEqual(answers.filter((answer) => answer._tag === "Inserted").length, 1)
      const [only, ...others] = yield* s.list()
      assert.deepStrictEqual(others, [])
      for (const answer of answers) {
        if (answer._tag === "Existing") {
          assert.strictEqual(answer.run.workflowRunId, only?.workflowRunId)
        } else assert.strictEqual(answer.workflowRunId, only?.workflowRunId)
      }
    })
  })

  describe("concurrency keys", () => {
    test("admit one active run, until it has ended", function* (s) {
      const a = yield* s.worker(1)
      const keyed = { concurrencyKey: "c" }
      const claim = yield* s.hold(a, 1, keyed)
      const held = { _tag: "ConcurrencyHeld", workflowRunId: id(1) } as const
      assert.deepStrictEqual(yield* s.insert(newRun(2, keyed)), [held])
      yield* s.committed(claim, { transition: park(0) })
      assert.deepStrictEqual(yield* s.insert(newRun(2, keyed)), [held])
      yield* s.sendEvent(1)
      const again = yield* s.claimOnly(a, 1)
      yield* s.committed(again, { transition: settle("failed") })
      assert.strictEqual((yield* s.insert(newRun(2, keyed)))[0]?._tag, "Inserted")
      assert.strictEqual((yield* s.list()).length, 2)
    })

    test("are held by a run that undoes its steps, until it has", function* (s) {
      const keyed = { concurrencyKey: "c" }
      const claim = yield* s.hold(yield* s.worker(1), 1, keyed)
      yield* s.committed(claim, { transition: compensate })
      const held = { _tag: "ConcurrencyHeld", workflowRunId: id(1) } as const
      assert.deepStrictEqual(yield* s.insert(newRun(2, keyed)), [held])
      yield* s.committed(claim, { transition: settle("compensated", { error: null }) })
      assert.strictEqual((yield* s.insert(newRun(2, keyed)))[0]?._tag, "Inserted")
    })

    test("are freed by a cancel before the start", function* (s) {
      yield* s.insert(newRun(1, { concurrencyKey: "c" }))
      yield* s.cancel(1)
      const [answer] = yield* s.insert(newRun(2, { concurrencyKey: "c" }))
      assert.strictEqual(answer?._tag, "Inserted")
    })

    test("are of their workflow only, and count within one call", function* (s) {
      const keyed = { concurrencyKey: "c" }
      const answers = yield* s.insert(
        newRun(1, keyed),
        newRun(2, keyed),
        newRun(3, { ...keyed, workflow: "x" }),
      )
      assert.deepStrictEqual(
        answers.map((answer) => answer._tag),
        ["Inserted", "ConcurrencyHeld", "Inserted"],
      )
    })

    test("are asked after idempotency keys: a repeated trigger finds its own run", function* (s) {
      const keyed = { concurrencyKey: "c", idempotencyKey: "k" }
      yield* s.insert(newRun(1, keyed))
      const [answer] = yield* s.insert(newRun(2, keyed))
      assert.strictEqual(answer?._tag, "Existing")
    })
  })

  describe("children", () => {
    test("one per parent, step key and attempt of the parent", function* (s) {
      yield* s.insert(newRun(1))
      const answers = yield* s.insert(
        newRun(2, childOf(1, "a")),
        newRun(3, childOf(1, "a")),
        newRun(4, childOf(1, "b")),
        newRun(5, childOf(1, "a", 2)),
      )
      assert.deepStrictEqual(
        answers.map((answer) => answer._tag),
        ["Inserted", "Existing", "Inserted", "Inserted"],
      )
    })
  })

  describe("eager inserts", () => {
    test("are claimed by the worker: running, and in its list", function* (s) {
      const a = yield* s.worker(1)
      const [answer] = yield* s.insertFor(a, newRun(1))
      assert.strictEqual(answer?._tag === "Inserted" && answer.token, 1)
      const { status, workerId: holder, token, startedAt } = yield* s.row(1)
      assert.deepStrictEqual([status, holder, token, startedAt], ["running", a, 1, start])
      const { claims } = yield* s.store.renewLease(registration(1))
      assert.deepStrictEqual(claims, [{ workflowRunId: id(1), token: 1 }])
      assert.deepStrictEqual(yield* s.claim(yield* s.worker(2)), [])
    })

    test("for a lapsed worker are inserted unclaimed", function* (s) {
      const a = yield* s.worker(1)
      yield* s.advance(leaseMs)
      const alone = yield* s.insertFor(a, newRun(1))
      const together = yield* s.insertFor(a, newRun(2), newRun(3))
      assert.deepStrictEqual(tokens([...alone, ...together]), [null, null, null])
      const claimed = yield* s.claim(yield* s.worker(2))
      assert.deepStrictEqual(
        claimed.map(({ hasHistory }) => hasHistory),
        [false, false, false],
      )
    })

    test("for a worker that never registered are inserted unclaimed", function* (s) {
      const alone = yield* s.insertFor(workerId(9), newRun(1))
      const together = yield* s.insertFor(workerId(9), newRun(2), newRun(3))
      assert.deepStrictEqual(tokens([...alone, ...together]), [null, null, null])
      assert.strictEqual((yield* s.row(1)).status, "pending")
    })

    test("that are due later are inserted unclaimed", function* (s) {
      const a = yield* s.worker(1)
      const [answer] = yield* s.insertFor(a, newRun(1, { scheduledFor: start + 1 }))
      assert.strictEqual(answer?._tag === "Inserted" && answer.token, null)
    })

    test("sent again name the claim as long as it is held", function* (s) {
      const a = yield* s.worker(1)
      const first = yield* s.insertFor(a, newRun(1))
      assert.deepStrictEqual(yield* s.insertFor(a, newRun(1)), first)
      yield* s.lapseAndSweep
      const [later] = yield* s.insertFor(a, newRun(1))
      assert.strictEqual(later?._tag === "Inserted" && later.token, null)
    })

    test("sent again never name a later claim of the same worker", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.committed(claim, { transition: handBack })
      yield* s.claimOnly(a, 1)
      const [again] = yield* s.insertFor(a, newRun(1))
      assert.strictEqual(again?._tag === "Inserted" && again.token, null)
    })

    test("sent again claim nothing, though the run is due", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.committed(claim, { transition: handBack })
      const [again] = yield* s.insertFor(a, newRun(1))
      assert.strictEqual(again?._tag === "Inserted" && again.token, null)
      assert.isNull((yield* s.row(1)).workerId)
    })

    test("sent again never name the first claim of a run that was not claimed then", function* (s) {
      const a = yield* s.worker(1)
      yield* s.insert(newRun(1))
      assert.strictEqual((yield* s.claimOnly(a, 1)).token, 1)
      const [again] = yield* s.insertFor(a, newRun(1))
      assert.strictEqual(again?._tag === "Inserted" && again.token, null)
    })

    test("whose key is taken claim nothing", function* (s) {
      const a = yield* s.worker(1)
      yield* s.insert(newRun(1, { idempotencyKey: "k" }))
      const [answer] = yield* s.insertFor(a, newRun(2, { idempotencyKey: "k" }))
      assert.strictEqual(answer?._tag, "Existing")
      assert.isNull((yield* s.row(1)).workerId)
    })

    test("an idempotency key is free after its retention, once its run has ended", function* (s) {
      const a = yield* s.worker(1)
      const keyed = { idempotencyKey: "k", idempotencyRetentionMs: 1000 }
      const claim = yield* s.hold(a, 1, keyed)
      const inserted = function* (n: number) {
        const [answer] = yield* s.insert(newRun(n, keyed))
        return answer?._tag === "Inserted" ? answer.workflowRunId : answer?._tag
      }
      yield* s.advance(5000)
      assert.strictEqual(yield* Effect.gen(() => inserted(2)), "Existing")
      yield* s.committed(claim, { transition: settle("completed") })
      assert.strictEqual(yield* Effect.gen(() => inserted(2)), id(2))
      assert.strictEqual((yield* s.row(1)).idempotencyKey, null)
      yield* s.cancel(2)
      yield* s.advance(999)
      assert.strictEqual(yield* Effect.gen(() => inserted(3)), "Existing")
      yield* s.advance(1)
      // of two in one call with the freed key, the first gets it
      const [third, fourth] = yield* s.insert(newRun(3, keyed), newRun(4, keyed))
      assert.deepStrictEqual([third?._tag, fourth?._tag], ["Inserted", "Existing"])
    })

    test("an idempotency key is released from a terminal run only", function* (s) {
      const keyed = { idempotencyKey: "k" }
      yield* s.insert(newRun(1, keyed), newRun(2))
      const release = (n: number) => s.store.releaseIdempotencyKey(id(n))
      assert.strictEqual(yield* release(1), false)
      yield* s.cancel(1)
      yield* s.cancel(2)
      assert.strictEqual(yield* release(2), false)
      assert.strictEqual(yield* release(9), false)
      assert.strictEqual(yield* release(1), true)
      assert.strictEqual(yield* release(1), false)
      const [answer] = yield* s.insert(newRun(3, keyed))
      assert.strictEqual(answer?._tag, "Inserted")
    })
  })
}
