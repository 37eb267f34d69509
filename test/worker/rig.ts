/**
 * An engine and a worker over a scripted store, under TestClock, and workflows whose one step does
 * what the test says.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Engine from "../../src/Engine.ts"
import type { Attempt, StepOperation } from "../../src/engine/Operation.ts"
import { encodeError } from "../../src/ErrorPayload.ts"
import * as Journal from "../../src/Journal.ts"
import * as MemoryStore from "../../src/MemoryStore.ts"
import { make as makePolicy, spaced } from "../../src/RetryPolicy.ts"
import * as Worker from "../../src/Worker.ts"
import { WorkflowStore } from "../../src/WorkflowStore.ts"
import { json, start } from "../store/conformanceFixture.ts"
import { makeScripted, quiet, type Scripted, until } from "./scripted.ts"

const once = makePolicy({ maxAttempts: 1 })

/** A workflow of one step. Its body ends when the latch is open. */
export interface Gated {
  readonly workflow: Engine.RegisteredWorkflow
  readonly latch: Latch.Latch
  /** The tries that have begun, in order. */
  readonly begun: Array<Attempt>
}

export const gated = (name = "w"): Gated => {
  const latch = Latch.makeUnsafe(false)
  const begun: Array<Attempt> = []
  return {
    latch,
    begun,
    workflow: {
      name,
      version: null,
      startBody: (execution, onEnd) => {
        execution.issue(
          {
            kind: "step",
            name: "step",
            retry: once,
            timeoutMs: null,
            undo: null,
            run: (attempt) => {
              begun.push(attempt)
              return Effect.as(Effect.interruptible(latch.await), json("result"))
            },
          },
          ({ outcome }) => {
            if (outcome._tag === "Success") {
              onEnd({ _tag: "Success", result: outcome.result ?? json(null) })
            } else onEnd({ _tag: "Failure", error: outcome.error, raw: null })
          },
        )
        return () => undefined
      },
    },
  }
}

/** Its body fails behind a step, the undo of which fails, and is tried again in half a second. */
export const undone = (tries: Array<number>): Engine.RegisteredWorkflow => ({
  name: "w",
  version: null,
  startBody: (execution, onEnd) => {
    const error = encodeError(new Error("broke"))
    const operation: StepOperation = {
      kind: "step",
      name: "step",
      retry: once,
      timeoutMs: null,
      run: () => Effect.succeed(json(null)),
      undo: {
        retry: spaced(500, { maxAttempts: 5 }),
        timeoutMs: null,
        onUnknown: false,
        run: (_, { attempt }) => {
          tries.push(attempt)
          return Effect.fail({ error, raw: null })
        },
      },
    }
    execution.issue(operation, () => onEnd({ _tag: "Failure", error, raw: null }))
    return () => undefined
  },
})

/** A step that ends when the latch opens, and one beside it that fails, and is tried every 500 ms. */
export const hopelessBeside = (
  latch: Latch.Latch,
  tries: Array<number>,
  maxAttempts: number,
): Engine.RegisteredWorkflow => {
  const error = encodeError(new Error("no luck"))
  const step = (name: string, run: StepOperation["run"]): StepOperation => {
    const retry = spaced(500, { maxAttempts })
    return { kind: "step", name, retry, timeoutMs: null, undo: null, run }
  }
  return {
    name: "w",
    version: null,
    startBody: (execution) => {
      const long = () => Effect.as(Effect.interruptible(latch.await), json(null))
      execution.issue(step("long", long), () => undefined)
      const hopeless: StepOperation["run"] = ({ attempt }) => {
        tries.push(attempt)
        return Effect.fail({ error, retryable: true })
      }
      execution.issue(step("hopeless", hopeless), () => undefined)
      return () => undefined
    },
  }
}

export interface Rig extends Scripted {
  readonly memory: MemoryStore.Handle
  readonly engine: Engine.Engine["Service"]
  readonly startWorker: (
    options?: Worker.WorkerOptions,
  ) => Effect.Effect<Running, Worker.WorkerStartError>
  /** Starts `count` runs that no worker is told of, and answers their ids. */
  readonly insert: (count: number, workflow?: string) => Effect.Effect<ReadonlyArray<string>>
  readonly trigger: (
    options?: Engine.StartOptions,
    workflow?: string,
  ) => Effect.Effect<Engine.Started, Engine.StartError>
  readonly row: (id: string) => MemoryStore.Snapshot["runs"][number]
  readonly rows: () => MemoryStore.Snapshot["runs"]
}

export interface Running {
  readonly worker: Worker.Worker["Service"]
  /** Closes the worker's scope. */
  readonly close: Effect.Effect<void>
}

export const pollMs = 1000
export const leaseMs = 30_000

export const makeRig = Effect.fnUntraced(function* (
  ...workflows: ReadonlyArray<Engine.RegisteredWorkflow>
) {
  yield* TestClock.setTime(start)
  const memory = MemoryStore.makeUnsafe()
  const scripted = makeScripted(memory.store)
  const journal = yield* Journal.make.pipe(Effect.provideService(WorkflowStore, scripted.store))
  const engine = yield* Engine.make().pipe(
    Effect.provideService(WorkflowStore, scripted.store),
    Effect.provideService(Journal.Journal, journal),
  )
  for (const workflow of workflows) yield* engine.register(workflow)
  const outer = yield* Effect.scope
  let inserted = 0
  const rig: Rig = {
    ...scripted,
    memory,
    engine,
    startWorker: Effect.fnUntraced(function* (options) {
      const scope = yield* Scope.fork(outer)
      const worker = yield* Worker.make({
        useNotify: false,
        shutdownTimeoutMs: 0,
        pollIntervalMs: pollMs,
        leaseMs,
        ...options,
      }).pipe(Effect.provideService(Engine.Engine, engine), Scope.provide(scope))
      // at the end of the test: its stopping takes time, which passes only here
      yield* Scope.addFinalizer(outer, closing(Scope.close(scope, Exit.void)))
      return { worker, close: Scope.close(scope, Exit.void) }
    }),
    insert: (count, workflow = "w") =>
      Effect.orDie(
        Effect.map(
          memory.store.insertRuns({
            claimFor: null,
            runs: Array.from({ length: count }, () => {
              const n = (++inserted).toString(16).padStart(12, "0")
              return {
                workflowRunId: `01990000-0000-7000-9000-${n}`,
                workflow,
                version: null,
                input: json(null),
                priority: 0,
                scheduledFor: null,
                timeoutMs: null,
                maxAttempts: null,
                idempotencyKey: null,
                concurrencyKey: null,
                parent: null,
              }
            }),
          }),
          (answers) =>
            answers.flatMap((answer) => ("workflowRunId" in answer ? [answer.workflowRunId] : [])),
        ),
      ),
    trigger: (options, workflow = "w") =>
      engine.start({ name: workflow, version: null }, json(null), options),
    row: (id) => {
      const row = memory.inspect().runs.find((one) => one.workflowRunId === id)
      if (row === undefined) throw new Error(`there is no run ${id}`)
      return row
    },
    rows: () => memory.inspect().runs,
  }
  return rig
})

const closing = (close: Effect.Effect<void>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(close)
    for (let i = 0; i < 100 && fiber.pollUnsafe() === undefined; i++) {
      yield* quiet
      yield* TestClock.adjust(1000)
    }
    if (fiber.pollUnsafe() === undefined) {
      return yield* Effect.die(new Error("the worker did not stop within 100 s"))
    }
  })

/** Lets time pass, in steps of a tenth of a second by default. */
export const pass = (milliseconds: number, stepMs = 100): Effect.Effect<void> =>
  Effect.gen(function* () {
    for (let left = milliseconds; left > 0; left -= stepMs) {
      yield* TestClock.adjust(Math.min(stepMs, left))
      yield* quiet
    }
  })

/** The claims that did not ask for suspects. */
export const plain = (rig: Rig) => rig.calls("claimRuns").filter(([options]) => !options.suspects)

/** A worker, and a run whose one step it executes. */
export const executing = Effect.gen(function* () {
  const w = gated()
  const rig = yield* makeRig(w.workflow)
  const [run] = yield* rig.insert(1)
  const { worker } = yield* rig.startWorker()
  yield* until("it is executing", () => w.begun.length === 1)
  return { w, rig, run: run!, worker }
})
