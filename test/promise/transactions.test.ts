/** Transactional steps without a database. */
import { afterEach, expect, it } from "vitest"
import { defineWorkflow, DurableEngine, MemoryWorkflowStore } from "../../src/index.ts"
import { refusal } from "./rig.ts"

const ends: Array<() => Promise<void>> = []
afterEach(async () => {
  for (const end of ends.splice(0)) await end()
})

const client = { query: async (text: string) => ({ rows: [{ text }], rowCount: 1 }) }

const flow = defineWorkflow("transacts", (ctx) =>
  ctx.transaction("x", async (given) => (await given.query("select 1")).rows[0].text as string),
)
const wrong = defineWorkflow("wrong", (ctx) =>
  ctx.transaction("x", () => 1, { isolation: "chaos" as never }),
)
const notAFunction = defineWorkflow("no function", (ctx) => ctx.transaction("x", 5 as never))

const startedOn = async (store: MemoryWorkflowStore) => {
  const engine = new DurableEngine({ workflows: [flow, wrong, notAFunction] })
  engine.setStore(store)
  ends.push(() => engine.stop())
  await engine.start()
  return engine
}

it("a memory store hands out the client that it was given", async () => {
  const engine = await startedOn(new MemoryWorkflowStore({ client }))
  expect(await (await engine.trigger(flow)).result()).toBe("select 1")
})

it("a memory store without one says what to give it", async () => {
  const engine = await startedOn(new MemoryWorkflowStore())
  const failed = await refusal((await engine.trigger(flow)).result())
  expect(failed.cause).toMatchObject({ code: "TransactionUnsupported", retryable: false })
  expect((failed.cause as Error).message).toContain("new MemoryWorkflowStore({ client })")
})

it("what is no function or no level of isolation is refused", async () => {
  const engine = await startedOn(new MemoryWorkflowStore({ client }))
  for (const bad of [await engine.trigger(wrong), await engine.trigger(notAFunction)]) {
    const failed = await refusal(bad.result())
    expect(failed.cause).toMatchObject({ code: "InvalidInput" })
  }
})
