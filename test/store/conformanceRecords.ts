/** Records: outcomes that never change, backoffs that do, and what they say. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import {
  failed,
  id,
  json,
  parse,
  record,
  retrying,
  start,
  type Test,
} from "./conformanceFixture.ts"

export const recordTests = (test: Test) => {
  describe("records", () => {
    test("carry the store's time of their commit, and when they began", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.advance(100)
      const written = record("a", 1, {
        name: "charge",
        issuedAfter: 7,
        attempts: 3,
        hasCompensate: true,
      })
      const answer = yield* s.committed(claim, { records: [{ ...written, elapsedMs: 40 }] })
      assert.strictEqual(answer.now, start + 100)
      const [{ result, ...step }, ...others] = yield* s.store.getSteps(id(1)) as any
      assert.deepStrictEqual(others, [])
      assert.deepStrictEqual(parse(result), "a")
      assert.deepStrictEqual(step, {
        stepKey: "a",
        name: "charge",
        kind: "step",
        position: 1,
        issuedAfter: 7,
        status: "completed",
        attempts: 3,
        error: null,
        hasCompensate: true,
        carried: false,
        startedAt: start + 60,
        completedAt: start + 100,
        retryAt: null,
        revision: 0,
        heartbeat: null,
        compensation: null,
      })
    })

    test("mark that a sleep has begun before it has a timer, and end with it", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      const begun = record("nap", null, { kind: "sleep", status: "retrying", attempts: 0 })
      yield* s.committed(claim, { records: [begun] })
      const timers = [{ stepKey: "nap", delayMs: 50 }]
      const end = record("nap", 1, { kind: "sleep", result: null })
      const early = yield* s.committed(claim, { timers, records: [end] })
      assert.deepStrictEqual(early.refusedSleeps, [{ stepKey: "nap", wakeAt: start + 50 }])
      yield* s.advance(50)
      const late = yield* s.committed(claim, { records: [end] })
      assert.deepStrictEqual(late.refusedSleeps, [])
      const [step] = yield* s.store.getSteps(id(1))
      assert.deepStrictEqual([step?.status, step?.position], ["completed", 1])
    })

    test("are given in order of position, backoffs last; gaps are legal", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, { records: [record("c", 30), retrying("b", 1)] })
      yield* s.committed(claim, { records: [record("d", 10), failed("a", 20)] })
      const keys = (yield* s.history(1)).records.map((step) => [step.stepKey, step.position])
      assert.deepStrictEqual(keys, [
        ["d", 10],
        ["a", 20],
        ["c", 30],
        ["b", null],
      ])
      const steps = yield* s.store.getSteps(id(1))
      assert.deepStrictEqual(steps, (yield* s.history(1)).records)
    })

    for (const [what, first, second] of [
      ["completed", record("a", 1), failed("a", 2)],
      ["failed", failed("a", 1), record("a", 2)],
      ["completed, by a backoff,", record("a", 1), retrying("a", 9)],
    ] as const) {
      test(`that are final (${what}) never change`, function* (s) {
        const claim = yield* s.hold(yield* s.worker(1), 1)
        yield* s.committed(claim, { records: [first] })
        const before = yield* s.store.getSteps(id(1))
        yield* s.advance(5)
        yield* s.committed(claim, { records: [second] })
        assert.deepStrictEqual(yield* s.store.getSteps(id(1)), before)
      })
    }

    test("that ended keep what they told last of their progress, in every reading", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      const note = { status: "retrying", attempts: 0, result: null, revision: 1 } as const
      yield* s.committed(claim, { records: [record("a", null, { ...note, heartbeat: json(7) })] })
      yield* s.committed(claim, { records: [record("a", 1)] })
      const steps = yield* s.store.getSteps(id(1))
      assert.strictEqual(parse(steps[0]?.heartbeat), 7)
      assert.deepStrictEqual((yield* s.history(1)).records, steps)
    })

    test("of a backoff say when the next try is due, and have no position", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, { records: [retrying("a", 2, 700)] })
      const [step] = yield* s.store.getSteps(id(1))
      assert.deepStrictEqual(
        [step?.status, step?.attempts, step?.retryAt, step?.position, step?.completedAt],
        ["retrying", 2, start + 700, null, null],
      )
      assert.strictEqual(step?.error?.message, "attempt 2")
    })

    test("of a backoff are replaced by later ones, and by the outcome", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, { records: [retrying("a", 1, 100)] })
      yield* s.committed(claim, { records: [retrying("a", 2, 200)] })
      assert.strictEqual((yield* s.store.getSteps(id(1)))[0]?.retryAt, start + 200)
      yield* s.committed(claim, { records: [record("a", 1, { attempts: 3 })] })
      const [step, ...others] = yield* s.store.getSteps(id(1))
      assert.deepStrictEqual(others, [])
      assert.deepStrictEqual(
        [step?.status, step?.attempts, step?.retryAt, step?.error, step?.position],
        ["completed", 3, null, null, 1],
      )
    })

    test("of one count of tries are replaced by higher revisions alone", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      const note = (attempts: number, revision: number, heartbeat: unknown) => ({
        ...retrying("a", attempts),
        retryDelayMs: null,
        revision,
        heartbeat: heartbeat === undefined ? null : json(heartbeat),
      })
      const told = Effect.map(s.store.getSteps(id(1)), ([step]) => [
        step?.attempts,
        step?.revision,
        parse(step?.heartbeat),
      ])
      yield* s.committed(claim, { records: [note(0, 1, undefined)] })
      yield* s.committed(claim, { records: [note(0, 3, { page: 3 })] })
      // a delayed copy of an older one
      yield* s.committed(claim, { records: [note(0, 2, { page: 2 })] })
      assert.deepStrictEqual(yield* told, [0, 3, { page: 3 }])
      // a failed try, with nothing new to tell
      yield* s.committed(claim, { records: [note(1, 0, undefined)] })
      assert.deepStrictEqual(yield* told, [1, 0, { page: 3 }])
      yield* s.committed(claim, { records: [note(0, 9, { page: 9 })] })
      assert.deepStrictEqual(yield* told, [1, 0, { page: 3 }])
      yield* s.committed(claim, { records: [record("a", 1, { heartbeat: json(null) })] })
      assert.deepStrictEqual(yield* told, [1, 0, null])
      const [fromHistory] = (yield* s.history(1)).records
      assert.deepStrictEqual(fromHistory, (yield* s.store.getSteps(id(1)))[0])
    })

    test("keep their kind", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      const kinds = ["step", "child", "event", "side_effect", "emit", "token"] as const
      yield* s.committed(claim, {
        timers: [{ stepKey: "event", delayMs: 0 }],
        records: kinds.map((kind, n) => record(kind, n + 1, { kind })),
      })
      const steps = yield* s.store.getSteps(id(1))
      assert.deepStrictEqual(
        steps.map((step) => step.kind),
        [...kinds],
      )
    })

    test("give back values and errors as they were", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1)
      const rich = { codec: "devalue", json: '"[{\\"a\\":1},[\\"Date\\",\\"…\\"]]"' }
      const stored = {
        name: "CardError",
        message: "no “funds”",
        code: 402,
        props: { nested: { list: [1, null, "x"] } },
        cause: { name: "TypeError", message: "deep" },
      }
      const odd = 'a#2 "quoted" \\ ü'
      yield* s.committed(claim, {
        records: [
          record("rich", 1, { result: rich }),
          record("null", 2, { result: json(null) }),
          record("none", 3, { result: null }),
          failed(odd, 4, { error: stored }),
        ],
      })
      const steps = yield* s.store.getSteps(id(1))
      assert.strictEqual(steps[0]?.result?.codec, "devalue")
      assert.deepStrictEqual(parse(steps[0]?.result), parse(rich))
      assert.deepStrictEqual(
        [parse(steps[1]?.result), steps[1]?.result === null, steps[2]?.result],
        [null, false, null],
      )
      assert.deepStrictEqual([steps[3]?.stepKey, steps[3]?.error], [odd, stored])
    })
  })
}
