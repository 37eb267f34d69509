/**
 * What a worker hears of its runs while they execute: requests, deadlines, claims that others released.
 */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import type { RegisteredWorkflow } from "../../src/Engine.ts"
import { encodeError } from "../../src/ErrorPayload.ts"
import { json } from "../store/conformanceFixture.ts"
import { executing, type Gated, gated, leaseMs, makeRig, pass, pollMs, undone } from "./rig.ts"
import { it, quiet, until } from "./scripted.ts"

describe("signals", () => {
  it.effect("a cancel reaches an executing step within two polls", () =>
    Effect.gen(function* () {
      const { w, rig, run } = yield* executing
      // by another process, without a hint
      yield* rig.memory.store.requestCancel({
        workflowRunId: run,
        compensate: null,
        reason: "enough",
      })
      yield* pass(2 * pollMs)
      assert.isTrue(w.begun[0]!.signal.aborted)
      assert.strictEqual(rig.row(run).status, "cancelled")
    }),
  )

  for (const fault of ["fail", "die"] as const) {
    it.effect(`a cancel reaches a child, though the store answers "${fault}"`, () =>
      Effect.gen(function* () {
        const parent: RegisteredWorkflow = {
          name: "w",
          version: null,
          startBody: (execution) => {
            execution.issue(
              {
                kind: "child",
                startedAs: null,
                name: "child",
                workflow: "of nobody here",
                version: null,
                input: json(null),
                timeoutMs: null,
                maxAttempts: null,
                onParentClose: "cancel",
              },
              () => undefined,
            )
            return () => undefined
          },
        }
        const rig = yield* makeRig(parent)
        const [run] = yield* rig.insert(1)
        rig.script("requestCancel", (nth) => (nth <= 2 ? fault : undefined))
        yield* rig.startWorker({ limits: { parkGraceMs: 0 } })
        yield* until("it has a child", () => rig.rows().length === 2)
        yield* rig.memory.store.requestCancel({
          workflowRunId: run!,
          compensate: null,
          reason: null,
        })
        rig.engine.journal.hints.local("work")
        yield* pass(5 * pollMs)
        assert.deepStrictEqual(
          rig.rows().map(({ status }) => status),
          ["cancelled", "cancelled"],
        )
      }),
    )
  }

  it.effect("who waits for a run that others take over hears of its end soon", () =>
    Effect.gen(function* () {
      const { rig, run, worker } = yield* executing
      const waiter = yield* Effect.forkChild(rig.engine.outcome(run), { startImmediately: true })
      yield* rig.memory.store.terminateRuns([
        { workflowRunId: run, error: encodeError(new Error("enough")), reason: null },
      ])
      rig.engine.journal.hints.local("signal")
      yield* until("the claim is known to be lost", () => worker.health().running === 0)
      yield* pass(10)
      assert.isDefined(waiter.pollUnsafe())
      assert.strictEqual((yield* Fiber.join(waiter)).status, "cancelled")
    }),
  )

  it.effect("with a hint: at once", () =>
    Effect.gen(function* () {
      const { rig, run } = yield* executing
      yield* rig.engine.cancel(run)
      yield* until("it is cancelled", () => rig.row(run).status === "cancelled")
    }),
  )

  it.effect(
    "an event that this process sends reaches a run that executes, or has parked, at once",
    () =>
      Effect.gen(function* () {
        const w = gated()
        const event = { kind: "event", name: "e", event: "e", timeoutMs: null } as const
        const waits = (name: string, beside: Gated | null): RegisteredWorkflow => ({
          name,
          version: null,
          startBody: (execution, onEnd) => {
            beside?.workflow.startBody(execution, () => undefined)
            execution.issue(event, () => onEnd({ _tag: "Success", result: json(null) }))
            return () => undefined
          },
        })
        const rig = yield* makeRig(waits("executes", w), waits("parks", null))
        const [executes] = yield* rig.insert(1, "executes")
        const [parks] = yield* rig.insert(1, "parks")
        yield* rig.startWorker({ limits: { parkGraceMs: 0 } })
        yield* until("it has parked", () => rig.row(parks!).status === "waiting")
        yield* until("the other executes", () => w.begun.length === 1)
        yield* quiet
        for (const run of [executes!, parks!]) {
          yield* rig.engine.sendEvent(run, "e", json(null))
          yield* until("it has ended", () => rig.row(run).status === "completed")
        }
      }),
  )

  it.effect("undos that this process has tried again are tried at once", () =>
    Effect.gen(function* () {
      const tries: Array<number> = []
      const rig = yield* makeRig(undone(tries))
      const [run] = yield* rig.insert(1)
      yield* rig.startWorker()
      yield* until("it is tried", () => tries.length === 1)
      yield* pass(5000)
      assert.strictEqual(rig.row(run!).status, "failed")
      const { length } = tries
      yield* rig.engine.retryCompensation(run!)
      yield* until("it is tried again", () => tries.length > length)
    }),
  )

  it.effect("what was read of its sources before an event came does not stand for it", () =>
    Effect.gen(function* () {
      const w = gated()
      const waits: RegisteredWorkflow = {
        ...w.workflow,
        startBody: (execution, onEnd) => {
          const abandon = w.workflow.startBody(execution, () => undefined)
          execution.issue({ kind: "event", name: "e", event: "e", timeoutMs: null }, () =>
            onEnd({ _tag: "Success", result: json(null) }),
          )
          return abandon
        },
      }
      const rig = yield* makeRig(waits)
      const [run] = yield* rig.insert(1)
      const send = (name: string) =>
        rig.memory.store.sendEvents([{ workflowRunId: run!, name, payload: json(null), id: null }])
      const [older, newer] = [yield* Latch.make(), yield* Latch.make()]
      rig.script("loadSources", (nth) => ({ after: nth === 1 ? older : newer }))
      yield* rig.startWorker({ limits: { parkGraceMs: 0 } })
      yield* until("it is executing", () => w.begun.length === 1)
      yield* send("another")
      rig.engine.journal.hints.local("signal")
      yield* until("its sources are read", () => rig.open("loadSources") === 1)
      yield* quiet
      yield* send("e")
      // its commit is answered with the newer counter, and then nothing is left but the wait
      yield* w.latch.open
      yield* quiet
      yield* older.open
      yield* pass(100)
      yield* newer.open
      yield* pass(pollMs)
      assert.strictEqual(rig.row(run!).status, "completed")
    }),
  )

  it.effect("one query asks for all runs", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      yield* rig.insert(5)
      yield* rig.startWorker({ maxConcurrent: 10 })
      yield* until("all are executing", () => w.begun.length === 5)
      yield* pass(pollMs)
      assert.strictEqual(rig.calls("readSignals").at(-1)?.[0].length, 5)
      assert.isAtMost(rig.calls("readSignals").length, 3)
    }),
  )

  it.effect("a claim that was lost is dropped: its step aborts, its slot is free", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      const [lost] = yield* rig.insert(2)
      const { worker } = yield* rig.startWorker()
      yield* until("both are executing", () => w.begun.length === 2)
      const { token } = rig.row(lost!)
      rig.script("claimRuns", () => "fail")
      yield* rig.memory.store.releaseClaims([{ workflowRunId: lost!, token }])
      yield* pass(2 * pollMs)
      const aborted = w.begun.filter(({ signal }) => signal.aborted)
      assert.deepStrictEqual(
        aborted.map(({ workflowRunId }) => workflowRunId),
        [lost],
      )
      assert.strictEqual(worker.health().running, 1)
    }),
  )

  it.effect("a claim that the run itself has just given up is not taken for lost", () =>
    Effect.gen(function* () {
      const w = gated()
      const rig = yield* makeRig(w.workflow)
      const types: Array<string> = []
      rig.engine.onLifecycle(({ type }) => types.push(type))
      const [run] = yield* rig.insert(1)
      yield* rig.startWorker()
      yield* until("it is executing", () => w.begun.length === 1)
      const after = yield* Latch.make()
      rig.script("commit", (_, [one]) => (one?.transition ? { after } : undefined))
      yield* w.latch.open
      yield* until("it has settled", () => rig.row(run!).status === "completed")
      const { length } = rig.calls("readSignals")
      rig.engine.journal.hints.local("signal")
      yield* until("signals were read", () => rig.calls("readSignals").length > length)
      yield* quiet
      yield* after.open
      yield* quiet
      assert.strictEqual(types.at(-1), "workflow:completed")
    }),
  )

  it.effect("a claim of a run that was held here already ends the older one", () =>
    Effect.gen(function* () {
      const { w, rig, run, worker } = yield* executing
      // released by others and claimed again, before anybody here hears of it
      rig.script("readSignals", () => "fail")
      yield* rig.memory.store.releaseClaims([{ workflowRunId: run, token: rig.row(run).token }])
      rig.engine.journal.hints.local("work")
      yield* until("it is executing again", () => w.begun.length === 2)
      yield* quiet
      assert.deepStrictEqual(
        w.begun.map(({ signal }) => signal.aborted),
        [true, false],
      )
      assert.strictEqual(worker.health().running, 1)
    }),
  )
})

describe("of two claims of a run", () => {
  /** A worker executes a run; that claim was released by others, without its hearing of it. */
  const released = Effect.gen(function* () {
    const { w, rig, run, worker } = yield* executing
    yield* quiet
    const latch = yield* Latch.make()
    rig.script("readSignals", () => ({ after: latch }))
    const { token } = rig.row(run)
    yield* rig.memory.store.releaseClaims([{ workflowRunId: run, token }])
    return { w, rig, run: run, worker, latch }
  })

  it.effect("what is heard of the older one does not end the newer", () =>
    Effect.gen(function* () {
      const { w, rig, latch } = yield* released
      rig.engine.journal.hints.local("signal")
      yield* until("signals of the older are read", () => rig.open("readSignals") === 1)
      rig.engine.journal.hints.local("work")
      yield* until("it is executing again", () => w.begun.length === 2)
      yield* latch.open
      yield* pass(pollMs)
      assert.deepStrictEqual(
        w.begun.map(({ signal }) => signal.aborted),
        [true, false],
      )
    }),
  )

  it.effect("the newer is given back, too, where nobody here has heard of it", () =>
    Effect.gen(function* () {
      const { rig, run, worker } = yield* released
      rig.script("claimRuns", () => "fail")
      const workflows = [{ name: "w", version: null }]
      const held = worker.health().workerId
      const claim = { workerId: held, workflows, limit: 1, suspects: false }
      const [unheard] = yield* rig.memory.store.claimRuns(claim)
      yield* pass(leaseMs, 500)
      const given = rig.calls("releaseClaims").flatMap(([claims]) => claims)
      assert.deepStrictEqual(given, [{ workflowRunId: run, token: unheard!.token }])
    }),
  )
})

describe("deadlines", () => {
  /** A worker that has polled, and does so no more within a minute. */
  const rarelyPolling = Effect.gen(function* () {
    const w = gated()
    const rig = yield* makeRig(w.workflow)
    yield* rig.startWorker({ pollIntervalMs: 60_000 })
    yield* until("it has polled", () => rig.calls("claimRuns").length >= 2)
    yield* quiet
    return { w, rig }
  })

  it.effect("are asked about when they come, not at the next poll", () =>
    Effect.gen(function* () {
      const { w, rig } = yield* rarelyPolling
      const { workflowRunId } = yield* rig.trigger({ timeoutMs: 5000 })
      yield* until("it is executing", () => w.begun.length === 1)
      yield* pass(4900)
      assert.strictEqual(rig.row(workflowRunId).status, "running")
      yield* pass(200)
      assert.strictEqual(rig.row(workflowRunId).status, "failed")
    }),
  )

  it.effect("in 30 days keep nobody busy", () =>
    Effect.gen(function* () {
      const { w, rig } = yield* rarelyPolling
      yield* rig.trigger({ timeoutMs: 30 * 86_400_000 })
      yield* until("it is executing", () => w.begun.length === 1)
      yield* pass(10_000, 500)
      assert.isAtMost(rig.calls("readSignals").length, 2)
    }),
  )

  it.effect("that passed and cannot be acted on are not asked about without end", () =>
    Effect.gen(function* () {
      const { w, rig } = yield* rarelyPolling
      yield* rig.trigger({ timeoutMs: 1000 })
      yield* until("it is executing", () => w.begun.length === 1)
      rig.script("commit", () => "fail")
      yield* pass(20_000, 50)
      assert.isAtMost(rig.calls("readSignals").length, 20)
    }),
  )
})
