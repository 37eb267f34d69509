/**
 * What a worker takes on: claims by free slots, suspects one at a time, eager starts.
 */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as TestClock from "effect/testing/TestClock"
import {
  newRun,
  registration,
  settle,
  start,
  workerId,
  write,
} from "../store/conformanceFixture.ts"
import { gated, leaseMs, makeRig, pass, pollMs, type Rig } from "./rig.ts"
import { it, quiet, until } from "./scripted.ts"

const limits = (rig: Rig) => rig.calls("claimRuns").map(([options]) => options.limit)

/** The claims that did not ask for suspects. */
const plain = (rig: Rig) => rig.calls("claimRuns").filter(([options]) => !options.suspects)

/** No heartbeat gets through until the lease has lapsed; nobody has swept yet. */
const freeze = Effect.fnUntraced(function* (rig: Rig) {
  rig.script("renewLease", () => "fail")
  rig.script("sweep", () => "fail")
  yield* pass(leaseMs + 1000, 500)
  rig.script("renewLease", null)
  yield* pass(6000, 500)
})

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

  it.effect("asks again at once, too, after an answer that filled only some of the slots", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* rig.insert(1)
      yield* rig.startWorker({ maxConcurrent: 3 })
      yield* until("it is executing", () => w.begun.length === 1)
      yield* quiet
      assert.strictEqual(plain(rig).length, 2)
    }),
  )

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
      const latch = yield* Latch.make()
      rig.script("claimRuns", (_, { suspects }) =>
        !suspects && plain(rig).length === 1 ? { after: latch } : undefined,
      )
      const { worker } = yield* rig.startWorker()
      yield* until("it was claimed", () => rig.row(run!).workerId !== null)
      const former = worker.health().workerId
      yield* freeze(rig)
      assert.notStrictEqual(worker.health().workerId, former)
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
      const latch = yield* Latch.make()
      rig.script("claimRuns", (_, { suspects }) =>
        !suspects && plain(rig).length === 1 ? { after: latch } : undefined,
      )
      // what it held cannot be given back yet
      rig.script("releaseClaims", () => "fail")
      const { worker } = yield* rig.startWorker()
      yield* until("it was claimed", () => rig.row(run!).workerId !== null)
      const former = worker.health().workerId
      yield* freeze(rig)
      assert.notStrictEqual(worker.health().workerId, former)
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
      }),
    )
  }

  it.effect("not behind a backlog", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig(gated().workflow)
      yield* rig.insert(5)
      yield* rig.startWorker({ maxConcurrent: 2 })
      yield* quiet
      yield* rig.trigger()
      assert.deepStrictEqual(claimFor(rig), [null])
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
