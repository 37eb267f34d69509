/**
 * The lease: how long it is trusted, how it ends, and what is released because nobody here
 * accounts for it.
 */
import { assert, describe } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as TestClock from "effect/testing/TestClock"
import * as MemoryStore from "../../src/MemoryStore.ts"
import type { Claim } from "../../src/WorkflowStore.ts"
import { makeLease } from "../../src/worker/lease.ts"
import { Fixture, id, newRun, start } from "../store/conformanceFixture.ts"
import { it, makeScripted, quiet, until } from "./scripted.ts"

const leaseMs = 30_000
/** Lease less margin. */
const trustMs = 25_000

const setUp = Effect.gen(function* () {
  yield* TestClock.setTime(start)
  const memory = MemoryStore.makeUnsafe()
  const scripted = makeScripted(memory.store)
  const clock = yield* Clock.Clock
  const accounted = new Set<string>()
  const events: Array<string> = []
  const lease = makeLease({
    store: scripted.store,
    leaseMs,
    monotonicMs: () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6,
    registration: () => ({
      label: "l",
      capacity: 10,
      workflows: [{ name: "w", version: null }],
    }),
    accountsFor: (claim: Claim) => accounted.has(claim.workflowRunId),
    onLapsed: () => events.push("lapsed"),
    wantReconcile: () => events.push("reconcile"),
  })
  yield* lease.register
  const fixture = new Fixture(memory.store)
  return {
    ...scripted,
    memory,
    lease,
    accounted,
    events,
    fixture,
    heartbeat: Effect.exit(lease.heartbeat),
    workerOf: (n: number) =>
      memory.inspect().runs.find((run) => run.workflowRunId === id(n))?.workerId ?? null,
    insert: (...runs: ReadonlyArray<number>) =>
      memory.store.insertRuns({ runs: runs.map((n) => newRun(n)), claimFor: lease.workerId() }),
  }
})

describe("trust", () => {
  it.effect("lasts from the start of a successful heartbeat for the lease less a margin", () =>
    Effect.gen(function* () {
      const { lease, heartbeat } = yield* setUp
      yield* TestClock.adjust(trustMs - 1)
      assert.isTrue(lease.trusted())
      yield* TestClock.adjust(1)
      assert.isFalse(lease.trusted())
      yield* heartbeat
      assert.isTrue(lease.trusted())
      yield* TestClock.adjust(trustMs)
      assert.isFalse(lease.trusted())
    }),
  )

  it.effect("counts from before the call, not from its answer", () =>
    Effect.gen(function* () {
      const { lease, heartbeat, script } = yield* setUp
      yield* TestClock.adjust(10_000)
      const latch = yield* Latch.make()
      script("renewLease", () => ({ after: latch }))
      const fiber = yield* Effect.forkChild(heartbeat, { startImmediately: true })
      yield* quiet
      yield* TestClock.adjust(9000)
      yield* latch.open
      yield* Fiber.join(fiber)
      // the answer came at 19 s; it was asked at 10 s
      yield* TestClock.adjust(trustMs - 9000 - 1)
      assert.isTrue(lease.trusted())
      yield* TestClock.adjust(1)
      assert.isFalse(lease.trusted())
    }),
  )

  it.effect("also of the registration counts from before the call", () =>
    Effect.gen(function* () {
      const { lease, heartbeat, script } = yield* setUp
      yield* TestClock.adjust(leaseMs)
      const latch = yield* Latch.make()
      script("registerWorker", () => ({ after: latch }))
      const fiber = yield* Effect.forkChild(heartbeat, { startImmediately: true })
      yield* quiet
      yield* TestClock.adjust(5000)
      assert.isFalse(lease.trusted())
      yield* latch.open
      yield* Fiber.join(fiber)
      assert.isTrue(lease.trusted())
      yield* TestClock.adjust(trustMs - 5000)
      assert.isFalse(lease.trusted())
    }),
  )

  it.effect("is not shortened by a heartbeat that failed", () =>
    Effect.gen(function* () {
      const { lease, heartbeat, script, events } = yield* setUp
      script("renewLease", () => "fail")
      yield* TestClock.adjust(10_000)
      assert.strictEqual((yield* heartbeat)._tag, "Failure")
      assert.isTrue(lease.trusted())
      yield* TestClock.adjust(trustMs - 10_001)
      assert.isTrue(lease.trusted())
      assert.deepStrictEqual(events, [])
    }),
  )

  it.effect("fresh ends a third of a lease before trust does", () =>
    Effect.gen(function* () {
      const { lease } = yield* setUp
      yield* TestClock.adjust(trustMs - leaseMs / 3 - 1)
      assert.isTrue(lease.fresh())
      yield* TestClock.adjust(1)
      assert.isFalse(lease.fresh())
    }),
  )

  it.effect("a heartbeat that never answers is given up, as a failure", () =>
    Effect.gen(function* () {
      const { heartbeat, script, open } = yield* setUp
      script("renewLease", () => "hang")
      const fiber = yield* Effect.forkChild(heartbeat, { startImmediately: true })
      yield* quiet
      yield* TestClock.adjust(leaseMs / 3)
      const exit = yield* Fiber.join(fiber)
      assert.strictEqual(exit._tag, "Failure")
      assert.strictEqual(open("renewLease"), 0)
    }),
  )
})

describe("a lapsed lease", () => {
  it.effect("is never renewed: everything is dropped, under a fresh incarnation", () =>
    Effect.gen(function* () {
      const { lease, heartbeat, events, calls } = yield* setUp
      const former = lease.workerId()
      yield* TestClock.adjust(leaseMs)
      yield* heartbeat
      assert.deepStrictEqual(events, ["lapsed"])
      assert.notStrictEqual(lease.workerId(), former)
      assert.isTrue(lease.trusted())
      assert.deepStrictEqual(calls("refundCrashes"), [[former]])
      yield* heartbeat
      assert.deepStrictEqual(events, ["lapsed"])
      assert.strictEqual(calls("refundCrashes").length, 1)
    }),
  )

  it.effect("is told before anything waits for the store again", () =>
    Effect.gen(function* () {
      const { lease, heartbeat, events, script } = yield* setUp
      script("registerWorker", () => "hang")
      yield* TestClock.adjust(leaseMs)
      const fiber = yield* Effect.forkChild(heartbeat, { startImmediately: true })
      yield* quiet
      assert.deepStrictEqual(events, ["lapsed"])
      assert.isFalse(lease.trusted())
      yield* TestClock.adjust(leaseMs)
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "Failure")
    }),
  )

  it.effect("whose successor cannot register at first is still the one that is refunded", () =>
    Effect.gen(function* () {
      const { lease, heartbeat, events, calls, script } = yield* setUp
      const former = lease.workerId()
      script("registerWorker", (nth) => (nth <= 2 ? "fail-after" : undefined))
      yield* TestClock.adjust(leaseMs)
      for (let i = 0; i < 4; i++) yield* heartbeat
      assert.deepStrictEqual(calls("refundCrashes"), [[former]])
      assert.deepStrictEqual(events, ["lapsed"])
      assert.isTrue(lease.trusted())
      assert.notStrictEqual(lease.workerId(), former)
    }),
  )

  it.effect("is refunded until the store has done it", () =>
    Effect.gen(function* () {
      const { lease, heartbeat, calls, script } = yield* setUp
      const former = lease.workerId()
      script("refundCrashes", (nth) => (nth <= 2 ? "fail" : undefined))
      yield* TestClock.adjust(leaseMs)
      for (let i = 0; i < 5; i++) yield* heartbeat
      assert.deepStrictEqual(calls("refundCrashes"), [[former], [former], [former]])
      assert.isTrue(lease.trusted())
    }),
  )

  it.effect("gives back what nobody has swept yet: a frozen worker has not crashed", () =>
    Effect.gen(function* () {
      const { heartbeat, insert, memory, workerOf } = yield* setUp
      yield* insert(1, 2)
      yield* TestClock.adjust(leaseMs)
      yield* heartbeat
      assert.isNull(workerOf(1))
      yield* memory.store.sweep({ limit: 10 })
      assert.deepStrictEqual(
        memory.inspect().runs.map((run) => [run.status, run.crashCount]),
        [
          ["pending", 0],
          ["pending", 0],
        ],
      )
    }),
  )

  it.effect("gives back the crashes that a sweep has counted", () =>
    Effect.gen(function* () {
      const { heartbeat, insert, memory } = yield* setUp
      yield* insert(1)
      yield* TestClock.adjust(leaseMs)
      yield* memory.store.sweep({ limit: 10 })
      assert.strictEqual(memory.inspect().runs[0]?.crashCount, 1)
      yield* heartbeat
      assert.strictEqual(memory.inspect().runs[0]?.crashCount, 0)
    }),
  )
})

describe("reconcile", () => {
  it.effect("releases what no run accounts for, and nothing else", () =>
    Effect.gen(function* () {
      const { heartbeat, insert, accounted, workerOf, lease, calls } = yield* setUp
      yield* insert(1, 2)
      accounted.add(id(1))
      yield* heartbeat
      assert.strictEqual(workerOf(1), lease.workerId())
      assert.isNull(workerOf(2))
      assert.deepStrictEqual(calls("releaseClaims"), [[[{ workflowRunId: id(2), token: 1 }]]])
    }),
  )

  it.effect("does not take a claim away that is in flight", () =>
    Effect.gen(function* () {
      const { heartbeat, insert, accounted, workerOf, lease } = yield* setUp
      const claiming = lease.claiming()
      yield* insert(1)
      yield* heartbeat
      yield* TestClock.adjust(10_000)
      yield* heartbeat
      assert.strictEqual(workerOf(1), lease.workerId())
      accounted.add(id(1))
      claiming.end()
      yield* heartbeat
      assert.strictEqual(workerOf(1), lease.workerId())
    }),
  )

  it.effect("does not take a claim away that began while the heartbeat was under way", () =>
    Effect.gen(function* () {
      const { heartbeat, insert, workerOf, lease, script, open } = yield* setUp
      // the heartbeat waits for a connection; meanwhile a claim begins and commits before it
      const before = yield* Latch.make()
      script("renewLease", () => ({ before }))
      const fiber = yield* Effect.forkChild(heartbeat, { startImmediately: true })
      yield* until("it is under way", () => open("renewLease") === 1)
      yield* TestClock.adjust(100)
      lease.claiming()
      yield* insert(1)
      yield* TestClock.adjust(100)
      yield* before.open
      yield* Fiber.join(fiber)
      assert.strictEqual(workerOf(1), lease.workerId())
    }),
  )

  it.effect(
    "releases a claim whose reply was lost, once those that might bring it have ended",
    () =>
      Effect.gen(function* () {
        const { heartbeat, insert, workerOf, lease } = yield* setUp
        const claiming = lease.claiming()
        yield* insert(1)
        yield* heartbeat
        assert.isNotNull(workerOf(1))
        claiming.end()
        // another claim, begun later, cannot bring it
        yield* TestClock.adjust(100)
        lease.claiming()
        yield* heartbeat
        assert.isNull(workerOf(1))
      }),
  )

  it.effect("is asked for when the last claim has ended that might have brought what is held", () =>
    Effect.gen(function* () {
      const { heartbeat, insert, accounted, events, lease } = yield* setUp
      const [first, second] = [lease.claiming(), lease.claiming()]
      yield* insert(1, 2)
      yield* heartbeat
      first.end()
      yield* quiet
      assert.deepStrictEqual(events, [])
      yield* TestClock.adjust(100)
      lease.claiming()
      second.end()
      // it brings one of them
      accounted.add(id(1))
      yield* quiet
      assert.deepStrictEqual(events, ["reconcile"])
    }),
  )

  it.effect("is not asked for when the claim has brought all", () =>
    Effect.gen(function* () {
      const { heartbeat, insert, accounted, events, lease } = yield* setUp
      const claiming = lease.claiming()
      yield* insert(1)
      yield* heartbeat
      claiming.end()
      accounted.add(id(1))
      yield* quiet
      assert.deepStrictEqual(events, [])
    }),
  )

  it.effect("the end of one claim says nothing about an older one", () =>
    Effect.gen(function* () {
      const { heartbeat, insert, workerOf, lease } = yield* setUp
      lease.claiming()
      yield* insert(1)
      yield* TestClock.adjust(100)
      yield* heartbeat
      yield* TestClock.adjust(100)
      const later = lease.claiming()
      yield* TestClock.adjust(100)
      later.end()
      later.end()
      yield* heartbeat
      assert.strictEqual(workerOf(1), lease.workerId())
    }),
  )

  it.effect("what is disowned is given back, until the store has done it", () =>
    Effect.gen(function* () {
      const { heartbeat, insert, accounted, workerOf, lease, script } = yield* setUp
      yield* insert(1)
      accounted.add(id(1))
      script("releaseClaims", (nth) => (nth === 1 ? "fail" : undefined))
      lease.disown([{ workflowRunId: id(1), token: 1 }])
      yield* heartbeat
      assert.isNotNull(workerOf(1))
      yield* heartbeat
      assert.isNull(workerOf(1))
    }),
  )

  it.effect("what is disowned while others are given back is not forgotten", () =>
    Effect.gen(function* () {
      const { heartbeat, insert, accounted, workerOf, lease, script, open } = yield* setUp
      yield* insert(1, 2)
      for (const n of [1, 2]) accounted.add(id(n))
      const after = yield* Latch.make()
      script("releaseClaims", (nth) => (nth === 1 ? { after } : undefined))
      lease.disown([{ workflowRunId: id(1), token: 1 }])
      const fiber = yield* Effect.forkChild(heartbeat, { startImmediately: true })
      yield* until("it is under way", () => open("releaseClaims") === 1)
      lease.disown([{ workflowRunId: id(2), token: 1 }])
      yield* after.open
      yield* Fiber.join(fiber)
      assert.deepStrictEqual([workerOf(1), workerOf(2)], [null, lease.workerId()])
      yield* heartbeat
      assert.isNull(workerOf(2))
    }),
  )
})

describe("retiring", () => {
  it.effect("gives back what is disowned, too", () =>
    Effect.gen(function* () {
      const { lease, heartbeat, insert, workerOf, script } = yield* setUp
      yield* insert(1)
      // of a former incarnation, which nobody has swept yet
      yield* TestClock.adjust(leaseMs)
      script("releaseClaims", (nth) => (nth === 1 ? "fail" : undefined))
      yield* heartbeat
      assert.isNotNull(workerOf(1))
      yield* lease.retire
      assert.isNull(workerOf(1))
    }),
  )

  it.effect("gives everything back first, so that no crash is counted", () =>
    Effect.gen(function* () {
      const { lease, insert, memory } = yield* setUp
      yield* insert(1, 2)
      yield* lease.retire
      yield* memory.store.sweep({ limit: 10 })
      assert.deepStrictEqual(
        memory.inspect().runs.map((run) => [run.workerId, run.crashCount, run.status]),
        [
          [null, 0, "pending"],
          [null, 0, "pending"],
        ],
      )
      assert.isTrue(memory.inspect().workers.every((one) => one.leaseExpiresAt <= start))
    }),
  )
})
