/**
 * What a test lays under a `DurableEngine`: its clock, and a look inside. Found by the options
 * object, so that nothing of it shows in the engine's signature. Only `flowly/testing` calls
 * `layUnder`.
 */
import type * as Layer from "effect/Layer"
import type { Engine } from "../Engine.ts"
import type { EngineClock } from "../EngineClock.ts"
import type { Worker, WorkerOptions } from "../Worker.ts"
import type { WorkflowStore } from "../WorkflowStore.ts"
import type { DuplicateWorkflow, InvalidInput } from "../FlowlyError.ts"
import type { DurableEngineOptions } from "./options.ts"
import type { AnyWorkflow } from "./workflow.ts"

type WorkflowLayer = Layer.Layer<never, DuplicateWorkflow | InvalidInput, Engine>

/**
 * What differs from an engine in production.
 */
export interface Underlay {
  /** Under every layer, and in the context of every call. */
  readonly clock: Layer.Layer<never>
  readonly engineClock: Layer.Layer<EngineClock>
  readonly store: <E, R>(
    store: Layer.Layer<WorkflowStore, E, R>,
  ) => Layer.Layer<WorkflowStore, E, R>
  readonly worker: WorkerOptions
  /** What to register in the place of a definition; `null`: the definition. */
  readonly layerOf?: ((definition: AnyWorkflow) => WorkflowLayer | null) | undefined
  readonly onEngine: (engine: Engine["Service"]) => void
  readonly onWorker: (worker: Worker["Service"]) => void
}

const underlays = new WeakMap<DurableEngineOptions, Underlay>()

/**
 * Before the engine is made with these very options.
 */
export const layUnder = (options: DurableEngineOptions, underlay: Underlay): void => {
  underlays.set(options, underlay)
}

/**
 * In production: `undefined`.
 */
export const underlayOf = (options: DurableEngineOptions): Underlay | undefined =>
  underlays.get(options)
