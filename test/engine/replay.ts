/**
 * Runs programs to their end, remembers the store after each commit, and goes back to such a moment as
 * after a crash.
 *
 * A moment is a copy of the store right after an insert or a commit: exactly what a process leaves
 * behind that dies between that commit and the next. Going on from it means: the claims of
 * the dead worker are released, and a new engine runs the same code over that copy.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { Engine, layer as engineLayer } from "../../src/Engine.ts"
import type { ExecutionLimits } from "../../src/engine/Execution.ts"
import { type StoredError, summarize } from "../../src/ErrorPayload.ts"
import type { DuplicateWorkflow, InvalidInput } from "../../src/FlowlyError.ts"
import * as MemoryStore from "../../src/MemoryStore.ts"
import * as Payload from "../../src/Payload.ts"
import type { WorkflowContext } from "../../src/promise/context.ts"
import { type AnyWorkflow, defineWorkflow, layerOf } from "../../src/promise/workflow.ts"
import { isTerminal, type RunStatus } from "../../src/Run.ts"
import { layer as workerLayer } from "../../src/Worker.ts"
import { type RunRow, type StepRecord, WorkflowStore } from "../../src/WorkflowStore.ts"
import { type Execution, watch, type Watched, World } from "./world.ts"

// -----------------------------------------------------------------------------
// Programs
// -----------------------------------------------------------------------------

/** A workflow as a layer: from either API. */
export type WorkflowLayer = Layer.Layer<never, DuplicateWorkflow | InvalidInput, Engine>

/** Workflows, the first of which is started with `input`. */
export interface Program {
  readonly name: string
  /** The code, over the services of a world. */
  readonly code: (world: World) => ReadonlyArray<WorkflowLayer>
  readonly main: string
  readonly input: unknown
  readonly maxAttempts: number | undefined
  /** The order of arrival decides: the end may depend on where the crash falls. */
  readonly anyEnd: boolean
  readonly ends: RunStatus
  /** Attempt of the run that ends it. */
  readonly attempts: number | undefined
  readonly result: unknown
}

export type Body<I = any> = (watched: Watched, input: I) => Promise<unknown> | unknown

/** A workflow of the promise API whose body is watched. */
export const watched = (name: string, world: World, body: Body): AnyWorkflow =>
  defineWorkflow<any, any>(name, (ctx: WorkflowContext, input) => body(watch(world, ctx), input))

/** A program of one body, and of what it calls. */
export const program = (
  name: string,
  body: Body,
  options: {
    readonly input?: unknown
    readonly maxAttempts?: number
    readonly anyEnd?: boolean
    /** Default: "completed". */
    readonly ends?: RunStatus
    readonly attempts?: number
    readonly result?: unknown
    readonly children?: ReadonlyArray<(world: World) => AnyWorkflow>
  } = {},
): Program => ({
  name,
  main: name,
  code: (world) =>
    [watched(name, world, body), ...(options.children ?? []).map((child) => child(world))].map(
      (definition) => layerOf(definition),
    ),
  input: options.input,
  maxAttempts: options.maxAttempts,
  anyEnd: options.anyEnd ?? false,
  ends: options.ends ?? "completed",
  attempts: options.attempts,
  result: options.result,
})

// -----------------------------------------------------------------------------
// Time: the clock of stores and workers runs faster than that of the machine
// -----------------------------------------------------------------------------

/** A second of a workflow's time takes 50 ms. */
export const speed = 20

const origin = performance.now()
const millis = () => 1_700_000_000_000 + (performance.now() - origin) * speed
const nanos = () => BigInt(Math.round(millis() * 1e6))

const fastClock: Clock.Clock = {
  currentTimeMillisUnsafe: () => Math.floor(millis()),
  currentTimeMillis: Effect.sync(() => Math.floor(millis())),
  currentTimeNanosUnsafe: nanos,
  currentTimeNanos: Effect.sync(nanos),
  monotonicTimeNanosUnsafe: nanos,
  monotonicTimeNanos: Effect.sync(nanos),
  sleep: (duration) =>
    Effect.callback<void>((resume) => {
      const real = Math.min(Duration.toMillis(duration) / speed, 2 ** 31 - 1)
      const timer = setTimeout(() => resume(Effect.void), real)
      return Effect.sync(() => clearTimeout(timer))
    }),
}

/** Runs an effect of a store at the fast clock. */
export const atFastClock = <A, E>(effect: Effect.Effect<A, E>): A =>
  Effect.runSync(Effect.provideService(effect, Clock.Clock, fastClock))

// -----------------------------------------------------------------------------
// Engines
// -----------------------------------------------------------------------------

/** An engine with one worker over a store. */
export interface Running {
  readonly run: <A, E>(effect: Effect.Effect<A, E, Engine>) => Promise<A>
  readonly stop: () => Promise<void>
}

const defaultLimits: Partial<ExecutionLimits> = {
  // of real time, as both graces
  divergenceGraceMs: 5000,
  parkGraceMs: 10,
  shortWaitMs: 600,
  drainMs: 5000,
}

export const startEngine = async (
  store: WorkflowStore["Service"],
  workflows: ReadonlyArray<WorkflowLayer>,
  limits: Partial<ExecutionLimits> = {},
): Promise<Running> => {
  const worker = workerLayer({
    pollIntervalMs: 10 * speed,
    maxConcurrent: 50,
    leaseMs: 600_000,
    shutdownTimeoutMs: 0,
    useNotify: false,
    limits: { ...defaultLimits, ...limits },
  })
  const layer = Layer.mergeAll(worker, ...workflows).pipe(
    Layer.provideMerge(engineLayer({ pollIntervalMs: 10 * speed })),
    Layer.provide(Layer.succeed(WorkflowStore, store)),
    Layer.provide(Layer.succeed(Clock.Clock, fastClock)),
  )
  const runtime = ManagedRuntime.make(layer)
  await runtime.runPromise(Effect.void)
  return {
    run: (effect) => runtime.runPromise(effect),
    stop: () => runtime.dispose(),
  }
}

/** How a run ended, in a form to compare. */
export interface End {
  readonly status: RunStatus
  readonly result: unknown
  readonly error: string | null
  readonly row: RunRow
}

/** The row of a run. */
export const rowOf = (handle: MemoryStore.Handle, workflowRunId: string): RunRow => {
  const row = handle.inspect().runs.find((one) => one.workflowRunId === workflowRunId)
  if (row === undefined) throw new Error(`no run ${workflowRunId}`)
  return row
}

/** Without ids, which differ from run to run. */
export const summaryOf = (error: StoredError | null) =>
  error === null ? null : summarize(error).replaceAll(/[0-9a-f-]{36}/g, "(id)")

const endOf = (row: RunRow): End => ({
  status: row.status,
  result: row.result === null ? null : Payload.decode(row.result),
  error: summaryOf(row.error),
  row,
})

export const recordsOf = (
  handle: MemoryStore.Handle,
  workflowRunId: string,
): ReadonlyArray<StepRecord> => atFastClock(handle.store.getSteps(workflowRunId))

/** Waits until the run has settled, or any run is paused. */
export const settled = async (
  handle: MemoryStore.Handle,
  workflowRunId: string,
  // many engines turn in this process at once, on a machine that may be busy
  deadlineMs = 240_000,
): Promise<End> => {
  const deadline = performance.now() + deadlineMs
  while (true) {
    const { runs } = handle.inspect()
    const paused = runs.find((row) => row.status === "paused")
    const row = paused ?? rowOf(handle, workflowRunId)
    if (row === paused || isTerminal(row.status)) return endOf(row)
    if (performance.now() > deadline) {
      const records = recordsOf(handle, workflowRunId).map((one) => `${one.stepKey} ${one.status}`)
      throw new Error(`still ${row.status} after ${deadlineMs} ms; records: ${records.join()}`)
    }
    await new Promise((resolve) => setTimeout(resolve, 4))
  }
}

/** Starts a program, and answers with the id of its run. */
export const start = (
  engine: Running,
  { main, input, maxAttempts }: Pick<Program, "main" | "input" | "maxAttempts">,
): Promise<string> =>
  engine.run(
    Effect.gen(function* () {
      const { start: trigger } = yield* Engine
      const encoded = yield* Effect.fromResult(Payload.encode(input, { field: "input" }))
      const started = yield* trigger({ name: main, version: null }, encoded, { maxAttempts })
      return started.workflowRunId
    }),
  )

/** As after the death of every worker: what they held is anybody's. */
export const releaseAll = (handle: MemoryStore.Handle): void => {
  const { workers, runs } = handle.inspect()
  const tokens = new Map(runs.map((row) => [row.workflowRunId, row.token]))
  for (const { workerId, claims } of workers) {
    const held = claims.map((id) => ({ workflowRunId: id, token: tokens.get(id) ?? 0 }))
    atFastClock(handle.store.releaseClaims(held))
    atFastClock(handle.store.retireWorker(workerId))
  }
}

// -----------------------------------------------------------------------------
// Moments
// -----------------------------------------------------------------------------

/** What a process leaves behind that dies here. */
export interface Moment {
  readonly handle: MemoryStore.Handle
  readonly world: World
  /** What the bodies had seen. */
  readonly executions: ReadonlyArray<Execution>
  readonly undone: ReadonlyArray<string>
  /**
   * Runs that have parked while their body was at pure asynchronous work, which went on later. Only the
   * process knows of such work: when it dies here, they sleep on until something else wakes them.
   */
  readonly parkedTooSoon: Set<string>
}

export interface Recording {
  readonly workflowRunId: string
  readonly end: End
  readonly moments: ReadonlyArray<Moment>
  readonly world: World
}

/** The store, and a look whether the hints of each write hold. */
const judged = (handle: MemoryStore.Handle, world: World): WorkflowStore["Service"] => ({
  ...handle.store,
  commit: (writes) =>
    Effect.suspend(() => {
      for (const { workflowRunId, records, transition } of writes) {
        const standing = new Set(recordsOf(handle, workflowRunId).map((one) => one.stepKey))
        const wrong = records.filter(
          ({ first, stepKey }) => first === true && standing.has(stepKey),
        )
        world.violations.push(
          ...wrong.map(({ stepKey }) => `"${stepKey}" was said to be the first of its key`),
        )
        const isFree = transition?._tag === "Settle" && transition.wakesParent === false
        if (isFree && rowOf(handle, workflowRunId).parent !== null) {
          world.violations.push(`${workflowRunId} was said to have no parent`)
        }
      }
      return handle.store.commit(writes)
    }),
})

/** The store, which calls `changed` after each of its changes that moves a run, but for a wake. */
const recording = (
  store: WorkflowStore["Service"],
  changed: () => void,
  woken: (workflowRunIds: ReadonlyArray<string>) => void,
): WorkflowStore["Service"] => {
  const after = <A, E>(effect: Effect.Effect<A, E>) => Effect.tap(effect, Effect.sync(changed))
  return {
    ...store,
    insertRuns: (options) => after(store.insertRuns(options)),
    commit: (writes) => after(store.commit(writes)),
    transact: (options) => after(store.transact(options)),
    wakeRuns: (options) =>
      Effect.tap(
        store.wakeRuns(options),
        Effect.sync(() => woken(options.workflowRunIds)),
      ),
  }
}

/** Watches a store: remembers each moment in `moments`. */
const remembering = (handle: MemoryStore.Handle, world: World, moments: Array<Moment>) =>
  recording(
    judged(handle, world),
    () => {
      const copy = handle.copy()
      moments.push({
        handle: copy,
        world: world.copy(copy),
        executions: world.executions.map(copyExecution),
        undone: [...world.undone],
        parkedTooSoon: new Set(),
      })
    },
    // the engine wakes a run only when the body of one that has parked went on
    (workflowRunIds) => {
      for (const workflowRunId of workflowRunIds) {
        for (const moment of moments.toReversed()) {
          const { status } = rowOf(moment.handle, workflowRunId)
          if (status !== "sleeping" && status !== "waiting") break
          moment.parkedTooSoon.add(workflowRunId)
        }
      }
    },
  )

/** Runs a program to its end, and remembers each moment. */
export const record = async (
  given: Program,
  limits: Partial<ExecutionLimits> = {},
): Promise<Recording> => {
  const handle = MemoryStore.makeUnsafe({ client: "client" })
  const world = new World(handle)
  const moments: Array<Moment> = []
  const engine = await startEngine(remembering(handle, world, moments), given.code(world), limits)
  try {
    const workflowRunId = await start(engine, given)
    const end = await settled(handle, workflowRunId)
    return { workflowRunId, end, moments, world }
  } finally {
    await engine.stop()
  }
}

/** Goes on from a moment with this code, to the end, and remembers each moment on the way. */
export const goOnRecording = async (
  { handle, world }: Moment,
  workflowRunId: string,
  code: Program["code"],
  limits: Partial<ExecutionLimits> = {},
): Promise<Recording> => {
  releaseAll(handle)
  const moments: Array<Moment> = []
  const engine = await startEngine(remembering(handle, world, moments), code(world), limits)
  try {
    const end = await settled(handle, workflowRunId)
    return { workflowRunId, end, moments, world }
  } finally {
    await engine.stop()
  }
}

const copyExecution = (execution: Execution): Execution => ({
  ...execution,
  seen: [...execution.seen],
  notes: new Map(execution.notes),
})

/** Goes on from a moment with this code, to the end. */
export const goOn = async (
  moment: Moment,
  workflowRunId: string,
  code: Program["code"],
  limits: Partial<ExecutionLimits> = {},
): Promise<End> => {
  releaseAll(moment.handle)
  const workflowRunIds = [...moment.parkedTooSoon]
  atFastClock(moment.handle.store.wakeRuns({ workflowRunIds, endSleeps: false, reason: null }))
  const store = judged(moment.handle, moment.world)
  const engine = await startEngine(store, code(moment.world), limits)
  try {
    return await settled(moment.handle, workflowRunId)
  } finally {
    await engine.stop()
  }
}
