import { defineWorkflow, DurableEngine, MemoryWorkflowStore } from "flowly"

const greet = defineWorkflow("greet", async (ctx, input: { name: string }) => {
  const greeting = await ctx.step("compose", () => `hello ${input.name}`)
  await ctx.sleep("a moment", { milliseconds: 5 })
  return greeting satisfies string
})

const engine = new DurableEngine({ workflows: [greet] })
engine.setStore(new MemoryWorkflowStore())
await engine.start()
const handle = await engine.trigger(greet, { input: { name: "world" } })
const result: string = await handle.result()
await engine.stop()
if (result !== "hello world") throw new Error(`unexpected result: ${result}`)

export const wrong = () =>
  // @ts-expect-error the input is the workflow's
  engine.trigger(greet, { input: { nome: "world" } })
