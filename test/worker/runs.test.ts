/**
 * The runs that a worker executes: their histories and their attempts; and that what
 * breaks in one run stays in one run.
 */
import { assert, describe } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as TestClock from "effect/testing/TestClock"
import type { RegisteredWorkflow } from "../../src/Engine.ts"
import type { WorkflowStore } from "../../src/WorkflowStore.ts"
import { encodeError } from "../../src/ErrorPayload.ts"
import { none, spaced } from "../../src/RetryPolicy.ts"
import { performUnsafe } from "../../src/WorkflowRun.ts"
import { id, json, newRun, start } from "../store/conformanceFixture.ts"
import {
  executing,
  gated,
  hopelessBeside,
  leaseMs,
  makeRig,
  pass,
  pollMs,
  type Rig,
  undone,
} from "./rig.ts"
import { it, quiet, until } from "./scripted.ts"

/** Makes a first claim of the runs read a history: something has woken them. */
const wake = (rig: Rig, ids: ReadonlyArray<string>) =>
  Effect.orDie(
    rig.memory.store.sendEvents(
      ids.map((workflowRunId) => ({ workflowRunId, name: "e", payload: json(1), id: null })),
    ),
  )

/** Its first body is at pure work when its run parks, until it is told to go on. */
const parkedTooSoon = () => {
  let bodies = 0
  let goOn: () => void = () => undefined
  const workflow: RegisteredWorkflow = {
    name: "w",
    version: null,
    startBody: (execution, onEnd) => {
      const timer = { delayMs: 3_600_000 }
      execution.issue({ kind: "sleep", name: "long", until: timer }, () => undefined)
      const emits = () =>
        performUnsafe(execution, { kind: "no_return", name: "goes on" }, () =>
          onEnd({ _tag: "Success", result: json(null) }),
        )
      if (++bodies === 1) goOn = emits
      else emits()
      return () => undefined
    },
  }
  return { workflow, goOn: () => goOn() }
}

describe("a run whose body goes on when it has parked", () => {
  for (const fault of [undefined, "fail", "die"] as const) {
    it.effect(`is woken${fault === undefined ? "" : `, though the store answers "${fault}"`}`, () =>
      Effect.gen(function* () {
        const { workflow, goOn } = parkedTooSoon()
        const rig = yield* makeRig(workflow)
        const [run] = yield* rig.insert(1)
        rig.script("wakeRuns", (nth) => (nth <= 2 ? fault : undefined))
        yield* rig.startWorker({ limits: { parkGraceMs: 0 } })
        yield* until("it sleeps", () => rig.row(run!).status === "sleeping")
        goOn()
        yield* pass(5 * pollMs)
        assert.strictEqual(rig.row(run!).status, "completed")
      }),
    )
  }
})

describe("histories", () => {
  it.effect("of the runs of one claim are read together", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      const ids = yield* rig.insert(5)
      yield* wake(rig, ids)
      yield* rig.startWorker({ maxConcurrent: 10 })
      yield* until("all are executing", () => w.begun.length === 5)
      assert.strictEqual(rig.calls("loadHistory").length, 1)
    }),
  )

  it.effect("of a run's first claim are not read", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* rig.insert(5)
      yield* rig.startWorker({ maxConcurrent: 10 })
      yield* until("all are executing", () => w.begun.length === 5)
      assert.strictEqual(rig.calls("loadHistory").length, 0)
    }),
  )

  it.effect("of a later claim make no other start of it", () =>
    Effect.gen(function* () {
      const workflow: RegisteredWorkflow = {
        name: "w",
        version: null,
        startBody: (execution, onEnd) => {
          const event = { kind: "event", name: "e", event: "e", timeoutMs: null } as const
          execution.issue(event, () => onEnd({ _tag: "Success", result: json(null) }))
          return () => undefined
        },
      }
      const rig = yield* makeRig(workflow)
      const told: Array<string> = []
      rig.engine.onLifecycle(({ type }) => told.push(type))
      const [run] = yield* rig.insert(1)
      yield* rig.startWorker({ limits: { parkGraceMs: 0 } })
      yield* until("it has parked", () => rig.row(run!).status === "waiting")
      yield* rig.engine.sendEvent(run!, "e", json(null))
      yield* until("it has ended", () => rig.row(run!).status === "completed")
      yield* quiet
      assert.deepStrictEqual(told, ["workflow:started", "workflow:completed"])
    }),
  )

  it.effect("of a first claim make it no less the start of its run", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      const told: Array<string> = []
      rig.engine.onLifecycle(({ type, workflowRunId }) => told.push(`${type} ${workflowRunId}`))
      const [run] = yield* rig.insert(1)
      yield* wake(rig, [run!])
      yield* rig.startWorker()
      yield* until("it executes", () => w.begun.length === 1)
      assert.strictEqual(rig.calls("loadHistory").length, 1)
      assert.deepStrictEqual(told, [`workflow:started ${run}`, `step ${run}`])
    }),
  )

  it.effect("that the store cannot give now are asked for again", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* wake(rig, yield* rig.insert(2))
      rig.script("loadHistory", (nth) => (nth <= 3 ? "fail" : undefined))
      yield* rig.startWorker()
      yield* pass(3000)
      assert.strictEqual(w.begun.length, 2)
    }),
  )

  for (const fault of ["reject", "die"] as const) {
    it.effect(`one that cannot be read ("${fault}") pauses its run, not the others`, () =>
      Effect.gen(function* () {
        const w = gated()
        const rig = yield* makeRig(w.workflow)
        const ids = yield* rig.insert(4)
        yield* wake(rig, ids)
        const [bad] = ids
        rig.script("loadHistory", (_, asked) => (asked.includes(bad!) ? fault : undefined))
        const { worker } = yield* rig.startWorker()
        yield* pass(3000)
        assert.strictEqual(w.begun.length, 3)
        assert.strictEqual(rig.row(bad!).status, "paused")
        assert.include(rig.row(bad!).pauseReason?.message, "on command")
        assert.strictEqual(worker.health().running, 3)
      }),
    )
  }

  it.effect("a reading that never ends is made again", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* wake(rig, yield* rig.insert(1))
      rig.script("loadHistory", (nth) => (nth === 1 ? "hang" : undefined))
      yield* rig.startWorker()
      yield* pass(70_000, 1000)
      assert.strictEqual(w.begun.length, 1)
    }),
  )

  it.effect("that come when the lease has lapsed begin nothing", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* wake(rig, yield* rig.insert(1))
      const latch = yield* Latch.make()
      rig.script("loadHistory", (nth) => (nth === 1 ? { after: latch } : undefined))
      const { worker } = yield* rig.startWorker()
      yield* until("a history is read", () => rig.open("loadHistory") === 1)
      rig.script("claimRuns", () => "hang")
      rig.script("renewLease", () => "fail")
      yield* pass(leaseMs + 1000, 1000)
      rig.script("renewLease", null)
      yield* pass(6000, 1000)
      assert.isTrue(worker.health().leaseTrusted)
      yield* latch.open
      yield* quiet
      assert.strictEqual(w.begun.length, 0)
    }),
  )

  it.effect("a run that is gone from the store frees its slot", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      const [gone, other] = yield* rig.insert(2)
      yield* wake(rig, [gone!, other!])
      const { loadHistory } = rig.store
      const store: { loadHistory: WorkflowStore["Service"]["loadHistory"] } = rig.store
      store.loadHistory = (ids) => loadHistory(ids.filter((one) => one !== gone))
      const { worker } = yield* rig.startWorker()
      yield* until("the other is executing", () => w.begun.length === 1)
      yield* quiet
      assert.strictEqual(worker.health().running, 1)
    }),
  )
})

describe("what breaks in one run", () => {
  it.effect("a body that cannot even be started pauses its run; the others go on", () =>
    Effect.gen(function* () {
      const w = gated()
      const broken: RegisteredWorkflow = {
        name: "broken",
        version: null,
        startBody: () => {
          throw new Error("no body")
        },
      }
      const rig = yield* makeRig(w.workflow, broken)
      const [bad] = yield* rig.insert(1, "broken")
      yield* rig.insert(2)
      const { worker } = yield* rig.startWorker()
      yield* pass(pollMs)
      assert.strictEqual(w.begun.length, 2)
      assert.strictEqual(rig.row(bad!).status, "paused")
      assert.strictEqual(rig.row(bad!).pauseReason?.message, "no body")
      assert.strictEqual(worker.health().running, 2)
      assert.deepStrictEqual(worker.health().unhealthy, [])
    }),
  )

  it.effect("the end of a child is told to the processes of its parent", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      const { store } = rig.memory
      const [workflowRunId = ""] = yield* rig.insert(1, "parent")
      const parent = { workflowRunId, stepKey: "child", attempt: 1 }
      yield* store.insertRuns({ runs: [newRun(2, { parent })], claimFor: null })
      yield* rig.startWorker()
      yield* w.latch.open
      yield* until("it has ended", () => rig.row(id(2)).status === "completed")
      yield* quiet
      const told = rig.calls("notify").flatMap(([hints]) => hints)
      assert.includeMembers(told, ["work", "signal", "settled"])
    }),
  )

  it.effect("a lifecycle listener that throws changes nothing", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      const heard: Array<string> = []
      rig.engine.onLifecycle(() => {
        throw new Error("a listener's defect")
      })
      rig.engine.onLifecycle((event) => heard.push(event.type))
      const [run] = yield* rig.insert(1)
      const { worker } = yield* rig.startWorker()
      yield* w.latch.open
      yield* until("it completes", () => rig.row(run!).status === "completed")
      yield* quiet
      assert.deepStrictEqual(heard, ["workflow:started", "step", "step", "workflow:completed"])
      assert.strictEqual(worker.health().running, 0)
    }),
  )

  it.effect("a workflow that is no longer known is handed back", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig()
      const [run] = yield* rig.insert(1)
      yield* wake(rig, [run!])
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* rig.engine.register(w.workflow)
          rig.script("loadHistory", (nth) => (nth === 1 ? "fail" : undefined))
          yield* rig.startWorker()
          yield* until("it is claimed", () => rig.row(run!).workerId !== null)
        }),
      )
      yield* pass(pollMs)
      assert.strictEqual(rig.row(run!).status, "pending")
      assert.strictEqual(w.begun.length, 0)
    }),
  )
})

describe("a frozen process", () => {
  it.effect("that wakes after its lease: no step of it is recorded, the run goes on once", () =>
    Effect.gen(function* () {
      const { w, rig, run, worker } = yield* executing
      const former = worker.health().workerId
      // nothing gets through in either direction; another worker's sweep takes the run
      rig.script("renewLease", () => "fail")
      rig.script("commit", () => "fail")
      rig.script("claimRuns", () => "fail")
      yield* TestClock.adjust(leaseMs)
      yield* rig.memory.store.sweep({ limit: 10 })
      assert.isAtMost(rig.row(run!).crashCount, 1)
      yield* w.latch.open
      yield* quiet
      for (const verb of ["renewLease", "commit", "claimRuns"] as const) rig.script(verb, null)
      yield* pass(10_000, 500)
      assert.notStrictEqual(worker.health().workerId, former)
      assert.strictEqual(rig.row(run!).status, "completed")
      assert.strictEqual(w.begun.length, 2)
      assert.strictEqual(rig.row(run!).crashCount, 0)
      const steps = yield* rig.memory.store.getSteps(run!)
      assert.strictEqual(steps.length, 1)
      assert.isAbove(steps[0]!.completedAt ?? 0, start + leaseMs)
    }),
  )

  it.effect("that wakes after its lease begins no undo", () =>
    Effect.gen(function* () {
      const tries: Array<number> = []
      const rig = yield* makeRig(undone(tries))
      const [run] = yield* rig.insert(1)
      const clock = yield* Clock.Clock
      let frozenMs = 0
      const monotonicTimeNanosUnsafe = () =>
        clock.monotonicTimeNanosUnsafe() + BigInt(frozenMs) * 1_000_000n
      yield* rig
        .startWorker()
        .pipe(Effect.provideService(Clock.Clock, { ...clock, monotonicTimeNanosUnsafe }))
      yield* until("the undo was tried", () => tries.length === 1)
      yield* quiet
      frozenMs = leaseMs
      // its next try is due before anything looks at the lease
      yield* pass(600)
      assert.deepStrictEqual(tries, [1])
      yield* pass(20_000, 500)
      assert.strictEqual(rig.row(run!).status, "failed")
    }),
  )
})

describe("an undo", () => {
  it.effect("that never ends is told to stop at its time limit, in each of its tries", () =>
    Effect.gen(function* () {
      const signals: Array<AbortSignal> = []
      const error = encodeError(new Error("broke"))
      const startBody: RegisteredWorkflow["startBody"] = (execution, onEnd) => {
        const step = { kind: "step", name: "step", retry: none, timeoutMs: null } as const
        const undo = {
          retry: spaced(0, { maxAttempts: 3 }),
          timeoutMs: 1000,
          onUnknown: false,
          run: (_: unknown, { signal }: { readonly signal: AbortSignal }) => {
            signals.push(signal)
            return Effect.interruptible(Effect.never)
          },
        }
        execution.issue({ ...step, undo, run: () => Effect.succeed(json(null)) }, () =>
          onEnd({ _tag: "Failure", error, raw: null }),
        )
        return () => undefined
      }
      const rig = yield* makeRig({ name: "w", version: null, startBody })
      const [run] = yield* rig.insert(1)
      yield* rig.startWorker()
      yield* pass(4000)
      assert.deepStrictEqual(
        signals.map(({ aborted }) => aborted),
        [true, true, true],
      )
      assert.strictEqual(rig.row(run!).status, "failed")
    }),
  )
})

describe("attempts of a run", () => {
  it.effect("come further and further apart", () =>
    Effect.gen(function* () {
      const error = encodeError(new Error("no"))
      const run = () => Effect.fail({ error, retryable: false })
      const fails: RegisteredWorkflow = {
        name: "w",
        version: null,
        startBody: (execution, onEnd) => {
          execution.issue(
            { kind: "step", name: "step", retry: none, timeoutMs: null, undo: null, run },
            () => onEnd({ _tag: "Failure", error, raw: null }),
          )
          return () => undefined
        },
      }
      const rig = yield* makeRig(fails)
      yield* rig.startWorker()
      const { workflowRunId } = yield* rig.trigger({ maxAttempts: 5 })
      const delays: Array<number> = []
      for (let ms = 0; ms < 20_000 && delays.length < 4; ms += 50) {
        const { attempt, dueAt } = rig.row(workflowRunId)
        if (attempt === delays.length + 2 && dueAt !== null) delays.push(dueAt - start - ms)
        yield* pass(50, 50)
      }
      // half of each is left to the dice
      for (const [i, delay] of delays.entries()) {
        assert.isAtLeast(delay, 500 * 2 ** i - 100)
        assert.isAtMost(delay, 1000 * 2 ** i)
      }
      assert.strictEqual(delays.length, 4)
    }),
  )

  it.effect(
    "are counted on where a run parks in a short backoff, for the store's clock looked earlier",
    () =>
      Effect.gen(function* () {
        const latch = yield* Latch.make()
        const tries: Array<number> = []
        const rig = yield* makeRig(hopelessBeside(latch, tries, 3))
        const [run] = yield* rig.insert(1)
        yield* rig.startWorker({ limits: { parkGraceMs: 0 } })
        yield* until("it was tried", () => tries.length === 1)
        // an answer that was long on its way: what it tells of the time is old
        const { store } = rig
        const { commit } = store
        Object.assign(store, {
          commit: (...given: Parameters<typeof commit>) =>
            Effect.map(commit(...given), (answers) =>
              answers.map((one) =>
                one._tag === "committed" ? { ...one, now: one.now - 60_000 } : one,
              ),
            ),
        })
        yield* latch.open
        yield* until("it has parked", () => rig.row(run!).status === "sleeping")
        Object.assign(store, { commit })
        yield* pass(150_000, 1000)
        assert.deepStrictEqual(tries, [1, 2, 3])
      }),
  )
})
