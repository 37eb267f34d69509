/**
 * What the suite of the promise API stands on: engines that share one store, on each backend,
 * stopped after each test; nothing written to the console, no warning in any log.
 */
import { afterEach, beforeEach, expect, type MockInstance, vi } from "vitest"
import {
  type AnyWorkflow,
  DurableEngine,
  type DurableEngineOptions,
  FlowlyError,
  type RunHandle,
  type StepInfo,
  type TriggerOptions,
  type WorkflowDefinition,
  type WorkflowStatus,
} from "../../src/index.ts"

/** A kind of store. */
export interface Backend {
  readonly name: string
  /** Options of an engine on the backend's present store. */
  readonly options: () => Partial<DurableEngineOptions>
  /** Gives an engine the backend's store, where options cannot. */
  readonly attach: (engine: DurableEngine) => void
}

type EngineOptions = Partial<Omit<DurableEngineOptions, "workflows">>

export interface Rig {
  readonly backend: Backend
  /** A name that no other test has. */
  readonly name: (base: string) => string
  /** An engine on the test's store, not started. */
  readonly engine: (workflows: ReadonlyArray<AnyWorkflow>, options?: EngineOptions) => DurableEngine
  readonly started: (
    workflows: ReadonlyArray<AnyWorkflow>,
    options?: EngineOptions,
  ) => Promise<DurableEngine>
  /**
   * Runs a workflow up to its gate, stops that engine, and lets another one finish it: what
   * stands before the gate is replayed.
   */
  readonly replay: <I, O>(
    workflow: WorkflowDefinition<I, O>,
    gate: Gate,
    options: TriggerOptions<I>,
    others?: ReadonlyArray<AnyWorkflow>,
  ) => Promise<{
    readonly engine: DurableEngine
    readonly handle: RunHandle<O>
  }>
  /** What engines of this test said at level warn or error. */
  readonly warnings: Array<string>
  /** This test is about something that is warned of. */
  readonly allowWarnings: () => void
}

let names = 0

export const useRig = (backend: Backend): Rig => {
  const engines = new Set<DurableEngine>()
  const warnings: Array<string> = []
  let warningsAllowed = false
  let spies: ReadonlyArray<MockInstance> = []

  beforeEach(() => {
    warnings.length = 0
    warningsAllowed = false
    const levels = ["log", "info", "warn", "error", "debug"] as const
    spies = levels.map((level) => vi.spyOn(console, level))
  })

  afterEach(async () => {
    await Promise.all([...engines].map((engine) => engine.stop()))
    engines.clear()
    for (const spy of spies) {
      expect(spy).not.toHaveBeenCalled()
      spy.mockRestore()
    }
    if (!warningsAllowed) expect(warnings).toEqual([])
  })

  const engine: Rig["engine"] = (workflows, options) => {
    const made = new DurableEngine({
      ...backend.options(),
      workflows,
      logger: {
        debug: () => undefined,
        info: () => undefined,
        warn: (message) => warnings.push(message),
        error: (message) => warnings.push(message),
      },
      ...options,
      worker: { pollIntervalMs: 50, maxConcurrent: 10, ...options?.worker },
    })
    if (options?.pool === undefined && options?.url === undefined) backend.attach(made)
    engines.add(made)
    return made
  }

  const started: Rig["started"] = async (workflows, options) => {
    const made = engine(workflows, options)
    await made.start()
    return made
  }

  return {
    backend,
    name: (base) => `${base}-${++names}`,
    engine,
    started,
    replay: async (workflow, gate, options, others = []) => {
      const worker = { shutdownTimeoutMs: 20 }
      const first = await started([workflow, ...others], { worker })
      const handle = await first.trigger(
        workflow,
        ...([options] as Parameters<typeof first.trigger<any, any>>[1][] as never),
      )
      const ended = handle.result().then(
        () => new Error("the run ended before its gate"),
        (error: unknown) => error,
      )
      const early = await Promise.race([gate.reached, ended])
      if (early !== undefined) throw early
      await first.stop()
      const second = await started([workflow, ...others])
      return { engine: second, handle: second.handle(workflow, handle.workflowRunId) }
    },
    warnings,
    allowWarnings: () => {
      warningsAllowed = true
    },
  }
}

/** A step that the first engine never gets through, and the second does at once. */
export interface Gate {
  readonly step: (info: StepInfo) => Promise<string>
  readonly reached: Promise<void>
}

export const makeGate = (): Gate => {
  const reached = Promise.withResolvers<void>()
  let tries = 0
  return {
    reached: reached.promise,
    step: async ({ signal }) => {
      if (++tries > 1) return "through"
      reached.resolve()
      return aborted(signal)
    },
  }
}

/** Rejects when the signal aborts. */
export const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason)
    signal.addEventListener("abort", () => reject(signal.reason))
  })

/** Waits for a condition; fails after 20 seconds, which is far beyond all that is waited for. */
export const until = async <A>(
  look: () => Promise<A | false | null | undefined> | A | false | null | undefined,
  what = "the condition",
): Promise<A> => {
  const deadline = performance.now() + 20_000
  for (;;) {
    const found = await look()
    if (found !== false && found !== null && found !== undefined) return found
    if (performance.now() > deadline) throw new Error(`${what} did not come within 20 seconds`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** Waits until a run has the status. */
export const untilStatus = (
  engine: DurableEngine,
  workflowRunId: string,
  status: WorkflowStatus["status"],
): Promise<WorkflowStatus & { readonly currentStep?: string; readonly error?: unknown }> =>
  until(async () => {
    const found = await engine.getStatus(workflowRunId)
    return found?.status === status ? found : false
  }, `status ${status} of ${workflowRunId}`)

/** The FlowlyError that a promise rejects with. */
export const refusal = async (promise: Promise<unknown>): Promise<FlowlyError> => {
  const error: unknown = await promise.then(
    (value) => new Error(`expected a rejection, got ${String(value)}`),
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(FlowlyError)
  return error as FlowlyError
}

/** The FlowlyError that a call throws. */
export const thrown = (call: () => unknown): FlowlyError => {
  try {
    call()
  } catch (error) {
    expect(error).toBeInstanceOf(FlowlyError)
    return error as FlowlyError
  }
  throw new Error("expected an error")
}

export const sleep = (ms: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, ms))
