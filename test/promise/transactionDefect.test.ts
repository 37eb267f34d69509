/** A store that dies over a commit has told nothing of it: the step is looked up, not done again. */
import { expect, it } from "vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { layerStore } from "../../src/EngineClock.ts"
import * as MemoryStore from "../../src/MemoryStore.ts"
import { DurableEngine } from "../../src/promise/DurableEngine.ts"
import { MemoryWorkflowStore } from "../../src/promise/MemoryWorkflowStore.ts"
import { layUnder } from "../../src/promise/underlay.ts"
import { defineWorkflow } from "../../src/promise/workflow.ts"
import { WorkflowStore } from "../../src/WorkflowStore.ts"

it("a transactional step that was committed is not run again because its driver broke", async () => {
  let runs = 0
  const workflow = defineWorkflow("pays", (ctx) =>
    ctx.transaction("pay", () => ++runs, { retry: { maxAttempts: 5, initialDelayMs: 1 } }),
  )
  const { store } = MemoryStore.makeUnsafe({ client: {} })
  let dies = true
  const transact: typeof store.transact = (options) =>
    Effect.tap(store.transact(options), () => {
      if (!dies) return Effect.void
      dies = false
      return Effect.die(new Error("the driver broke"))
    })
  const options = { workflows: [workflow] }
  layUnder(options, {
    clock: Layer.empty,
    engineClock: layerStore,
    store: () => Layer.succeed(WorkflowStore, { ...store, transact }),
    worker: { pollIntervalMs: 20 },
    onEngine: () => {},
    onWorker: () => {},
  })
  const engine = new DurableEngine(options)
  engine.setStore(new MemoryWorkflowStore())
  await engine.start()
  const handle = await engine.trigger(workflow)
  expect(await handle.result()).toBe(1)
  expect([runs, dies]).toEqual([1, false])
  await engine.stop()
})
