/**
 * One of several workers that share a database: see docker-compose.yml. Kill one in the middle of
 * an order, and the other goes on from the last step that was recorded.
 */
import pg from "pg"
// An application writes: from "flowly". The source is used here so that no build is needed.
import { defineWorkflow, DurableEngine } from "../../src/index.ts"

const name = process.env["WORKER_NAME"] ?? `worker-${process.pid}`
const log = (text: string) => console.log(`${new Date().toISOString()} [${name}] ${text}`)
const work = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds))

const order = defineWorkflow("compose-order", async (ctx, input: { order: string }) => {
  const payment = await ctx.step("charge", async ({ idempotencyKey }) => {
    log(`${input.order}: charging the card`)
    await work(1_000)
    log(`${input.order}: charged, cooling off`)
    return { payment: idempotencyKey }
  })
  await ctx.sleep("cooling off", { seconds: 5 })
  await ctx.step("ship", async () => {
    log(`${input.order}: shipping`)
    await work(1_000)
    log(`${input.order}: done`)
  })
  return payment
})

const pool = new pg.Pool({ connectionString: process.env["DATABASE_URL"], max: 10 })
pool.on("error", (error) => log(`a connection broke: ${error.message}`))

const engine = new DurableEngine({
  pool,
  workflows: [order],
  // What a dead worker had claimed is free again after the lease: short, to be seen in a demo.
  worker: { workerId: name, leaseMs: 5_000, maxConcurrent: 2 },
})
await engine.migrate() // every worker may: the first does the work
await engine.start()
log("ready")

// Every worker asks for the same orders. The key makes each of them one run.
for (const number of [1, 2, 3, 4]) {
  await engine.trigger(order, {
    input: { order: `order ${number}` },
    idempotencyKey: `order-${number}`,
  })
}
// And one more each minute, whatever the number of workers.
await engine.schedule(order, { cron: "* * * * *", input: { order: "order of the minute" } })

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, async () => {
    log("stopping: running orders are handed back")
    await engine.stop()
    await pool.end()
    process.exit()
  })
}
