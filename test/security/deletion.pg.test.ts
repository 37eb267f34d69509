/** The statement that README.md gives for forgetting old runs: nothing is left, nobody else is touched. */
import { afterAll, beforeAll, expect, it } from "vitest"
import { defineWorkflow, DurableEngine } from "../../src/index.ts"
import { until } from "../promise/rig.ts"
import { blocks } from "../readme/blocks.ts"
import { createDatabase, type TestDatabase, withClient } from "../support/database.ts"

let database: TestDatabase

beforeAll(async () => {
  database = await createDatabase()
})
afterAll(() => database.drop())

const forget = blocks
  .filter(({ language, code }) => language === "sql" && code.includes("delete from"))
  .map(({ code }) => code.replace("interval '90 days'", "interval '0 days'"))[0]!

const part = defineWorkflow("part", (_, n: number) => n * 2)
const whole = defineWorkflow("whole", async (ctx, n: number) => {
  ctx.setAttributes({ customer: "c-1" })
  await ctx.step("step", () => "done")
  await ctx.sleep("nap", 1)
  await ctx.emit("told", n)
  await ctx.waitForEvent("go")
  return ctx.child(part, n)
})
const asksLater = defineWorkflow("asks later", async (ctx) => {
  const child = await ctx.startChild(part, 21)
  await ctx.waitForEvent("now")
  return child.result()
})

/** The tables in which an id can be found. */
const tablesWith = (id: string) =>
  withClient(database.url, async (client) => {
    const { rows } = await client.query(
      "select tablename from pg_tables where schemaname = 'durable_workflow'",
    )
    const found: Array<string> = []
    for (const { tablename } of rows) {
      const { rowCount } = await client.query(
        `select from durable_workflow.${tablename} t where t::text like '%' || $1 || '%'`,
        [id],
      )
      if ((rowCount ?? 0) > 0) found.push(tablename)
    }
    return found
  })

it("leaves nothing of the run behind, and what open runs ask for later", async () => {
  expect(forget).toContain("'0 days'")
  await using engine = new DurableEngine({
    url: database.url,
    workflows: [part, whole, asksLater],
    worker: { pollIntervalMs: 50 },
  })
  await engine.migrate()
  await engine.start()
  const ended = await engine.trigger(whole, { input: 4, idempotencyKey: "k" })
  const open = await engine.trigger(asksLater)
  await ended.sendEvent("go", "secret", { id: "once" })
  await engine.pause(open.workflowRunId, { reason: "for a moment" })
  await engine.resume(open.workflowRunId)
  expect(await ended.result()).toBe(8)
  await until(async () => (await engine.count({ workflow: "part", status: "completed" })) === 2)
  expect(await tablesWith(ended.workflowRunId)).toEqual(
    expect.arrayContaining(["workflow_runs", "workflow_steps", "workflow_events"]),
  )
  const children = await engine.listRuns({ workflow: "part", parentRunId: ended.workflowRunId })
  await withClient(database.url, (client) => client.query(forget))
  expect(await tablesWith(ended.workflowRunId)).toEqual([])
  for (const { workflowRunId } of children.runs) expect(await tablesWith(workflowRunId)).toEqual([])
  expect(await engine.getStatus(ended.workflowRunId)).toBeNull()
  // its child has ended, and stays until it is asked
  await open.sendEvent("now")
  expect(await open.result()).toBe(42)
  // the key is free again
  const again = await engine.trigger(whole, { input: 5, idempotencyKey: "k" })
  expect(again.existing).toBe(false)
})
