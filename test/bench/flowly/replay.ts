/** One run whose history is replayed, again and again: from the claim's answer to the next step. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { defineWorkflow, DurableEngine, type DurableEngineOptions } from "../../../src/index.ts"
import { layerStore } from "../../../src/EngineClock.ts"
import { layUnder } from "../../../src/promise/underlay.ts"
import { WorkflowStore } from "../../../src/WorkflowStore.ts"

/** Steps that are recorded, then one that ends with the worker and is not. */
const makeWorkflow = (onLast: () => void) =>
  defineWorkflow("replayed", async (ctx, input: { readonly steps: number }) => {
    let n = 0
    for (let step = 1; step <= input.steps; step++) n = await ctx.step(`step ${step}`, () => n + 1)
    await ctx.step("last", () => {
      onLast()
      return new Promise<never>(() => {})
    })
    return n
  })

/** Starts an engine, and stops it when the last step has begun. */
const session = async (
  url: string,
  begin: (engine: DurableEngine, workflow: ReturnType<typeof makeWorkflow>) => Promise<unknown>,
): Promise<number> => {
  const reached = Promise.withResolvers<number>()
  let claimedAt = 0
  const workflow = makeWorkflow(() => reached.resolve(performance.now() - claimedAt))
  const options: DurableEngineOptions = {
    url,
    workflows: [workflow],
    worker: { maxConcurrent: 1, shutdownTimeoutMs: 0 },
  }
  const watched = Layer.effect(
    WorkflowStore,
    Effect.map(WorkflowStore, (store) =>
      WorkflowStore.of({
        ...store,
        claimRuns: (asked) =>
          Effect.tap(store.claimRuns(asked), (claims) =>
            Effect.sync(() => {
              if (claims.length > 0) claimedAt = performance.now()
            }),
          ),
      }),
    ),
  )
  layUnder(options, {
    clock: Layer.empty,
    engineClock: layerStore,
    store: (inner) => Layer.provide(watched, inner),
    worker: {},
    onEngine: () => {},
    onWorker: () => {},
  })
  const engine = new DurableEngine(options)
  engine.hook("workflow:failed", (event) => reached.reject(new Error(JSON.stringify(event))))
  const late = setTimeout(() => reached.reject(new Error("the last step was not reached")), 60_000)
  try {
    await begin(engine, workflow)
    return await reached.promise
  } finally {
    clearTimeout(late)
    await engine.stop()
  }
}

/** The first three steps of a run that is to have `steps`; its id. */
export const beginRun = async (url: string): Promise<string> => {
  let id = ""
  await session(url, async (engine, workflow) => {
    await engine.migrate()
    await engine.start()
    id = (await engine.trigger(workflow, { input: { steps: 3 } })).workflowRunId
  })
  return id
}

/** Milliseconds of one replay of the run that is there. */
export const replay = (url: string): Promise<number> =>
  session(url, async (engine) => engine.start())
