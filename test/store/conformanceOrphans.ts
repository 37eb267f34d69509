/** Children whose parent has ended: cancelled, whoever ended it, unless they outlive it. */
import { assert, describe } from "@effect/vitest"
import { childOf, id, newRun, settle, start, type Test } from "./conformanceFixture.ts"

export const orphanTests = (test: Test) => {
  describe("children of an ended parent", () => {
    test("are asked to cancel, once; those that never started end at once", function* (s) {
      const worker = yield* s.worker(1)
      const parent = yield* s.hold(worker, 1)
      yield* s.committed(parent, { children: [newRun(2, childOf(1, "a"))] })
      yield* s.claimOnly(worker, 2)
      yield* s.committed(parent, { children: [newRun(3, childOf(1, "b"))] })
      assert.strictEqual(yield* s.store.cancelOrphans({ limit: 10 }), 0)
      yield* s.committed(parent, { transition: settle("completed") })
      assert.strictEqual(yield* s.store.cancelOrphans({ limit: 10 }), 1)
      const [started, never] = [yield* s.row(2), yield* s.row(3)]
      assert.deepStrictEqual(
        [started.status, started.cancelRequest],
        ["running", { compensate: null, reason: "its parent ended" }],
      )
      assert.deepStrictEqual([never.status, never.completedAt], ["cancelled", start])
      assert.strictEqual(yield* s.store.cancelOrphans({ limit: 10 }), 0)
    })

    test("are looked for behind no more parents at once than the limit", function* (s) {
      const worker = yield* s.worker(1)
      for (const n of [1, 2, 3]) {
        const parent = yield* s.hold(worker, n)
        yield* s.committed(parent, {
          children: [newRun(n + 3, childOf(n))],
          transition: settle("completed"),
        })
      }
      const found = []
      for (let i = 0; i < 3; i++) found.push(yield* s.store.cancelOrphans({ limit: 2 }))
      assert.deepStrictEqual(found, [2, 1, 0])
    })

    test("live on where they outlive it, and say so", function* (s) {
      const worker = yield* s.worker(1)
      const parent = yield* s.hold(worker, 1)
      const abandoned = newRun(2, { ...childOf(1, "a"), onParentClose: "abandon" })
      yield* s.committed(parent, { children: [abandoned, newRun(3, childOf(1, "b"))] })
      assert.deepStrictEqual(
        (yield* s.history(1)).children.map((child) => child.onParentClose),
        ["abandon", "cancel"],
      )
      yield* s.committed(parent, { transition: settle("failed") })
      assert.strictEqual(yield* s.store.cancelOrphans({ limit: 10 }), 1)
      assert.deepStrictEqual(
        [(yield* s.row(2)).status, (yield* s.row(3)).status],
        ["pending", "cancelled"],
      )
      assert.strictEqual(yield* s.store.cancelOrphans({ limit: 10 }), 0)
    })

    test("outlive one that was terminated, too", function* (s) {
      const parent = yield* s.hold(yield* s.worker(1), 1)
      const abandoned = newRun(2, { ...childOf(1, "a"), onParentClose: "abandon" })
      yield* s.committed(parent, { children: [abandoned, newRun(3, childOf(1, "b"))] })
      const error = { name: "Error", message: "terminated" }
      yield* s.store.terminateRuns([{ workflowRunId: id(1), error, reason: null }])
      assert.deepStrictEqual(
        [(yield* s.row(2)).status, (yield* s.row(3)).status],
        ["pending", "cancelled"],
      )
    })

    test("are found behind one that was dead-lettered as poison", function* (s) {
      const parent = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(parent, { children: [newRun(2, childOf(1, "a"))] })
      yield* s.lapseAndSweep
      const dead = yield* s.store.deadLetterPoison({ maxCrashes: 1, limit: 10 })
      assert.deepStrictEqual(dead, [id(1)])
      yield* s.store.cancelOrphans({ limit: 10 })
      assert.strictEqual((yield* s.row(2)).status, "cancelled")
    })
  })
}
