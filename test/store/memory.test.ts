import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Exit from "effect/Exit"
import * as TestClock from "effect/testing/TestClock"
import * as MemoryStore from "../../src/MemoryStore.ts"
import { WorkflowStore } from "../../src/WorkflowStore.ts"
import { storeConformance } from "./conformance.ts"
import {
  childOf,
  compensate,
  error,
  failed,
  Fixture,
  id,
  idsOf,
  json,
  newRun,
  record,
  registration,
  schedule,
  settle,
  sleepEnd,
  start,
  write,
} from "./conformanceFixture.ts"

storeConformance("MemoryStore", () =>
  Layer.unwrap(Effect.sync(() => MemoryStore.makeUnsafe({ client: "client" }).layer)),
)

const fixture = () => {
  const handle = MemoryStore.makeUnsafe()
  return { handle, s: new Fixture(handle.store) }
}

describe("MemoryStore", () => {
  it.effect("is empty each time its layer is built", () =>
    Effect.gen(function* () {
      const insert = WorkflowStore.use((store) => new Fixture(store).insert(newRun(1)))
      const list = WorkflowStore.use((store) => new Fixture(store).list())
      yield* Effect.provide(insert, MemoryStore.layer)
      assert.deepStrictEqual(yield* Effect.provide(list, MemoryStore.layer), [])
    }),
  )

  it.effect("of a handle is shared by all who are given it", () =>
    Effect.gen(function* () {
      const { handle, s } = fixture()
      yield* s.insert(newRun(1))
      const rows = WorkflowStore.use((store) => new Fixture(store).list())
      for (const layer of [handle.layer, MemoryStore.layerFrom(handle)]) {
        assert.deepStrictEqual(idsOf(yield* Effect.provide(rows, layer)), [id(1)])
      }
      assert.deepStrictEqual(idsOf(handle.inspect().runs), [id(1)])
    }),
  )

  it.effect("can be copied: what happens to one is not seen by the other", () =>
    Effect.gen(function* () {
      const { handle, s } = fixture()
      const claim = yield* s.hold(yield* s.worker(1), 1)
      yield* s.committed(claim, { records: [record("a", 1)] })
      yield* s.insert(newRun(2))
      const other = new Fixture(handle.copy().store)
      const before = yield* s.observe(1)
      assert.deepStrictEqual(yield* other.observe(1), before)
      yield* other.committed(claim, {
        timers: [{ stepKey: "nap", delayMs: 1 }],
        records: [record("b", 2)],
        transition: settle("completed"),
      })
      yield* other.claimOnly(yield* other.worker(2), 2)
      assert.deepStrictEqual(yield* s.observe(1), before)
      assert.strictEqual((yield* s.row(2)).status, "pending")
    }),
  )

  it.effect("can be copied with keys, schedules, events and all else that it holds", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const fill = Effect.fnUntraced(function* (s: Fixture) {
        const a = yield* s.worker(1)
        const claim = yield* s.hold(a, 1, { concurrencyKey: "k", attributes: { n: 1 } })
        yield* s.store.upsertSchedule(schedule("daily"))
        yield* s.sendEvent(1)
        yield* s.insert(newRun(2, { idempotencyKey: "i" }))
        return claim
      })
      const { handle, s } = fixture()
      const claim = yield* fill(s)
      const other = new Fixture(handle.copy().store)
      const tail = yield* s.store.tailEvents({ cursor: null, limit: 9 })
      const look = Effect.fnUntraced(function* (on: Fixture) {
        return {
          observed: yield* on.observe(1),
          log: yield* on.store.getControls(id(1)),
          schedules: yield* on.store.listSchedules,
          tail: yield* on.store.tailEvents({ cursor: tail.cursor, limit: 9 }),
          claims: (yield* on.store.renewLease(registration(1))).claims,
          runs: idsOf(yield* on.list()),
        }
      })
      const before = yield* look(s)
      assert.deepStrictEqual(yield* look(other), before)
      // of the other, everything changes
      yield* other.cancel(1, null, "why")
      yield* other.sendEvent(1, "more")
      yield* other.committed(claim, {
        records: [record("emit:x", 1, { kind: "emit", result: null })],
        emitted: [{ stepKey: "emit:x", name: "x", payload: json(1) }],
        children: [newRun(3, childOf(1))],
        attributes: { n: 2 },
      })
      yield* other.committed(claim, { transition: settle("completed") })
      yield* other.insert(newRun(4, { concurrencyKey: "k" }))
      const tick = { key: "daily", expectedNextTick: start, tick: start, nextTick: start + 9 }
      assert.isTrue(yield* other.store.fireTick({ ...tick, run: newRun(5) }))
      yield* other.store.upsertSchedule(schedule("hourly"))
      const [second] = yield* other.claim(yield* other.worker(2))
      yield* other.committed(second!, { transition: settle("failed") })
      yield* other.store.releaseIdempotencyKey(id(2))
      assert.deepStrictEqual(yield* look(s), before)
      // and of the first, what keys, ticks and due runs say is as it was
      const [held] = yield* s.insert(newRun(6, { concurrencyKey: "k" }))
      assert.deepStrictEqual(held, { _tag: "ConcurrencyHeld", workflowRunId: id(1) })
      const [existing] = yield* s.insert(newRun(7, { idempotencyKey: "i" }))
      assert.strictEqual(existing?._tag, "Existing")
      assert.isTrue(yield* s.store.fireTick({ ...tick, run: newRun(5) }))
      assert.deepStrictEqual(idsOf(yield* s.claim(yield* s.worker(2))), [id(2), id(5)])
    }),
  )

  it.effect("cannot be changed through what it was given, or what it answered", () =>
    Effect.gen(function* () {
      const { s } = fixture()
      const claim = yield* s.hold(yield* s.worker(1), 1)
      const result = { ...json("kept") }
      const failure = { ...error("kept"), props: { list: [1] } }
      const records = [record("a", 1, { result }), failed("b", 2, { error: failure })]
      yield* s.committed(claim, { records })
      const before = JSON.stringify(yield* s.observe(1))
      result.json = "changed"
      failure.props.list.push(2)
      records.length = 0
      const seen = (yield* s.observe(1)) as any
      for (const change of [
        () => seen.history.records.pop(),
        () => seen.steps.pop(),
        () => seen.history.events.push({}),
        () => (seen.row.status = "completed"),
        () => (seen.steps[0].result.json = "changed"),
        () => seen.history.records[1].error.props.list.push(3),
      ]) {
        Effect.runSyncExit(Effect.sync(change))
      }
      assert.strictEqual(JSON.stringify(yield* s.observe(1)), before)
    }),
  )

  describe("refuses as a defect, before anything is applied,", () => {
    const sleepless = { records: [record("a", 1), sleepEnd("nap", 2)] }
    const undo = { stepKey: "never", status: "completed", attempts: 1, error: null } as const
    const orphan = newRun(2, { parent: null })
    for (const [what, parts] of [
      ["a transition that the table does not name", { transition: settle("compensated") }],
      ["the end of a sleep that was never begun", sleepless],
      ["the undo of a step without a record", { records: [record("a", 1)], compensations: [undo] }],
      ["a child without its parent", { records: [record("a", 1)], children: [orphan] }],
    ] as const) {
      it.effect(what, () =>
        Effect.gen(function* () {
          const { s } = fixture()
          const a = yield* s.worker(1)
          const claim = yield* s.hold(a, 1)
          const bystander = yield* s.hold(a, 3)
          const before = yield* s.observe(1)
          const good = write(bystander, { transition: compensate })
          const exit = yield* Effect.exit(s.store.commit([good, write(claim, parts)]))
          assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
          assert.deepStrictEqual(yield* s.observe(1), before)
          assert.strictEqual((yield* s.row(3)).status, "running")
        }),
      )
    }

    it.effect("two writes for one run", () =>
      Effect.gen(function* () {
        const { s } = fixture()
        const claim = yield* s.hold(yield* s.worker(1), 1)
        const one = write(claim, { records: [record("a", 1)] })
        const exit = yield* Effect.exit(s.store.commit([one, one]))
        assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
        assert.deepStrictEqual(yield* s.store.getSteps(id(1)), [])
      }),
    )
  })

  it.effect("claims as fast beside many thousand finished runs as beside none", () =>
    Effect.gen(function* () {
      const { s } = fixture()
      const a = yield* s.worker(1)
      // the fastest of several: what else the machine does makes single ones slow
      const fastest = Effect.gen(function* () {
        let best = Infinity
        for (let round = 0; round < 5; round++) {
          const began = performance.now()
          for (let n = 0; n < 200; n++) yield* s.claim(a)
          best = Math.min(best, performance.now() - began)
        }
        return best
      })
      const beside = yield* fastest
      const many = Array.from({ length: 40_000 }, (_, n) => newRun(n))
      yield* s.insertFor(a, ...many)
      const end = { transition: settle("failed") }
      yield* s.store.commit(
        many.map(({ workflowRunId }) => write({ workflowRunId, token: 1 }, end)),
      )
      // about as long; a scan of the finished runs takes hundreds of times as long
      assert.isBelow(yield* fastest, 20 * beside + 5)
    }),
  )
})
