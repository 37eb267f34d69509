/** Transactional steps: under the fence, in one commit with their record, errors as they are. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Claim } from "../../src/WorkflowStore.ts"
import { held, situations } from "./conformanceFence.ts"
import { type Fixture, id, record, settle, type Test } from "./conformanceFixture.ts"

const transact = (s: Fixture, claim: Claim, use: Effect.Effect<void, unknown> = Effect.void) =>
  s.store.transact({
    claim,
    isolation: null,
    use: () => Effect.as(use, record("transfer", 3, { hasCompensate: true })),
  })

/** As another process would, while the transaction is open: not as a part of it. */
const outside = <E>(effect: Effect.Effect<unknown, E>) =>
  Effect.map(Effect.context<never>(), (context) =>
    Effect.asVoid(Effect.promise(() => Effect.runPromiseWith(context)(effect))),
  )

const outcome = (s: Fixture, claim: Claim) =>
  s.store.transactionOutcome({ claim, record: record("transfer", 3) })

export const transactTests = (test: Test) => {
  describe("transactions", () => {
    test("record their step, with the time of the commit", function* (s) {
      const claim = yield* held(s, yield* s.worker(1))
      yield* s.advance(7)
      const answer = yield* transact(s, claim)
      assert.strictEqual(answer._tag, "committed")
      const [, , step] = yield* s.store.getSteps(id(1))
      assert.deepInclude(step, { stepKey: "transfer", position: 3, status: "completed" })
      const committed = { _tag: "committed", now: step?.completedAt, wakeCounter: 0 }
      assert.deepInclude(answer as object, committed)
      const found = yield* outcome(s, claim)
      assert.deepInclude(found as object, committed)
    })

    test("hand their code a client", function* (s) {
      const claim = yield* held(s, yield* s.worker(1))
      yield* s.store.transact({
        claim,
        isolation: "serializable",
        use: ({ client }) =>
          Effect.sync(() => {
            assert.isOk(client)
            return record("a", 3)
          }),
      })
      assert.strictEqual((yield* s.store.getSteps(id(1))).length, 3)
    })

    test("whose code fails give its very error, and record nothing", function* (s) {
      const claim = yield* held(s, yield* s.worker(1))
      const before = yield* s.observe(1)
      const mine = { mine: true }
      assert.strictEqual(yield* Effect.flip(transact(s, claim, Effect.fail(mine))), mine as never)
      const defect = yield* Effect.sandbox(transact(s, claim, Effect.die(mine))).pipe(Effect.flip)
      assert.strictEqual((defect.reasons[0] as { defect?: unknown }).defect, mine)
      assert.deepStrictEqual(yield* s.observe(1), before)
      assert.strictEqual(yield* outcome(s, claim), null)
    })

    test("whose claim is lost while their code runs record nothing", function* (s) {
      const claim = yield* held(s, yield* s.worker(1))
      const answer = yield* transact(s, claim, yield* outside(s.lapseAndSweep))
      assert.strictEqual(answer._tag, "lost")
      assert.strictEqual((yield* s.store.getSteps(id(1))).length, 2)
      assert.strictEqual((yield* outcome(s, claim))?._tag, "lost")
    })

    test("whose run settles while their code runs record nothing", function* (s) {
      const claim = yield* held(s, yield* s.worker(1))
      const end = yield* outside(s.committed(claim, { transition: settle("completed") }))
      const answer = yield* transact(s, claim, end)
      assert.strictEqual(answer._tag, "lost")
      assert.strictEqual((yield* s.store.getSteps(id(1))).length, 2)
    })

    for (const [situation, make] of Object.entries(situations)) {
      test(`of a claim ${situation} are lost, and so is their outcome`, function* (s) {
        const claim = yield* make(s)
        const before = yield* s.observe(1)
        assert.strictEqual((yield* transact(s, claim))._tag, "lost")
        assert.strictEqual((yield* outcome(s, claim))?._tag, "lost")
        assert.deepStrictEqual(yield* s.observe(1), before)
      })
    }
  })
}
