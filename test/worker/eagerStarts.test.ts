/** Runs that are started where they are triggered: inserted as claimed, in a slot that is free. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as TestClock from "effect/testing/TestClock"
import { start } from "../store/conformanceFixture.ts"
import { gated, leaseMs, makeRig, pass, pollMs, type Rig } from "./rig.ts"
import { it, quiet, until } from "./scripted.ts"

describe("eager starts", () => {
  /** A worker that has polled, and found nothing. */
  const idle = Effect.fnUntraced(function* (rig: Rig, maxConcurrent = 2) {
    const running = yield* rig.startWorker({ maxConcurrent })
    yield* until("it has polled", () => rig.calls("claimRuns").length >= 2)
    yield* quiet
    return running
  })

  const claimFor = (rig: Rig) => rig.calls("insertRuns").map(([options]) => options.claimFor)

  it.effect("a run starts without a claim, in a free slot", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      const { worker } = yield* idle(rig)
      const { length } = rig.calls("claimRuns")
      const { workflowRunId } = yield* rig.trigger()
      yield* until("it is executing", () => w.begun.length === 1)
      assert.strictEqual(rig.row(workflowRunId).workerId, worker.health().workerId)
      assert.strictEqual(rig.calls("claimRuns").length, length)
    }),
  )

  it.effect("the body starts after the insert was acknowledged", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* idle(rig)
      const latch = yield* Latch.make()
      rig.script("insertRuns", () => ({ after: latch }))
      const fiber = yield* Effect.forkChild(rig.trigger())
      yield* until("it was inserted", () => rig.rows().length === 1)
      yield* quiet
      assert.strictEqual(w.begun.length, 0)
      yield* latch.open
      yield* Fiber.join(fiber)
      yield* until("it is executing", () => w.begun.length === 1)
    }),
  )

  it.effect("never more than the free slots; the next are polled when one is freed", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      const { worker } = yield* idle(rig, 2)
      yield* Effect.forEach([1, 2, 3, 4, 5], () => rig.trigger(), { concurrency: 5 })
      yield* pass(2 * pollMs)
      assert.strictEqual(w.begun.length, 2)
      assert.strictEqual(worker.health().running, 2)
      yield* w.latch.open
      yield* until("all have completed", () =>
        rig.rows().every((run) => run.status === "completed"),
      )
    }),
  )

  it.effect("a claim under way and an eager start do not share a slot", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      const { worker } = yield* idle(rig, 2)
      yield* rig.insert(2)
      const latch = yield* Latch.make()
      rig.script("claimRuns", () => ({ after: latch }))
      rig.engine.journal.hints.local("work")
      yield* until("the claim is under way", () => rig.open("claimRuns") === 1)
      yield* rig.trigger()
      yield* rig.trigger()
      rig.script("claimRuns", null)
      yield* latch.open
      yield* quiet
      assert.isAtMost(worker.health().running, 2)
      assert.strictEqual(w.begun.length, 2)
    }),
  )

  const refused: ReadonlyArray<readonly [string, (rig: Rig) => Effect.Effect<unknown, unknown>]> = [
    ["that is scheduled", (rig) => rig.trigger({ scheduledFor: new Date(start + 60_000) })],
    ["with a concurrency key", (rig) => rig.trigger({ concurrencyKey: "k" })],
    ["of a workflow that is unknown here", (rig) => rig.trigger({}, "foreign")],
  ]
  for (const [what, trigger] of refused) {
    it.effect(`a run ${what} is not started eagerly`, () =>
      Effect.gen(function* () {
        const rig = yield* makeRig(gated().workflow)
        yield* idle(rig)
        yield* trigger(rig)
        assert.deepStrictEqual(claimFor(rig), [null])
        yield* quiet
        const told = rig.calls("notify").flatMap(([hints]) => hints)
        assert.deepStrictEqual(told, ["work"], "others are told of it")
      }),
    )
  }

  it.effect("not behind a backlog, though slots are free", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* rig.insert(5)
      const { worker } = yield* rig.startWorker({ maxConcurrent: 2 })
      yield* until("they are executing", () => w.begun.length === 2)
      // the last claim came back full, and the next does not come back
      rig.script("claimRuns", () => "fail")
      yield* w.latch.open
      yield* until("the slots are free", () => worker.health().running === 0)
      yield* rig.trigger()
      assert.deepStrictEqual(claimFor(rig), [null])
    }),
  )

  it.effect("what came while no slot was free is claimed as soon as one is", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* idle(rig, 1)
      yield* rig.trigger()
      yield* until("it is executing", () => w.begun.length === 1)
      yield* rig.insert(1)
      rig.engine.journal.hints.local("work")
      yield* quiet
      yield* w.latch.open
      yield* until("the other is executing", () => w.begun.length === 2)
    }),
  )

  it.effect("what came while a slot was kept for nothing is claimed as soon as that is known", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* idle(rig, 1)
      yield* w.latch.open
      const first = yield* rig.trigger({ idempotencyKey: "k" })
      yield* until("it has ended", () => rig.row(first.workflowRunId).status === "completed")
      yield* quiet
      const after = yield* Latch.make()
      rig.script("insertRuns", () => ({ after }))
      const again = yield* Effect.forkChild(rig.trigger({ idempotencyKey: "k" }))
      yield* until("it is asked for", () => rig.open("insertRuns") === 1)
      yield* rig.insert(1)
      rig.engine.journal.hints.local("work")
      yield* quiet
      assert.strictEqual(w.begun.length, 1)
      yield* after.open
      assert.isTrue((yield* Fiber.join(again)).existing)
      yield* until("the other is executing", () => w.begun.length === 2)
    }),
  )

  it.effect("not on a lease that is getting old", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig(gated().workflow)
      yield* idle(rig)
      rig.script("renewLease", () => "fail")
      yield* pass(16_000, 500)
      yield* rig.trigger()
      assert.deepStrictEqual(claimFor(rig), [null])
    }),
  )

  it.effect("not on a worker that is stopping", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig(gated().workflow)
      const { worker } = yield* idle(rig)
      yield* worker.stop
      yield* rig.trigger()
      assert.deepStrictEqual(claimFor(rig), [null])
    }),
  )

  /** Every way in which an eager start may come to nothing: the slots are there again. */
  const nothing: ReadonlyArray<readonly [string, (rig: Rig) => Effect.Effect<unknown, unknown>]> = [
    [
      "its caller was interrupted",
      (rig) =>
        Effect.gen(function* () {
          rig.script("insertRuns", () => "hang-after")
          const fiber = yield* Effect.forkChild(rig.trigger(), { startImmediately: true })
          yield* quiet
          yield* Fiber.interrupt(fiber)
        }),
    ],
    [
      "its deadline passed",
      (rig) =>
        Effect.gen(function* () {
          rig.script("insertRuns", () => "hang")
          const fiber = yield* Effect.forkChild(rig.trigger({ deadlineMs: 100 }), {
            startImmediately: true,
          })
          yield* quiet
          yield* TestClock.adjust(100)
          assert.isTrue(Exit.isFailure(yield* Fiber.await(fiber)))
        }),
    ],
    [
      "the store refused it",
      (rig) =>
        Effect.gen(function* () {
          rig.script("insertRuns", () => "reject")
          assert.isTrue(Exit.isFailure(yield* Effect.exit(rig.trigger())))
        }),
    ],
    [
      "the store died of it",
      (rig) =>
        Effect.gen(function* () {
          rig.script("insertRuns", () => "die")
          const fiber = yield* Effect.forkChild(rig.trigger(), { startImmediately: true })
          yield* pass(1000)
          assert.isTrue(Exit.isFailure(yield* Fiber.await(fiber)))
        }),
    ],
    [
      "its key has a run",
      (rig) =>
        Effect.gen(function* () {
          const first = yield* rig.trigger({ idempotencyKey: "k", scheduledFor: new Date(start) })
          yield* rig.memory.store.requestCancel({
            workflowRunId: first.workflowRunId,
            compensate: null,
            reason: null,
          })
          assert.isTrue((yield* rig.trigger({ idempotencyKey: "k" })).existing)
        }),
    ],
    [
      "the lease had lapsed when it was inserted",
      (rig) =>
        Effect.gen(function* () {
          const before = yield* Latch.make()
          rig.script("insertRuns", () => ({ before }))
          const fiber = yield* Effect.forkChild(rig.trigger(), { startImmediately: true })
          yield* quiet
          yield* TestClock.adjust(leaseMs)
          yield* before.open
          yield* Effect.exit(Fiber.join(fiber))
          yield* pass(2000)
        }),
    ],
  ]
  for (const [why, comeToNothing] of nothing) {
    it.effect(`a slot is free again when ${why}`, () =>
      Effect.gen(function* () {
        const w = gated()
        const rig = yield* makeRig(w.workflow)
        const { worker } = yield* idle(rig, 2)
        yield* Effect.orDie(comeToNothing(rig))
        rig.script("insertRuns", null)
        // a hung call of the lane is given up after a while
        yield* pass(90_000, 1000)
        yield* w.latch.open
        yield* pass(2 * pollMs)
        assert.strictEqual(worker.health().running, 0)
        const eager = rig.calls("insertRuns").length
        w.begun.length = 0
        yield* w.latch.close
        yield* rig.trigger()
        yield* rig.trigger()
        yield* until("both are executing", () => w.begun.length === 2)
        assert.isTrue(
          claimFor(rig)
            .slice(eager)
            .every((one) => one !== null),
        )
        assert.strictEqual(worker.health().running, 2)
      }),
    )
  }

  it.effect("a run whose caller gave up is released and starts all the same", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* idle(rig)
      rig.script("insertRuns", (nth) => (nth === 1 ? "hang-after" : undefined))
      const fiber = yield* Effect.forkChild(rig.trigger(), { startImmediately: true })
      yield* until("it was inserted", () => rig.rows().length === 1)
      yield* Fiber.interrupt(fiber)
      yield* pass(3000)
      assert.strictEqual(w.begun.length, 1)
      assert.strictEqual(rig.rows()[0]?.crashCount, 0)
    }),
  )

  it.effect("an insert under way is not taken for a lost one", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* idle(rig)
      const latch = yield* Latch.make()
      rig.script("insertRuns", (nth) => (nth === 1 ? { after: latch } : undefined))
      const slow = yield* Effect.forkChild(rig.trigger({ deadlineMs: 600_000 }), {
        startImmediately: true,
      })
      yield* until("it was inserted", () => rig.rows().length === 1)
      // others come and go meanwhile
      const hasty = yield* Effect.forkChild(rig.trigger({ deadlineMs: 1000 }), {
        startImmediately: true,
      })
      yield* pass(25_000, 500)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(hasty)))
      assert.isNotNull(rig.rows()[0]?.workerId)
      assert.strictEqual(rig.rows()[0]?.token, 1)
      yield* latch.open
      yield* Fiber.join(slow)
      yield* until("it is executing", () => w.begun.length === 1)
    }),
  )
})
