/**
 * A worker process of the demo: an ordinary application that runs orders until it is told to stop,
 * or killed. Its progress goes to the parent process, and it ends with it.
 */
import { DurableEngine } from "flowly"
import pg from "pg"
import { defineOrderSaga } from "./saga.ts"
import { openShop } from "./shop.ts"
import type { FromWorker } from "./workers.ts"

const tell = (message: FromWorker) => process.send?.(message)

// Ctrl-C reaches all processes of a terminal: the parent decides what becomes of this one.
process.on("SIGINT", () => {})
// The parent is gone, however it ended.
process.on("disconnect", () => process.exit(1))

const pool = new pg.Pool({ connectionString: process.env["DATABASE_URL"], max: 8 })
pool.on("error", () => {}) // the next query tells

const shop = openShop(pool, (progress) => tell({ type: "progress", progress }))
const engine = new DurableEngine({
  pool,
  workflows: [defineOrderSaga(shop)],
  worker: {
    workerId: process.env["WORKER_NAME"],
    // What a dead worker had begun is free for others after this time. The default is 30 s.
    leaseMs: 2500,
    pollIntervalMs: 500,
  },
  logger: { debug: () => {}, info: () => {}, warn: () => {}, error: console.error },
})

process.on("message", async (message) => {
  if (message !== "stop") return
  await engine.stop()
  await pool.end()
  process.exit(0)
})

await engine.start()
tell({ type: "ready" })
