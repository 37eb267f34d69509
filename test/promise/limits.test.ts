import { expect, it } from "vitest"
import { defineWorkflow, DurableEngine, MemoryWorkflowStore } from "../../src/index.ts"
import { refusal } from "./rig.ts"

it("a run of more records than the limit fails, and says what to do", async () => {
  let ran = 0
  const workflow = defineWorkflow("endless", async (ctx) => {
    for (;;) {
      const many = Array.from({ length: 5000 }, () => ctx.sideEffect("count", () => void ran++))
      await Promise.all(many)
    }
  })
  await using engine = new DurableEngine({ workflows: [workflow] })
  engine.setStore(new MemoryWorkflowStore())
  await engine.start()
  const error = await refusal((await engine.trigger(workflow)).result())
  expect(error.cause).toMatchObject({ code: "HistoryTooLong", details: { records: 50_000 } })
  expect(error.message).toContain("split the work into child workflows")
  expect(ran).toBe(50_000)
})
