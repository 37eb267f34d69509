/** Claims whose answer never came, or came late: nothing is held that nobody executes. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { gated, leaseMs, makeRig, pass, plain, type Rig } from "./rig.ts"
import { it, quiet, until } from "./scripted.ts"

/** No heartbeat gets through until the lease has lapsed; nobody has swept yet. */
const freeze = Effect.fnUntraced(function* (rig: Rig) {
  rig.script("renewLease", () => "fail")
  rig.script("sweep", () => "fail")
  yield* pass(leaseMs + 1000, 500)
  rig.script("renewLease", null)
  yield* pass(6000, 500)
})

/** A worker whose first claim is answered only when the latch opens: by then it is another incarnation. */
const frozenBehindItsClaim = Effect.fnUntraced(function* (rig: Rig, run: string) {
  const latch = yield* Latch.make()
  rig.script("claimRuns", (_, { suspects }) =>
    !suspects && plain(rig).length === 1 ? { after: latch } : undefined,
  )
  const { worker } = yield* rig.startWorker()
  yield* until("it was claimed", () => rig.row(run).workerId !== null)
  const former = worker.health().workerId
  yield* freeze(rig)
  assert.notStrictEqual(worker.health().workerId, former)
  return { worker, latch }
})

describe("lost replies", () => {
  it.effect("a claim whose reply was lost is released, and claimed again", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      const ids = yield* rig.insert(3)
      rig.script("claimRuns", (_, { suspects }) =>
        !suspects && plain(rig).length === 1 ? "fail-after" : undefined,
      )
      yield* rig.startWorker()
      yield* until("it was claimed", () => rig.row(ids[0]!).workerId !== null)
      // "at once": long before the next heartbeat is due
      yield* pass(3000)
      assert.strictEqual(w.begun.length, 3)
      assert.deepStrictEqual(
        rig.rows().map((run) => run.crashCount),
        [0, 0, 0],
      )
    }),
  )

  it.effect("a claim that never answers stops the poller for a while, not for ever", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* rig.insert(3)
      rig.script("claimRuns", (nth) => (nth === 2 ? "hang-after" : undefined))
      const { worker } = yield* rig.startWorker()
      yield* pass(5000)
      assert.deepInclude(
        worker.health().unhealthy.map(({ loop }) => loop),
        "poller",
      )
      yield* pass(80_000, 1000)
      assert.strictEqual(w.begun.length, 3)
      assert.deepStrictEqual(worker.health().unhealthy, [])
    }),
  )

  it.effect("what a claim of a former incarnation brings is given back, not executed", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      const [run] = yield* rig.insert(1)
      const { worker, latch } = yield* frozenBehindItsClaim(rig, run!)
      yield* latch.open
      yield* pass(2000)
      assert.strictEqual(w.begun.length, 1)
      assert.strictEqual(rig.row(run!).workerId, worker.health().workerId)
      assert.strictEqual(rig.row(run!).crashCount, 0)
    }),
  )

  it.effect("late replies of a former incarnation are disowned before anybody sweeps", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      const [run] = yield* rig.insert(1)
      // what it held cannot be given back yet
      rig.script("releaseClaims", () => "fail")
      const { worker, latch } = yield* frozenBehindItsClaim(rig, run!)
      yield* latch.open
      yield* quiet
      assert.strictEqual(w.begun.length, 0)
      rig.script("releaseClaims", null)
      yield* pass(10_000, 500)
      assert.strictEqual(w.begun.length, 1)
      assert.strictEqual(rig.row(run!).workerId, worker.health().workerId)
    }),
  )
})
