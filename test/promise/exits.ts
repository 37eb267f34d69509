/** A program as its users write it: `node exits.ts memory|pool|url [connection string]`. */
import pg from "pg"
import { defineWorkflow, DurableEngine, MemoryWorkflowStore } from "../../src/index.ts"

const [kind, url = ""] = process.argv.slice(2)
const pool = kind === "pool" ? new pg.Pool({ connectionString: url }) : undefined

const child = defineWorkflow("child", async (ctx) => {
  await ctx.sleep("a moment", 5)
})
const workflow = defineWorkflow("exits", async (ctx) => {
  void ctx.step("fails, and nobody looks", () => Promise.reject(new Error("unseen")))
  await Promise.race([
    ctx.step(
      "loses",
      ({ signal }) =>
        new Promise((_, reject) => {
          signal.addEventListener("abort", () => reject(new Error("aborted")))
        }),
    ),
    ctx.sleep("wins", 5),
  ])
  await ctx.workflow(child)
  await ctx.emit("hello")
  return "done"
})
const failing = defineWorkflow("fails", async (ctx) => {
  await ctx.step("a", { run: () => 1, compensate: () => undefined })
  throw new Error("expected")
})

const engine = new DurableEngine({
  workflows: [workflow, failing, child],
  ...(pool === undefined ? {} : { pool }),
  ...(kind === "url" ? { url } : {}),
})
if (kind === "memory") engine.setStore(new MemoryWorkflowStore())
engine.onAny(() => undefined)
engine.hook("workflow:failed", () => undefined)
await engine.migrate()
await engine.start()
const handle = await engine.trigger(workflow, { timeoutMs: 3_600_000, idempotencyKey: "once" })
if ((await handle.result()) !== "done") process.exitCode = 2
const failed = await engine.trigger(failing)
await failed.result().catch(() => undefined)
// one that is under way when the engine stops
await engine.trigger(workflow, { scheduledFor: new Date(Date.now() + 3_600_000) })
await engine.stop()
await pool?.end()
