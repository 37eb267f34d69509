/** Schemas that answer at once, that take their time, and that do what no schema should. */
import { expect, it } from "vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { layerStore } from "../../src/EngineClock.ts"
import * as MemoryStore from "../../src/MemoryStore.ts"
import { DurableEngine } from "../../src/promise/DurableEngine.ts"
import { MemoryWorkflowStore } from "../../src/promise/MemoryWorkflowStore.ts"
import type { StandardResult, StandardSchema } from "../../src/promise/standardSchema.ts"
import { layUnder } from "../../src/promise/underlay.ts"
import { defineWorkflow } from "../../src/promise/workflow.ts"
import { WorkflowStore } from "../../src/WorkflowStore.ts"

const schemaOf = (
  validate: (value: unknown) => StandardResult<number> | Promise<StandardResult<number>>,
): StandardSchema<number> => ({ "~standard": { version: 1, vendor: "test", validate } })

const doubled = (value: unknown): StandardResult<number> =>
  typeof value === "number"
    ? { value: value * 2 }
    : { issues: [{ message: "no number", path: ["n", { key: 0 }] }] }

const later = async (value: unknown) => {
  await new Promise((resolve) => setTimeout(resolve, 5))
  return doubled(value)
}

const outcomeOf = async (schema: StandardSchema<number>, input: unknown, result: unknown) => {
  const tries: Array<unknown> = []
  const workflow = defineWorkflow(
    "checked",
    (ctx, given: number) =>
      ctx.step("answer", {
        schema,
        retry: { maxAttempts: 3, initialDelayMs: 1 },
        run: () => {
          tries.push(given)
          return result as number
        },
      }),
    { input: schema },
  )
  const engine = new DurableEngine({ workflows: [workflow], worker: { pollIntervalMs: 20 } })
  engine.setStore(new MemoryWorkflowStore())
  await engine.start()
  try {
    const handle = await engine.trigger(workflow, { input: input as number })
    const end = await handle.result().catch((error: Error) => error.message)
    return { end, tries }
  } finally {
    await engine.stop()
  }
}

it.each([
  ["at once", schemaOf(doubled)],
  ["later", schemaOf(later)],
])("a schema that answers %s changes what is read, and refuses for good", async (_, schema) => {
  expect(await outcomeOf(schema, 1, 5)).toEqual({ end: 10, tries: [2] })
  const refused = await outcomeOf(schema, 1, "five")
  expect(refused.tries).toEqual([2])
  expect(refused.end).toMatch(/result of step "answer".*\$\.n\[0\]: no number/)
})

it.each([
  ["throws", schemaOf((value) => (value === 5 ? JSON.parse("{") : doubled(value)))],
  ["rejects", schemaOf(async (value) => (value === 5 ? JSON.parse("{") : doubled(value)))],
  ["answers nothing", schemaOf((value) => (value === 5 ? undefined : doubled(value)) as never)],
])("a schema that %s refuses", async (_, schema) => {
  const { end, tries } = await outcomeOf(schema, 1, 5)
  expect(tries).toEqual([2])
  expect(end).toMatch(/result of step "answer".*Error/)
})

it("a schema that rejects before the engine is built ends no process", async () => {
  const unheard: Array<unknown> = []
  const hear = (error: unknown) => unheard.push(error)
  process.on("unhandledRejection", hear)
  const input = schemaOf(() => Promise.reject(new Error("no answer")))
  const workflow = defineWorkflow("checked", () => undefined, { input })
  const { store } = MemoryStore.makeUnsafe()
  const options = { workflows: [workflow] }
  layUnder(options, {
    clock: Layer.empty,
    engineClock: layerStore,
    store: () => Layer.effect(WorkflowStore, Effect.as(Effect.sleep(20), store)),
    worker: {},
    onEngine: () => {},
    onWorker: () => {},
  })
  const engine = new DurableEngine(options)
  engine.setStore(new MemoryWorkflowStore())
  try {
    await expect(engine.trigger(workflow, { input: 1 })).rejects.toThrow(/no answer/)
    await new Promise((resolve) => setImmediate(resolve))
    expect(unheard).toEqual([])
  } finally {
    process.off("unhandledRejection", hear)
    await engine.stop()
  }
})
