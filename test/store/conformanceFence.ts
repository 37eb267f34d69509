/**
 * One writer per run (promise 5): each write, in each situation in which its claim is gone, is
 * `lost` and changes nothing; and each write sent twice is one write.
 */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Claim } from "../../src/WorkflowStore.ts"
import {
  type Fixture,
  handBack,
  id,
  idsOf,
  leaseMs,
  newRun,
  park,
  record,
  failed,
  retrying,
  settle,
  sleepEnd,
  type Test,
  write,
} from "./conformanceFixture.ts"
import { kindsOfWrite, writeOf } from "./conformanceWrites.ts"

/** A held run 1 with a completed and a failed step. */
export const held = Effect.fnUntraced(function* (s: Fixture, worker: string) {
  const claim = yield* s.hold(worker, 1)
  yield* s.committed(claim, {
    records: [record("done", 1, { hasCompensate: true }), failed("broken", 2)],
  })
  return claim
})

/** How a worker came to hold a claim that is none: answers the stale claim on run 1. */
export const situations: Record<string, (s: Fixture) => Effect.Effect<Claim, unknown>> = {
  "that was swept": Effect.fnUntraced(function* (s) {
    const claim = yield* held(s, yield* s.worker(1))
    yield* s.lapseAndSweep
    return claim
  }),
  "that was swept and taken over": Effect.fnUntraced(function* (s) {
    const claim = yield* held(s, yield* s.worker(1))
    yield* s.lapseAndSweep
    yield* s.claimOnly(yield* s.worker(2), 1)
    return claim
  }),
  "that was swept, taken over and settled": Effect.fnUntraced(function* (s) {
    const claim = yield* held(s, yield* s.worker(1))
    yield* s.lapseAndSweep
    const other = yield* s.claimOnly(yield* s.worker(2), 1)
    yield* s.committed(other, { transition: settle("completed") })
    return claim
  }),
  "that was handed back, and reclaimed by the same worker": Effect.fnUntraced(function* (s) {
    const a = yield* s.worker(1)
    const claim = yield* held(s, a)
    yield* s.committed(claim, { transition: handBack })
    yield* s.claimOnly(a, 1)
    return claim
  }),
  "that was parked, woken, and reclaimed by the same worker": Effect.fnUntraced(function* (s) {
    const a = yield* s.worker(1)
    const claim = yield* held(s, a)
    yield* s.committed(claim, { transition: park(0) })
    yield* s.sendEvent(1)
    yield* s.claimOnly(a, 1)
    return claim
  }),
  "that was released by reconcile": Effect.fnUntraced(function* (s) {
    const claim = yield* held(s, yield* s.worker(1))
    yield* s.store.releaseClaims([claim])
    return claim
  }),
  "that settled, was retried, and is reclaimed": Effect.fnUntraced(function* (s) {
    const a = yield* s.worker(1)
    const claim = yield* held(s, a)
    yield* s.committed(claim, { transition: settle("failed", { failedPosition: 9 }) })
    yield* s.store.retryRun(id(1))
    yield* s.claimOnly(a, 1)
    return claim
  }),
  "that was swept, and dead-lettered as poison": Effect.fnUntraced(function* (s) {
    yield* held(s, yield* s.worker(1))
    yield* s.lapseAndSweep
    const claim = yield* s.claimOnly(yield* s.worker(2), 1)
    yield* s.lapseAndSweep
    yield* s.store.deadLetterPoison({ maxCrashes: 1, limit: 1 })
    return claim
  }),
  "with a token of the future": Effect.fnUntraced(function* (s) {
    const claim = yield* held(s, yield* s.worker(1))
    return { ...claim, token: claim.token + 1 }
  }),
  "with token 0, of a run that nobody claimed": Effect.fnUntraced(function* (s) {
    yield* s.insert(newRun(1))
    return { workflowRunId: id(1), token: 0 }
  }),
}

export const fenceTests = (test: Test) => {
  for (const [situation, arrange] of Object.entries(situations)) {
    describe(`a claim ${situation}`, () => {
      for (const kind of kindsOfWrite) {
        test(`cannot ${kind.what} and is told so`, function* (s) {
          const stale = yield* arrange(s)
          const before = yield* s.observe(1)
          const answer = yield* s.commit(writeOf(stale, kind))
          assert.deepStrictEqual(answer, { _tag: "lost", workflowRunId: id(1) })
          assert.deepStrictEqual(yield* s.observe(1), before)
          assert.deepStrictEqual(idsOf(yield* s.list()), [id(1)])
        })
      }

      test("cannot be released, nor hear signals", function* (s) {
        const stale = yield* arrange(s)
        const before = yield* s.observe(1)
        assert.strictEqual(yield* s.store.releaseClaims([stale]), 0)
        assert.deepStrictEqual(yield* s.store.readSignals([stale]), [])
        assert.deepStrictEqual(yield* s.observe(1), before)
      })
    })
  }

  describe("the fence", () => {
    test("a lapsed worker that nobody swept still holds its claims", function* (s) {
      const claim = yield* held(s, yield* s.worker(1))
      yield* s.advance(10 * leaseMs)
      yield* s.committed(claim, { records: [record("late", 3)] })
    })

    test("an unknown run is lost", function* (s) {
      const answer = yield* s.commit(write({ workflowRunId: id(7), token: 1 }))
      assert.deepStrictEqual(answer, { _tag: "lost", workflowRunId: id(7) })
    })

    test("a claim that its own write let go can neither be released nor hear signals", function* (s) {
      const claim = yield* held(s, yield* s.worker(1))
      yield* s.committed(claim, { transition: park(0) })
      const before = yield* s.observe(1)
      assert.strictEqual(yield* s.store.releaseClaims([claim]), 0)
      assert.deepStrictEqual(yield* s.store.readSignals([claim]), [])
      assert.deepStrictEqual(yield* s.observe(1), before)
    })

    test("one stale write of a batch holds none of the others back", function* (s) {
      const a = yield* s.worker(1)
      const stale = yield* held(s, a)
      yield* s.store.releaseClaims([stale])
      const second = yield* s.hold(a, 2)
      const third = yield* s.hold(a, 3)
      const parts = { records: [record("x", 1)], transition: handBack }
      const answers = yield* s.store.commit([second, stale, third].map((c) => write(c, parts)))
      assert.deepStrictEqual(
        answers.map((answer) => [answer._tag, answer.workflowRunId]),
        [
          ["committed", id(2)],
          ["lost", id(1)],
          ["committed", id(3)],
        ],
      )
      assert.strictEqual((yield* s.store.getSteps(id(3))).length, 1)
    })
  })

  describe("sent again,", () => {
    for (const kind of kindsOfWrite) {
      test(`a write to ${kind.what} is committed once`, function* (s) {
        const claim = yield* held(s, yield* s.worker(1))
        const first = yield* s.commit(writeOf(claim, kind))
        assert.strictEqual(first._tag, "committed")
        const before = yield* s.observe(1)
        yield* s.advance(10)
        const second = yield* s.commit(writeOf(claim, kind))
        assert.strictEqual(second._tag, "committed")
        assert.deepStrictEqual(yield* s.observe(1), before)
        if (first._tag !== "committed" || second._tag !== "committed") return
        assert.deepStrictEqual(second.children, first.children)
        assert.deepStrictEqual(second.timers, first.timers)
        const standing = before.steps.find(
          (step) => step.completedAt !== null && step.position === 3,
        )
        if (standing !== undefined) assert.strictEqual(second.now, standing.completedAt)
      })
    }

    test("a write whose run was claimed anew is lost", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* held(s, a)
      const parked = write(claim, { records: [record("x", 3)], transition: park(0) })
      yield* s.commit(parked)
      yield* s.sendEvent(1)
      yield* s.claimOnly(a, 1)
      const before = yield* s.observe(1)
      assert.strictEqual((yield* s.commit(parked))._tag, "lost")
      assert.deepStrictEqual(yield* s.observe(1), before)
    })

    test("a write that never arrived before its run was released is lost", function* (s) {
      const claim = yield* held(s, yield* s.worker(1))
      yield* s.committed(claim, { transition: handBack })
      const before = yield* s.observe(1)
      const late = yield* s.commit(write(claim, { records: [record("late", 3)] }))
      assert.strictEqual(late._tag, "lost")
      assert.deepStrictEqual(yield* s.observe(1), before)
    })

    test("an end of a sleep that came too early proves nothing of a run that was released", function* (s) {
      const claim = yield* held(s, yield* s.worker(1))
      const timers = [{ stepKey: "nap", delayMs: 5000 }]
      const parts = { timers, records: [record("new", 3), sleepEnd("nap", 4)] }
      const answer = yield* s.committed(claim, parts)
      assert.strictEqual(answer.refusedSleeps.length, 1)
      yield* s.committed(claim, { transition: handBack })
      const again = yield* s.commit(write(claim, parts))
      assert.strictEqual(again._tag, "committed")
      // nothing of it could stand
      const alone = yield* s.commit(write(claim, { timers, records: [sleepEnd("nap", 4)] }))
      assert.strictEqual(alone._tag, "lost")
    })

    test("a write that had arrived before its run was released is committed", function* (s) {
      const claim = yield* held(s, yield* s.worker(1))
      yield* s.committed(claim, { records: [record("x", 3)] })
      yield* s.advance(5)
      yield* s.committed(claim, { records: [record("y", 4)], transition: settle("completed") })
      const before = yield* s.observe(1)
      yield* s.committed(claim, { records: [record("x", 3)] })
      assert.deepStrictEqual(yield* s.observe(1), before)
    })

    test("an older backoff does not replace a newer one", function* (s) {
      const claim = yield* held(s, yield* s.worker(1))
      yield* s.committed(claim, { records: [retrying("x", 1)] })
      yield* s.committed(claim, { records: [retrying("x", 2)] })
      const before = yield* s.observe(1)
      yield* s.committed(claim, { records: [retrying("x", 1)] })
      assert.deepStrictEqual(yield* s.observe(1), before)
    })

    test("a sleep's end that was refused is accepted once it is time", function* (s) {
      const claim = yield* held(s, yield* s.worker(1))
      const parts = {
        timers: [{ stepKey: "nap", delayMs: 100 }],
        records: [record("beside", 3), { ...record("nap", 4), kind: "sleep" as const }],
      }
      assert.strictEqual((yield* s.committed(claim, parts)).refusedSleeps.length, 1)
      assert.strictEqual((yield* s.committed(claim, parts)).refusedSleeps.length, 1)
      yield* s.advance(100)
      assert.deepStrictEqual((yield* s.committed(claim, parts)).refusedSleeps, [])
      assert.strictEqual((yield* s.store.getSteps(id(1))).length, 4)
    })
  })
}
