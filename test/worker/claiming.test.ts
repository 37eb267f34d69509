/** What a worker asks the store for: claims by free slots, what a sweep gave back, suspects one at a time. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as TestClock from "effect/testing/TestClock"
import {
  newRun,
  registration,
  schedule,
  settle,
  start,
  workerId,
  write,
} from "../store/conformanceFixture.ts"
import { gated, makeRig, pass, plain, pollMs, type Rig } from "./rig.ts"
import { it, quiet, until } from "./scripted.ts"

/** What other processes were told. */
const told = (rig: Rig) => rig.calls("notify").flatMap(([hints]) => hints)

const limits = (rig: Rig) => rig.calls("claimRuns").map(([options]) => options.limit)

describe("the poller", () => {
  it.effect("never holds more runs than slots, and fills a freed one at once", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* rig.insert(8)
      const { worker } = yield* rig.startWorker({ maxConcurrent: 3 })
      yield* until("three are executing", () => w.begun.length === 3)
      yield* pass(3 * pollMs)
      assert.strictEqual(w.begun.length, 3)
      assert.strictEqual(worker.health().running, 3)
      yield* w.latch.open
      // no time passes: each freed slot asks again
      yield* until("all have completed", () =>
        rig.rows().every((run) => run.status === "completed"),
      )
      assert.isTrue(limits(rig).every((limit) => limit <= 3))
    }),
  )

  it.effect("asks again at once after an answer, and waits only after an empty one", () =>
    Effect.gen(function* () {
      const w = gated()
      yield* w.latch.open
      const rig = yield* makeRig(w.workflow)
      yield* rig.insert(20)
      yield* rig.startWorker({ maxConcurrent: 2 })
      yield* until("all have completed", () =>
        rig.rows().every((run) => run.status === "completed"),
      )
      yield* quiet
      const { length } = rig.calls("claimRuns")
      yield* quiet
      assert.strictEqual(rig.calls("claimRuns").length, length)
      yield* TestClock.adjust(pollMs)
      yield* quiet
      assert.isAbove(rig.calls("claimRuns").length, length)
    }),
  )

  for (const [what, useNotify, claims] of [
    ["asks again at once, too, after an answer that filled only some of the slots", false, 2],
    ["does not where it listens: what comes is told", true, 1],
  ] as const) {
    it.effect(what, () =>
      Effect.gen(function* () {
        const w = gated()
        const rig = yield* makeRig(w.workflow)
        yield* rig.insert(1)
        yield* rig.startWorker({ maxConcurrent: 3, useNotify })
        yield* until("it is executing", () => w.begun.length === 1)
        yield* quiet
        assert.strictEqual(plain(rig).length, claims)
        yield* rig.insert(1)
        yield* useNotify ? Effect.orDie(rig.memory.store.notify(["work"])) : pass(pollMs)
        yield* until("the next is executing", () => w.begun.length === 2)
      }),
    )
  }

  it.effect("asks for nothing while it is full, or knows no workflow", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig()
      yield* rig.insert(2)
      yield* rig.startWorker({ maxConcurrent: 1 })
      yield* pass(5 * pollMs)
      assert.strictEqual(rig.calls("claimRuns").length, 0)
      yield* rig.engine.register(w.workflow)
      yield* until("one is executing", () => w.begun.length === 1)
      yield* quiet
      const { length } = rig.calls("claimRuns")
      yield* pass(5 * pollMs)
      assert.strictEqual(rig.calls("claimRuns").length, length)
    }),
  )

  it.effect("asks for the workflows it knows, and leaves the others alone", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      const [known] = yield* rig.insert(1)
      const [foreign] = yield* rig.insert(1, "foreign")
      yield* rig.startWorker()
      yield* until("the known is executing", () => w.begun.length === 1)
      yield* pass(2 * pollMs)
      assert.strictEqual(rig.row(known!).status, "running")
      assert.strictEqual(rig.row(foreign!).status, "pending")
      const asked = rig.calls("claimRuns").flatMap(([options]) => options.workflows)
      assert.deepStrictEqual([...new Set(asked.map(({ name }) => name))], ["w"])
    }),
  )

  it.effect("a hint of work wakes it", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* rig.startWorker()
      yield* quiet
      yield* rig.insert(1)
      yield* quiet
      assert.strictEqual(w.begun.length, 0)
      rig.engine.journal.hints.local("work")
      yield* until("it is executing", () => w.begun.length === 1)
    }),
  )

  it.effect("a burst of hints is one claim", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig(gated().workflow)
      yield* rig.startWorker()
      yield* quiet
      const before = rig.calls("claimRuns").length
      for (let n = 0; n < 100; n++) rig.engine.journal.hints.local("work")
      yield* quiet
      // the one under way when they came, at most, and one that has seen all
      const claims = rig.calls("claimRuns").length - before
      assert.isAtLeast(claims, 1)
      assert.isAtMost(claims, 2)
    }),
  )

  it.effect("claims nothing on a lease that is not trusted", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* rig.startWorker()
      yield* quiet
      rig.script("renewLease", () => "fail")
      rig.script("registerWorker", () => "fail")
      yield* pass(26_000, 500)
      const { length } = rig.calls("claimRuns")
      yield* rig.insert(1)
      yield* pass(10_000, 500)
      assert.strictEqual(rig.calls("claimRuns").length, length)
      rig.script("renewLease", null)
      rig.script("registerWorker", null)
      yield* pass(10_000, 500)
      assert.strictEqual(w.begun.length, 1)
    }),
  )
})

describe("the runs of a dead worker", () => {
  it.effect("are asked for at once, before what else is looked at behind a sweep", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      const { store } = rig.memory
      const [run] = yield* rig.insert(1)
      yield* store.registerWorker({ ...registration(101, 25_000) })
      const workflows = [{ name: "w", version: null }]
      yield* store.claimRuns({ workerId: workerId(101), workflows, limit: 1, suspects: false })
      yield* rig.startWorker({ pollIntervalMs: 10_000 })
      yield* quiet
      rig.script("deadLetterPoison", () => "hang")
      let claims = 0
      for (let ms = 0; rig.row(run!).workerId !== null && ms < 60_000; ms += 100) {
        claims = plain(rig).length
        yield* pass(100)
      }
      assert.isNull(rig.row(run!).workerId)
      assert.isAtLeast(plain(rig).length, claims + 1)
    }),
  )
})

describe("a sweep", () => {
  it.effect("that came to its limit is followed by another at once", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig(gated().workflow)
      const { store } = rig.memory
      yield* rig.insert(450)
      yield* store.registerWorker(registration(101, 5000))
      const workflows = [{ name: "w", version: null }]
      yield* store.claimRuns({ workerId: workerId(101), workflows, limit: 450, suspects: false })
      yield* TestClock.adjust(5000)
      yield* rig.startWorker()
      yield* until("all are returned", () =>
        rig.rows().every((run) => run.workerId !== workerId(101)),
      )
    }),
  )

  it.effect("behind which a look has failed looks again the next time", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig(gated().workflow)
      rig.script("deadLetterPoison", (nth) => (nth === 1 ? "fail" : undefined))
      yield* rig.startWorker()
      yield* pass(3 * pollMs)
      assert.isAtLeast(rig.calls("deadLetterPoison").length, 2)
    }),
  )

  it.effect("that was under way when it heard of wakes is followed by one that tells of them", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig(gated().workflow)
      const latch = yield* Latch.make()
      rig.script("sweep", (nth) => (nth === 1 ? { after: latch } : undefined))
      yield* rig.startWorker()
      yield* until("a sweep is under way", () => rig.open("sweep") === 1)
      rig.engine.journal.hints.local("wakes")
      rig.script("sweep", null)
      const { length } = rig.calls("sweep")
      const heard: Array<string> = []
      rig.engine.journal.hints.subscribe((hint) => {
        if (rig.calls("sweep").length > length) heard.push(hint)
      })
      yield* latch.open
      yield* until("it is told", () => heard.length >= 2)
      assert.sameMembers(heard, ["work", "signal"])
    }),
  )

  it.effect("that has applied wakes tells of work, and of signals", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig(gated().workflow)
      yield* rig.startWorker()
      yield* quiet
      assert.deepStrictEqual(told(rig), [])
      rig.engine.journal.hints.local("wakes")
      yield* until("it is told", () => told(rig).length >= 2)
      assert.sameMembers(told(rig), ["work", "signal"])
    }),
  )
})

describe("the ticker", () => {
  const every = { cron: "* * * * *", workflow: "foreign" }

  it.effect("tells of the runs that it has started", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig(gated().workflow)
      yield* rig.memory.store.upsertSchedule(schedule("k", every))
      yield* rig.startWorker()
      yield* until("it has fired", () => rig.rows().length === 1)
      yield* quiet
      assert.include(told(rig), "work")
    }),
  )

  it.effect("comes when the next tick is due", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig(gated().workflow)
      const nextTick = start + 3000
      yield* rig.memory.store.upsertSchedule(schedule("k", { ...every, nextTick }))
      yield* rig.startWorker()
      yield* pass(3000 + pollMs)
      assert.strictEqual(rig.rows().length, 1)
    }),
  )

  it.effect("finds in time what another process has scheduled sooner", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig(gated().workflow)
      const { store } = rig.memory
      yield* store.upsertSchedule(schedule("far", { ...every, nextTick: start + 3_600_000 }))
      yield* rig.startWorker()
      yield* pass(pollMs)
      yield* store.upsertSchedule(schedule("near", { ...every, nextTick: start + 2 * pollMs }))
      yield* pass(12 * pollMs)
      assert.strictEqual(rig.rows().length, 1)
    }),
  )
})

describe("a run that is dead-lettered", () => {
  it.effect("is told to those who wait for it", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig(gated().workflow)
      const { store } = rig.memory
      const [run] = yield* rig.insert(1)
      yield* store.registerWorker(registration(101, 5000))
      const workflows = [{ name: "w", version: null }]
      yield* store.claimRuns({ workerId: workerId(101), workflows, limit: 1, suspects: false })
      yield* TestClock.adjust(5000)
      yield* rig.startWorker({ maxCrashes: 1 })
      yield* until("it is dead-lettered", () => rig.row(run!).status === "dead_letter")
      yield* quiet
      assert.include(told(rig), "settled")
    }),
  )
})

describe("children whose parent ended in a process that died of it", () => {
  it.effect("are cancelled by the worker of another", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig(gated().workflow)
      const { store } = rig.memory
      yield* rig.insert(1, "parent")
      yield* store.registerWorker(registration(101, 25_000))
      const workflows = [{ name: "parent", version: null }]
      const claim = { workerId: workerId(101), workflows, limit: 1, suspects: false }
      const [parent] = yield* store.claimRuns(claim)
      const { workflowRunId } = parent!
      const place = { workflowRunId, stepKey: "child", attempt: 1 }
      const child = newRun(2, { workflow: "child", parent: place })
      yield* store.commit([write(parent!, { children: [child] })])
      yield* store.commit([write(parent!, { transition: settle("completed") })])
      yield* rig.startWorker()
      yield* pass(12 * pollMs)
      assert.strictEqual(rig.row(child.workflowRunId).status, "cancelled")
      // whoever executes one hears it at once
      assert.include(told(rig), "signal")
    }),
  )
})

describe("suspects", () => {
  /** Makes every run that is there a suspect: two workers died with it. */
  const crashTwice = Effect.fnUntraced(function* (rig: Rig, workflow = "w") {
    const { store } = rig.memory
    for (const n of [101, 102]) {
      yield* store.registerWorker({ ...registration(n, 1000) })
      const claim = {
        workerId: workerId(n),
        workflows: [{ name: workflow, version: null }],
        limit: 100,
      }
      yield* store.claimRuns({ ...claim, suspects: false })
      yield* TestClock.adjust(1000)
      yield* store.sweep({ limit: 100 })
      yield* TestClock.adjust(60_000)
    }
  }, Effect.orDie)

  it.effect("run one at a time, beside others", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      const suspects = yield* rig.insert(3)
      yield* crashTwice(rig)
      assert.isTrue(rig.rows().every((run) => run.crashCount === 2))
      yield* rig.insert(2)
      yield* rig.startWorker({ maxConcurrent: 10 })
      yield* pass(10 * pollMs)
      assert.strictEqual(w.begun.length, 3)
      assert.strictEqual(suspects.filter((run) => rig.row(run).status === "running").length, 1)
      yield* w.latch.open
      yield* pass(10 * pollMs)
      assert.isTrue(rig.rows().every((run) => run.status === "completed"))
    }),
  )

  for (const [maxCrashes, status] of [
    [2, "dead_letter"],
    [3, "running"],
  ] as const) {
    it.effect(`that crashed twice are ${status} where a worker bears ${maxCrashes} crashes`, () =>
      Effect.gen(function* () {
        const rig = yield* makeRig(gated().workflow)
        const [suspect] = yield* rig.insert(1)
        yield* crashTwice(rig)
        yield* rig.startWorker({ maxCrashes })
        yield* pass(2 * pollMs)
        assert.strictEqual(rig.row(suspect!).status, status)
      }),
    )
  }

  it.effect("are not starved by a backlog that never ends", () =>
    Effect.gen(function* () {
      const w = gated()
      yield* w.latch.open
      const rig = yield* makeRig(w.workflow)
      const [suspect] = yield* rig.insert(1)
      yield* crashTwice(rig)
      yield* rig.insert(50)
      // whatever is done, as much is there again
      rig.script("commit", () => {
        Effect.runFork(rig.insert(1))
        return undefined
      })
      yield* rig.startWorker({ maxConcurrent: 1 })
      let turns = 0
      while (rig.row(suspect!).status !== "completed" && turns++ < 200) yield* quiet
      assert.strictEqual(rig.row(suspect!).status, "completed")
    }),
  )

  it.effect("are never claimed beyond the slots", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* rig.insert(3)
      yield* crashTwice(rig)
      yield* rig.insert(5)
      const { worker } = yield* rig.startWorker({ maxConcurrent: 2 })
      for (let i = 0; i < 10; i++) {
        yield* pass(pollMs)
        assert.isAtMost(worker.health().running, 2)
      }
      assert.strictEqual(w.begun.length, 2)
    }),
  )
})
