/**
 * Stopping: nothing is claimed any more, runs are handed back at their next safe point or by force,
 * none is failed, no crash is counted, and nothing holds the process (F41).
 */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as TestClock from "effect/testing/TestClock"
import type { RegisteredWorkflow } from "../../src/Engine.ts"
import type { StepOperation } from "../../src/engine/Operation.ts"
import { encodeError } from "../../src/ErrorPayload.ts"
import { spaced } from "../../src/RetryPolicy.ts"
import { json } from "../store/conformanceFixture.ts"
import { gated, hopelessBeside, makeRig, pass, pollMs, type Rig, undone } from "./rig.ts"
import { it, quiet, until } from "./scripted.ts"

const shutdownTimeoutMs = 20_000

const claims = (rig: Rig) => rig.calls("claimRuns").length

/** Nobody holds a run, none failed, none is suspected. */
const allWell = (rig: Rig, status: "pending" | "completed") => {
  for (const run of rig.rows()) {
    assert.deepStrictEqual(
      { status: run.status, workerId: run.workerId, crashCount: run.crashCount },
      { status, workerId: null, crashCount: 0 },
    )
  }
}

const executing = Effect.fnUntraced(function* (count = 2) {
  const w = gated()
  const rig = yield* makeRig(w.workflow)
  yield* rig.insert(count)
  const running = yield* rig.startWorker({ maxConcurrent: 10, shutdownTimeoutMs })
  yield* until("all are executing", () => w.begun.length === count)
  yield* quiet
  return { w, rig, ...running }
})

describe("stop", () => {
  it.effect("of an idle worker takes no time and ends its lease", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig(gated().workflow)
      const { close } = yield* rig.startWorker()
      yield* quiet
      yield* close
      assert.strictEqual(rig.calls("retireWorker").length, 1)
    }),
  )

  it.effect("claims no more, and waits for executing steps: their outcomes are recorded", () =>
    Effect.gen(function* () {
      const { w, rig, close } = yield* executing()
      const fiber = yield* Effect.forkChild(close)
      yield* quiet
      const before = claims(rig)
      const [late] = yield* rig.insert(1)
      rig.engine.journal.hints.local("work")
      // suspects too, who are asked for in one poll of ten
      yield* pass(15 * pollMs)
      assert.strictEqual(claims(rig), before)
      assert.isUndefined(fiber.pollUnsafe())
      assert.isFalse(w.begun[0]!.signal.aborted)
      yield* w.latch.open
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(
        rig.rows().map(({ status }) => status),
        ["completed", "completed", "pending"],
      )
      assert.strictEqual(rig.row(late!).token, 0)
      const steps = yield* rig.memory.store.getSteps(w.begun[0]!.workflowRunId)
      assert.deepStrictEqual(
        steps.map(({ status }) => status),
        ["completed"],
      )
      // the lease ends after the last commit
      assert.strictEqual(rig.calls("retireWorker").length, 1)
      assert.isTrue(rig.calls("releaseClaims").length === 0)
    }),
  )

  it.effect("hands back by force what has not ended after the shutdown timeout", () =>
    Effect.gen(function* () {
      const { w, rig, close } = yield* executing()
      const fiber = yield* Effect.forkChild(close)
      yield* quiet
      yield* pass(shutdownTimeoutMs - 1000, 1000)
      assert.isUndefined(fiber.pollUnsafe())
      yield* pass(2000)
      yield* Fiber.join(fiber)
      allWell(rig, "pending")
      assert.isTrue(w.begun.every(({ signal }) => signal.aborted))
    }),
  )

  it.effect("does not wait for a body that is at pure asynchronous work", () =>
    Effect.gen(function* () {
      let begun = false
      const startBody = () => {
        begun = true
        return () => undefined
      }
      const rig = yield* makeRig({ name: "w", version: null, startBody })
      yield* rig.insert(1)
      const { close } = yield* rig.startWorker({ shutdownTimeoutMs })
      yield* until("it has begun", () => begun)
      yield* quiet
      const fiber = yield* Effect.forkChild(close)
      yield* until("it has stopped", () => fiber.pollUnsafe() !== undefined)
      allWell(rig, "pending")
    }),
  )

  it.effect("by force leaves the outcome alone that waits for its commit", () =>
    Effect.gen(function* () {
      const { w, rig, close } = yield* executing()
      const latch = yield* Latch.make()
      const before = rig.calls("commit").length
      rig.script("commit", (nth) => (nth === before + 1 ? { before: latch } : undefined))
      const { workflowRunId, token } = rig.row(w.begun[0]!.workflowRunId)
      rig.engine.journal.append({ workflowRunId, token }, { onCommitted: () => undefined })
      yield* until("the lane is busy", () => rig.open("commit") === 1)
      yield* w.latch.open
      yield* quiet
      const fiber = yield* Effect.forkChild(close)
      yield* pass(shutdownTimeoutMs + 500, 500)
      yield* latch.open
      yield* pass(1000)
      yield* Fiber.join(fiber)
      for (const one of w.begun) {
        const steps = yield* rig.memory.store.getSteps(one.workflowRunId)
        assert.deepStrictEqual(
          steps.map(({ status }) => status),
          ["completed"],
        )
      }
    }),
  )

  it.effect("waits for a step, and tries none again beside it", () =>
    Effect.gen(function* () {
      const latch = yield* Latch.make()
      const tries: Array<number> = []
      const rig = yield* makeRig(hopelessBeside(latch, tries, 9))
      const [id] = yield* rig.insert(1)
      const { close } = yield* rig.startWorker({ shutdownTimeoutMs })
      yield* until("it was tried", () => tries.length === 1)
      const fiber = yield* Effect.forkChild(close)
      yield* pass(3000)
      assert.deepStrictEqual(tries, [1])
      yield* latch.open
      yield* pass(1000)
      yield* Fiber.join(fiber)
      allWell(rig, "pending")
      const steps = yield* rig.memory.store.getSteps(id!)
      assert.deepStrictEqual(
        steps.map(({ stepKey, status, attempts }) => [stepKey, status, attempts]).toSorted(),
        [
          ["hopeless", "retrying", 1],
          ["long", "completed", 1],
        ],
      )
    }),
  )

  it.effect("is idempotent, also while it is under way", () =>
    Effect.gen(function* () {
      const { w, rig, worker, close } = yield* executing()
      const fibers = yield* Effect.forEach([worker.stop, worker.stop, close], (stop) =>
        Effect.forkChild(stop),
      )
      yield* quiet
      yield* w.latch.open
      yield* Effect.forEach(fibers, Fiber.join)
      yield* worker.stop
      allWell(rig, "completed")
      assert.strictEqual(rig.calls("retireWorker").length, 1)
    }),
  )

  it.effect("that somebody gave up waiting for does not spoil the next", () =>
    Effect.gen(function* () {
      const { w, rig, worker, close } = yield* executing()
      const hasty = yield* Effect.forkChild(worker.stop)
      yield* quiet
      yield* Fiber.interrupt(hasty)
      const fiber = yield* Effect.forkChild(close)
      yield* quiet
      assert.isUndefined(fiber.pollUnsafe())
      yield* w.latch.open
      yield* Fiber.join(fiber)
      allWell(rig, "completed")
    }),
  )

  it.effect("during a claim: what the claim brings is handed back, without a crash counted", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* rig.insert(2)
      const latch = yield* Latch.make()
      rig.script("claimRuns", () => ({ after: latch }))
      const { close } = yield* rig.startWorker({ shutdownTimeoutMs })
      yield* until("a claim is under way", () => rig.open("claimRuns") === 1)
      // the first asks for suspects
      rig.script("claimRuns", (nth) => (nth === 2 ? { after: latch } : undefined))
      yield* latch.open
      yield* latch.close
      yield* until("they are claimed", () => rig.rows().every((run) => run.workerId !== null))
      const fiber = yield* Effect.forkChild(close)
      yield* quiet
      assert.isUndefined(fiber.pollUnsafe())
      yield* latch.open
      yield* pass(1000)
      yield* Fiber.join(fiber)
      yield* rig.memory.store.sweep({ limit: 10 })
      allWell(rig, "pending")
      assert.strictEqual(w.begun.length, 0)
    }),
  )

  it.effect("while suspects are asked for: nothing else is claimed", () =>
    Effect.gen(function* () {
      const { w, rig, close } = yield* executing(1)
      const latch = yield* Latch.make()
      rig.script("claimRuns", (_, { suspects }) => (suspects ? { after: latch } : undefined))
      yield* pass(12 * pollMs)
      assert.strictEqual(rig.open("claimRuns"), 1)
      const [late] = yield* rig.insert(1)
      const fiber = yield* Effect.forkChild(close)
      yield* quiet
      yield* latch.open
      yield* pass(1000)
      yield* w.latch.open
      yield* Fiber.join(fiber)
      assert.strictEqual(rig.row(late!).token, 0)
    }),
  )

  it.effect("during a claim that never answers: what it took is given back", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* rig.insert(2)
      rig.script("claimRuns", (nth) => (nth === 2 ? "hang-after" : undefined))
      const { close } = yield* rig.startWorker({ shutdownTimeoutMs: 1000 })
      yield* until("they are claimed", () => rig.rows().every((run) => run.workerId !== null))
      const fiber = yield* Effect.forkChild(close)
      yield* pass(10_000, 500)
      yield* Fiber.join(fiber)
      yield* rig.memory.store.sweep({ limit: 10 })
      allWell(rig, "pending")
    }),
  )

  it.effect("during an eager insert: the run is handed back, not lost", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      const { close } = yield* rig.startWorker({ shutdownTimeoutMs })
      yield* until("it has polled", () => claims(rig) >= 2)
      yield* quiet
      const latch = yield* Latch.make()
      rig.script("insertRuns", () => ({ after: latch }))
      const trigger = yield* Effect.forkChild(rig.trigger())
      yield* until("it is inserted", () => rig.rows().length === 1)
      const fiber = yield* Effect.forkChild(close)
      yield* quiet
      assert.isUndefined(fiber.pollUnsafe())
      yield* latch.open
      yield* Fiber.join(trigger)
      yield* pass(1000)
      yield* Fiber.join(fiber)
      yield* rig.memory.store.sweep({ limit: 10 })
      allWell(rig, "pending")
      assert.strictEqual(w.begun.length, 0)
    }),
  )

  it.effect("while a history is being read: the run is handed back by force", () =>
    Effect.gen(function* () {
      const { w, rig, close: closeFirst } = yield* executing(1)
      yield* w.latch.open
      yield* closeFirst
      rig.script("loadHistory", () => "hang")
      rig.script("commit", null)
      const [run] = yield* rig.insert(1)
      yield* rig.memory.store.sendEvents([
        { workflowRunId: run!, name: "e", payload: { codec: "json", json: "1" }, id: null },
      ])
      const { close } = yield* rig.startWorker({ shutdownTimeoutMs: 1000 })
      yield* until("a history is being read", () => rig.open("loadHistory") === 1)
      const fiber = yield* Effect.forkChild(close)
      yield* pass(2000)
      yield* Fiber.join(fiber)
      yield* rig.memory.store.sweep({ limit: 10 })
      assert.strictEqual(rig.row(run!).status, "pending")
      assert.strictEqual(rig.row(run!).crashCount, 0)
    }),
  )

  for (const fault of ["fail", "hang"] as const) {
    it.effect(`of a worker whose store answers with "${fault}" does not hang`, () =>
      Effect.gen(function* () {
        const { w, rig, close } = yield* executing()
        for (const verb of ["commit", "renewLease", "releaseClaims", "retireWorker"] as const) {
          rig.script(verb, () => fault)
        }
        yield* w.latch.open
        const fiber = yield* Effect.forkChild(close)
        yield* pass(shutdownTimeoutMs + 15_000, 500)
        assert.isDefined(fiber.pollUnsafe())
        yield* Fiber.join(fiber)
        // the sweep of another worker finds the runs
        yield* pass(30_000, 1000)
        rig.script("commit", null)
      }),
    )
  }

  it.effect("leaves no loop behind", () =>
    Effect.gen(function* () {
      const { w, rig, close } = yield* executing()
      yield* w.latch.open
      yield* close
      yield* quiet
      const verbs = ["claimRuns", "renewLease", "readSignals", "sweep", "dueSchedules"] as const
      const counts = () => verbs.map((verb) => rig.calls(verb).length)
      const before = counts()
      yield* TestClock.adjust(120_000)
      yield* quiet
      assert.deepStrictEqual(counts(), before)
    }),
  )
})

describe("start", () => {
  it.effect("fails in time where the store does not answer the first question", () =>
    Effect.gen(function* () {
      const rig = yield* makeRig(gated().workflow)
      rig.script("verify", () => "hang")
      const starting = yield* Effect.forkChild(Effect.flip(rig.startWorker()))
      yield* pass(61_000, 1000)
      assert.deepInclude(starting.pollUnsafe(), { _tag: "Success" })
      const error = yield* Fiber.join(starting)
      assert.deepInclude(error, { _tag: "StoreUnavailable", operation: "verify" })
      assert.strictEqual(rig.open("verify"), 0)
    }),
  )

  it.effect("while a step is undone begins no other undo", () =>
    Effect.gen(function* () {
      const latch = yield* Latch.make()
      const undos: Array<string> = []
      const step = (name: string): StepOperation => ({
        kind: "step",
        name,
        retry: spaced(0, { maxAttempts: 1 }),
        timeoutMs: null,
        run: () => Effect.succeed(json(null)),
        undo: {
          retry: spaced(0, { maxAttempts: 1 }),
          timeoutMs: null,
          onUnknown: false,
          run: () =>
            Effect.andThen(
              Effect.sync(() => undos.push(name)),
              latch.await,
            ),
        },
      })
      const error = encodeError(new Error("broke"))
      const workflow: RegisteredWorkflow = {
        name: "w",
        version: null,
        startBody: (execution, onEnd) => {
          const end = () => onEnd({ _tag: "Failure", error, raw: null })
          execution.issue(step("a"), () => void execution.issue(step("b"), end))
          return () => undefined
        },
      }
      const rig = yield* makeRig(workflow)
      yield* rig.insert(1)
      const { close } = yield* rig.startWorker({ shutdownTimeoutMs })
      yield* until("an undo is under way", () => undos.length === 1)
      const fiber = yield* Effect.forkChild(close)
      yield* quiet
      yield* latch.open
      yield* pass(2000)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(undos, ["b"])
      const next = yield* rig.startWorker()
      yield* pass(2 * pollMs)
      assert.deepStrictEqual(undos, ["b", "a"])
      yield* next.close
    }),
  )

  it.effect("tells an undo to stop that has not ended after the shutdown timeout", () =>
    Effect.gen(function* () {
      const signals: Array<AbortSignal> = []
      const error = encodeError(new Error("broke"))
      const operation: StepOperation = {
        kind: "step",
        name: "step",
        retry: spaced(0, { maxAttempts: 1 }),
        timeoutMs: null,
        run: () => Effect.succeed(json(null)),
        undo: {
          retry: spaced(0, { maxAttempts: 1 }),
          timeoutMs: null,
          onUnknown: false,
          run: (_, { signal }) => {
            signals.push(signal)
            return Effect.interruptible(Effect.never)
          },
        },
      }
      const startBody: RegisteredWorkflow["startBody"] = (execution, onEnd) => {
        execution.issue(operation, () => onEnd({ _tag: "Failure", error, raw: null }))
        return () => undefined
      }
      const rig = yield* makeRig({ name: "w", version: null, startBody })
      const [run] = yield* rig.insert(1)
      const { close } = yield* rig.startWorker({ shutdownTimeoutMs })
      yield* until("the undo is under way", () => signals.length === 1)
      const fiber = yield* Effect.forkChild(close)
      yield* pass(shutdownTimeoutMs + 2000, 1000)
      yield* Fiber.join(fiber)
      assert.isTrue(signals[0]!.aborted)
      assert.isNull(rig.row(run!).workerId)
    }),
  )

  it.effect("in the backoff of an undo hands on how often that was tried", () =>
    Effect.gen(function* () {
      const tries: Array<number> = []
      const rig = yield* makeRig(undone(tries))
      const [id] = yield* rig.insert(1)
      const { close } = yield* rig.startWorker({ shutdownTimeoutMs })
      yield* until("the undo was tried", () => tries.length === 1)
      const fiber = yield* Effect.forkChild(close)
      yield* pass(2000)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(tries, [1])
      const [step] = yield* rig.memory.store.getSteps(id!)
      assert.deepInclude(step?.compensation, { status: "retrying", attempts: 1 })
      const next = yield* rig.startWorker()
      yield* pass(2 * pollMs)
      assert.deepStrictEqual(tries.slice(0, 3), [1, 2, 3])
      yield* next.close
    }),
  )
})
