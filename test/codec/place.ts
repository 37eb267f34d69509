/** Where the tests of payload codecs run: one store for several engines, and all that it holds. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { afterEach } from "vitest"
import type { WorkflowStore } from "../../src/effect.ts"
import {
  type AnyWorkflow,
  DurableEngine,
  type DurableEngineOptions,
  type PayloadCodecs,
} from "../../src/index.ts"

export interface Place {
  readonly name: string
  readonly options: () => Partial<DurableEngineOptions>
  readonly attach: (engine: DurableEngine) => void
  readonly layer: () => Layer.Layer<WorkflowStore.WorkflowStore>
  /** Each stored thing, as text. */
  readonly stored: () => Promise<ReadonlyArray<string>>
}

/** Engines on the place's store, stopped after each test. */
export const enginesOf = (place: Place) => {
  const open = new Set<DurableEngine>()
  afterEach(async () => {
    await Promise.all([...open].map((engine) => engine.stop()))
    open.clear()
  })
  return async (
    workflows: ReadonlyArray<AnyWorkflow>,
    payloadCodecs: PayloadCodecs | undefined,
    options: { readonly start?: boolean } = {},
  ): Promise<DurableEngine> => {
    const silent = () => undefined
    const engine = new DurableEngine({
      ...place.options(),
      workflows,
      payloadCodecs,
      logger: { debug: silent, info: silent, warn: silent, error: silent },
      worker: { pollIntervalMs: 50, shutdownTimeoutMs: 20 },
    })
    place.attach(engine)
    open.add(engine)
    if (options.start !== false) await engine.start()
    return engine
  }
}

/** What a store tells through its own verbs. */
export const toldBy = (store: WorkflowStore.WorkflowStore["Service"]) =>
  Effect.gen(function* () {
    const runs = yield* store.listRuns({
      statuses: null,
      workflow: null,
      parentRunId: null,
      before: null,
      limit: 1000,
    })
    const ids = runs.map((run) => run.workflowRunId)
    const rest = [
      ...(yield* store.loadHistory(ids)),
      ...(yield* store.listSchedules),
      ...(yield* Effect.forEach(ids, (id) => store.getEvents(id))),
      ...(yield* Effect.forEach(ids, (id) => store.getControls(id))),
    ]
    return [...runs, ...rest].map((one) => JSON.stringify(one))
  })
