/** Selecting runs, counting them, and what runs tell about themselves. */
import { assert, describe } from "@effect/vitest"
import type { RunSelection } from "../../src/WorkflowStore.ts"
import {
  childOf,
  handBack,
  id,
  idsOf,
  newRun,
  park,
  record,
  settle,
  start,
  type Test,
  write,
} from "./conformanceFixture.ts"

const all: RunSelection = { statuses: null, workflow: null, parentRunId: null }

export const selectionTests = (test: Test) => {
  describe("a selection", () => {
    test("is of runs that fulfil all of it, newest first, page by page", function* (s) {
      const a = yield* s.worker(1)
      const c1 = { customer: "c1", total: 12 }
      yield* s.committed(yield* s.hold(a, 1, { idempotencyKey: "i", attributes: c1 }), {
        transition: settle("completed"),
      })
      yield* s.advance(100)
      yield* s.insert(
        newRun(2, { concurrencyKey: "k", attributes: { customer: "c1", total: 12.5, vip: true } }),
        newRun(3, { workflow: "x", attributes: { customer: "c2" } }),
      )
      yield* s.advance(100)
      yield* s.insert(newRun(4, childOf(2)), newRun(5))
      const cases: ReadonlyArray<readonly [Partial<RunSelection>, ReadonlyArray<number>]> = [
        [{}, [5, 4, 3, 2, 1]],
        [{ statuses: ["pending"] }, [5, 4, 3, 2]],
        [{ statuses: ["pending", "completed"], workflow: "w" }, [5, 4, 2, 1]],
        [{ statuses: [] }, []],
        [{ workflow: "x" }, [3]],
        [{ parentRunId: id(2) }, [4]],
        [{ idempotencyKey: "i" }, [1]],
        [{ concurrencyKey: "k" }, [2]],
        [{ attributes: { customer: "c1" } }, [2, 1]],
        [{ attributes: { customer: "c1", total: 12 } }, [1]],
        [{ attributes: { vip: true } }, [2]],
        [{ attributes: { total: "12" } }, []],
        [{ attributes: { customer: "c1" }, statuses: ["pending"] }, [2]],
        [{ createdFrom: start + 100 }, [5, 4, 3, 2]],
        [{ createdBefore: start + 200 }, [3, 2, 1]],
        [{ createdFrom: start + 100, createdBefore: start + 200, workflow: "w" }, [2]],
      ]
      for (const [selection, expected] of cases) {
        const what = JSON.stringify(selection)
        const found = idsOf(yield* s.list(selection))
        assert.deepStrictEqual(found, expected.map(id), what)
        const paged: Array<string> = []
        for (;;) {
          const before = paged.at(-1) ?? null
          const page = yield* s.list({ ...selection, before, limit: 2 })
          paged.push(...idsOf(page))
          if (page.length < 2) break
        }
        assert.deepStrictEqual(paged, expected.map(id), `${what}, page by page`)
        const count = yield* s.store.countRuns({ ...all, ...selection })
        assert.strictEqual(count, expected.length, `${what}, counted`)
      }
    })

    test("of a parent that is no id is empty", function* (s) {
      yield* s.insert(newRun(1))
      assert.deepStrictEqual(yield* s.list({ parentRunId: "x" }), [])
      assert.strictEqual(yield* s.store.countRuns({ ...all, parentRunId: "x" }), 0)
    })
  })

  describe("attributes", () => {
    test("are set by the insert and by the holder, each name by itself", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1, { attributes: { a: "one", n: 1.5 } })
      yield* s.insert(newRun(2))
      yield* s.committed(claim, { attributes: { yes: true, a: "two" } })
      const row = yield* s.row(1)
      assert.deepStrictEqual(
        [row.attributes, row.statusText],
        [{ a: "two", n: 1.5, yes: true }, null],
      )
      assert.deepStrictEqual((yield* s.row(2)).attributes, {})
    })

    test("travel with any write: records, a park, the end", function* (s) {
      const a = yield* s.worker(1)
      const claim = yield* s.hold(a, 1)
      yield* s.committed(claim, { records: [record("s", 1)], attributes: { "": "working", n: 1 } })
      yield* s.committed(claim, { transition: park(0), attributes: { "": "waiting" } })
      assert.strictEqual((yield* s.row(1)).statusText, "waiting")
      yield* s.sendEvent(1)
      const again = yield* s.claimOnly(a, 1)
      yield* s.committed(again, { transition: settle("completed"), attributes: { "": "done" } })
      const { statusText, attributes } = yield* s.row(1)
      assert.deepStrictEqual([statusText, attributes], ["done", { n: 1 }])
    })

    test("are not set by who lost the claim, nor for another run of the batch", function* (s) {
      const a = yield* s.worker(1)
      const [lost, other] = [yield* s.hold(a, 1), yield* s.hold(a, 2)]
      yield* s.committed(lost, { transition: handBack })
      yield* s.store.commit([
        write(lost, { attributes: { n: 1 } }),
        write(other, { records: [record("s", 1)] }),
      ])
      assert.deepStrictEqual((yield* s.row(1)).attributes, {})
      assert.deepStrictEqual((yield* s.row(2)).attributes, {})
    })

    test("go with a fork, but not the status", function* (s) {
      const claim = yield* s.hold(yield* s.worker(1), 1, { attributes: { a: "one" } })
      yield* s.committed(claim, { attributes: { "": "working" } })
      const fork = { workflowRunId: id(1), from: null, newRunId: id(2), input: null, reason: null }
      yield* s.store.forkRuns([fork])
      const { statusText, attributes } = yield* s.row(2)
      assert.deepStrictEqual([statusText, attributes], [null, { a: "one" }])
    })
  })
}
