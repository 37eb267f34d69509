/**
 * Loops: each survives a failure, a defect, an interrupt and a hang of its store call, says so in
 * the worker's health within three intervals, and recovers (F20). Time bounds trust (F05).
 */
import { assert, describe } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { json, schedule, start } from "../store/conformanceFixture.ts"
import { jittered, type LoopHealth, superviseLoop } from "../../src/worker/loop.ts"
import { executing, gated, leaseMs, makeRig, pass, plain, pollMs } from "./rig.ts"
import { it, type Fault, quiet, until, type Verb } from "./scripted.ts"

describe("a supervised loop", () => {
  const setUp = (turn: (nth: number) => Effect.Effect<number, unknown>, random = () => 1) =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const clock = yield* Clock.Clock
      const health = new Map<string, LoopHealth>()
      const at: Array<number> = []
      yield* superviseLoop({
        name: "loop",
        health,
        monotonicMs: () => clock.currentTimeMillisUnsafe(),
        random,
        turn: Effect.suspend(() => {
          at.push(clock.currentTimeMillisUnsafe() - start)
          return turn(at.length)
        }),
      })
      yield* quiet
      return { at, health: () => health.get("loop") as LoopHealth }
    })

  it.effect("pauses as each turn says", () =>
    Effect.gen(function* () {
      const { at } = yield* setUp((nth) => Effect.succeed(nth * 100))
      yield* pass(1000, 50)
      assert.deepStrictEqual(at, [0, 100, 300, 600, 1000])
    }),
  )

  it.effect("pauses longer and longer while it fails, at most 5 s", () =>
    Effect.gen(function* () {
      const { at, health } = yield* setUp(() => Effect.fail(new Error("no")))
      yield* pass(30_000, 250)
      const pauses = at.map((time, i) => time - (at[i - 1] ?? 0)).slice(1)
      assert.deepStrictEqual(pauses.slice(0, 7), [250, 500, 1000, 2000, 4000, 5000, 5000])
      assert.strictEqual(health().failures, at.length)
      assert.strictEqual(health().lastError, "no")
    }),
  )

  it.effect("pauses for half as long at least, by its dice", () =>
    Effect.gen(function* () {
      const { at } = yield* setUp(
        () => Effect.fail(new Error("no")),
        () => 0,
      )
      yield* pass(6000, 125)
      const pauses = at.map((time, i) => time - (at[i - 1] ?? 0)).slice(1)
      assert.deepStrictEqual(pauses.slice(0, 5), [125, 250, 500, 1000, 2000])
    }),
  )

  it.effect("pauses in the last fifth of its time, by its dice", () =>
    Effect.sync(() => {
      assert.deepStrictEqual(
        [0, 0.5, 1].map((thrown) => jittered(1000, () => thrown)),
        [800, 900, 1000],
      )
    }),
  )

  it.effect("of an idle worker does not march in step", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig(gated().workflow)
      yield* rig.startWorker()
      const at: Array<number> = []
      for (let ms = 0; ms < 8 * pollMs; ms += 10) {
        yield* pass(10, 10)
        while (at.length < plain(rig).length) at.push(ms)
      }
      const pauses = at.map((time, i) => time - (at[i - 1] ?? 0)).slice(2)
      assert.isAbove(new Set(pauses).size, 1)
      for (const pause of pauses) assert.isTrue(pause >= 0.8 * pollMs - 20 && pause <= pollMs + 20)
    }),
  )

  for (const [what, turn] of [
    ["fails", Effect.fail("no")],
    ["dies", Effect.die(new Error("no"))],
    ["throws", Effect.sync(() => JSON.parse("{") as never)],
    ["ends in an interrupt of its own", Effect.interrupt],
    ["never ends", Effect.never],
  ] as ReadonlyArray<readonly [string, Effect.Effect<never, unknown>]>) {
    it.effect(`goes on after a turn that ${what}`, () =>
      Effect.gen(function* () {
        const { at, health } = yield* setUp((nth) => (nth === 1 ? turn : Effect.succeed(1000)))
        yield* pass(70_000, 1000)
        assert.isAbove(at.length, 2)
        assert.strictEqual(health().failures, 0)
        assert.isNull(health().lastError)
      }),
    )
  }
})

describe("a session that listens again", () => {
  // what was told meanwhile was told to nobody
  for (const verb of ["claimRuns", "readSignals", "sweep", "dueSchedules"] as const) {
    it.effect(`is followed by ${verb} at once`, () =>
      Effect.gen(function* () {
        const { rig } = yield* executing
        yield* quiet
        const { length } = rig.calls(verb)
        rig.engine.journal.hints.local("reconnected")
        yield* until("it is asked", () => rig.calls(verb).length > length)
      }),
    )
  }
})

const loops: ReadonlyArray<readonly [loop: string, verb: Verb, healthWithinMs: number]> = [
  ["poller", "claimRuns", 3 * pollMs],
  ["heartbeat", "renewLease", leaseMs],
  ["signals", "readSignals", 3 * pollMs],
  ["sweeper", "sweep", 3 * pollMs],
  ["sweeper", "deadLetterPoison", 11 * pollMs],
  ["ticker", "dueSchedules", 12 * pollMs],
]

describe("each loop of a worker", () => {
  for (const [loop, verb, withinMs] of loops) {
    for (const fault of ["fail", "die", "interrupt", "hang"] as ReadonlyArray<Fault>) {
      it.effect(`${loop}: "${String(fault)}" of ${verb} shows, and passes`, () =>
        Effect.gen(function* () {
          const w = gated()
          const rig = yield* makeRig(w.workflow)
          yield* rig.insert(1)
          const { worker } = yield* rig.startWorker()
          yield* pass(2 * pollMs)
          assert.deepStrictEqual(worker.health().unhealthy, [])
          const calls = rig.calls(verb).length
          rig.script(verb, () => fault)
          let passed = 0
          const isUnhealthy = () => worker.health().unhealthy.some((one) => one.loop === loop)
          while (!isUnhealthy() && passed <= withinMs + pollMs) {
            yield* pass(200)
            passed += 200
          }
          assert.isTrue(isUnhealthy(), `healthy after ${passed} ms`)
          rig.script(verb, null)
          yield* pass(80_000, 1000)
          assert.deepStrictEqual(worker.health().unhealthy, [])
          assert.isAbove(rig.calls(verb).length, calls + 2)
        }),
      )
    }
  }

  it.effect("sources: a reading that failed is made again within two polls", () =>
    Effect.gen(function* () {
      const { rig, run } = yield* executing
      rig.script("loadSources", (nth) => (nth === 1 ? "die" : undefined))
      yield* rig.memory.store.sendEvents([
        { workflowRunId: run!, name: "e", payload: json(1), id: null },
      ])
      yield* pass(4 * pollMs)
      assert.isAtLeast(rig.calls("loadSources").length, 2)
    }),
  )
})

describe("trust", () => {
  /** Lets time pass until the body of the run was aborted; answers when. */
  const abortedAt = Effect.fnUntraced(function* (signal: AbortSignal, atMostMs: number) {
    let passed = 0
    while (!signal.aborted && passed < atMostMs) {
      yield* pass(100)
      passed += 100
    }
    return signal.aborted ? passed : null
  })

  for (const fault of ["hang", "fail", "die"] as const) {
    it.effect(`heartbeats that "${fault}" drop the runs before the lease could expire`, () =>
      Effect.gen(function* () {
        const w = gated()
        const rig = yield* makeRig(w.workflow)
        yield* rig.insert(2)
        const { worker } = yield* rig.startWorker()
        yield* until("both are executing", () => w.begun.length === 2)
        rig.script("renewLease", () => fault)
        rig.script("sweep", () => "fail")
        const at = yield* abortedAt(w.begun[0]!.signal, leaseMs)
        assert.isNotNull(at)
        // not at the first failure …
        assert.isAbove(at, leaseMs / 2)
        // … and while the lease still stands
        const [registered] = rig.memory.inspect().workers
        assert.isAbove(registered!.leaseExpiresAt, start + at)
        assert.strictEqual(worker.health().running, 0)
        assert.isFalse(worker.health().leaseTrusted)
      }),
    )
  }

  it.effect("one failed heartbeat drops nothing", () =>
    Effect.gen(function* () {
      const { w, rig } = yield* executing
      rig.script("renewLease", (nth) => (nth === 1 ? "fail" : undefined))
      assert.isNull(yield* abortedAt(w.begun[0]!.signal, 2 * leaseMs))
      assert.strictEqual(w.begun.length, 1)
    }),
  )

  it.effect("one hung heartbeat drops nothing", () =>
    Effect.gen(function* () {
      const { w, rig } = yield* executing
      rig.script("renewLease", (nth) => (nth === 1 ? "hang" : undefined))
      assert.isNull(yield* abortedAt(w.begun[0]!.signal, 2 * leaseMs))
      assert.strictEqual(w.begun.length, 1)
    }),
  )

  it.effect("runs that were dropped just before a heartbeat succeeded are released", () =>
    Effect.gen(function* () {
      const { w, rig, run, worker } = yield* executing
      rig.script("renewLease", () => "fail")
      const at = yield* abortedAt(w.begun[0]!.signal, leaseMs)
      assert.isNotNull(at)
      rig.script("renewLease", null)
      yield* pass(10_000, 200)
      // the same incarnation: its lease never lapsed, and the run goes on under a new claim
      assert.strictEqual(w.begun.length, 2)
      assert.strictEqual(rig.row(run!).workerId, worker.health().workerId)
      assert.strictEqual(rig.row(run!).crashCount, 0)
      yield* w.latch.open
      yield* until("it completes", () => rig.row(run!).status === "completed")
    }),
  )

  it.effect("runs whose last commit is in the journal are not released", () =>
    Effect.gen(function* () {
      const { w, rig } = yield* executing
      rig.script("commit", () => "fail")
      yield* w.latch.open
      yield* pass(leaseMs, 500)
      assert.strictEqual(rig.calls("releaseClaims").length, 0)
      rig.script("commit", null)
      yield* pass(3000)
      assert.strictEqual(rig.rows()[0]?.status, "completed")
      assert.strictEqual(w.begun.length, 1)
    }),
  )
})

describe("the ticker", () => {
  it.effect("one schedule that the store refuses does not stop those behind it", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig(gated().workflow)
      const minutely = { cron: "* * * * *" }
      yield* rig.memory.store.upsertSchedule(schedule("a", minutely))
      yield* rig.memory.store.upsertSchedule(schedule("bad", minutely))
      yield* rig.memory.store.upsertSchedule(schedule("z", minutely))
      rig.script("fireTick", (_, { key }) => (key === "bad" ? "reject" : undefined))
      yield* rig.startWorker()
      yield* pass(2 * pollMs)
      const fired = rig.memory.inspect().schedules.filter((one) => one.lastTick !== null)
      assert.deepStrictEqual(
        fired.map(({ key }) => key),
        ["a", "z"],
      )
    }),
  )

  it.effect("a store that is down fires nothing twice when it is back", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig(gated().workflow)
      yield* rig.memory.store.upsertSchedule(schedule("a", { cron: "* * * * *" }))
      rig.script("fireTick", (nth) => (nth <= 2 ? "fail-after" : undefined))
      yield* rig.startWorker()
      yield* pass(10_000, 500)
      assert.strictEqual(rig.rows().length, 1)
    }),
  )
})
