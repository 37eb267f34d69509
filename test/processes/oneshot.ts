/**
 * A program that uses an engine from beginning to end, and ends: nothing of the engine may keep it
 * alive. Prints when the engine has stopped.
 */
import pg from "pg"
import { DurableEngine, defineWorkflow } from "../../src/index.ts"
import type { ProcessConfig } from "./harness.ts"

const config = JSON.parse(process.env["FLOWLY_PROCESS"] ?? "{}") as ProcessConfig
const greet = defineWorkflow("greet", async (ctx, name: string) => {
  await ctx.sleep("a moment", 50)
  await ctx.emit("greeted", name)
  return ctx.step("greet", () => `Hello ${name}`)
})
const pool =
  config.driver === "pool" ? new pg.Pool({ connectionString: config.url, max: 5 }) : undefined
const { schema, url } = config
const heard: Array<string> = []
{
  await using engine = new DurableEngine({
    ...(pool === undefined ? { url } : { pool }),
    schema,
    workflows: [greet],
  })
  await engine.migrate()
  engine.on("greeted", ({ data }) => heard.push(String(data)))
  await engine.start()
  const handle = await engine.trigger(greet, { input: "Ada" })
  await engine.schedule(greet, { cron: "@yearly", input: "Bob" })
  const later = await engine.trigger(greet, { input: "Eve", scheduledFor: new Date(2100, 1) })
  // nobody waits for this one any more
  void later.result().catch(() => undefined)
  console.log(await handle.result())
  // a step is under way, and a run asleep, when the engine stops
  await engine.trigger(greet, { input: "Tim" })
}
// the user's pool is the user's to end
if (pool !== undefined) {
  await pool.query("select 1")
  await pool.end()
}
console.log("stopped")
