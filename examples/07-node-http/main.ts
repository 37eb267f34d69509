// A plain Node HTTP server that starts workflows in a request and serves their status.
// Run it: npm run example:07   (npm run example:07 -- --keep leaves the server running)
import assert from "node:assert/strict"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { defineWorkflow, DurableEngine, FlowlyError } from "flowly"
import pg from "pg"
import * as z from "zod"
import { openDatabase } from "../support/postgres.ts"

// Any library with the Standard Schema interface will do; it also checks what is triggered.
const Order = z.object({ item: z.string().min(1), quantity: z.number().int().positive() })

const orderWorkflow = defineWorkflow(
  "order",
  async (ctx, input: z.infer<typeof Order>) => {
    const price = await ctx.step("price", async () => input.quantity * 25)
    await ctx.sleep("payment-window", { seconds: 2 })
    await ctx.step("pack", async () => console.log(`  packing ${input.quantity} × ${input.item}`))
    return { price }
  },
  { input: Order },
)

const database = await openDatabase()
const pool = new pg.Pool({ connectionString: database.url })
const engine = new DurableEngine({ pool, workflows: [orderWorkflow] })
await engine.migrate()
await engine.start()

async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname } = new URL(request.url ?? "/", "http://localhost")
  if (request.method === "POST" && pathname === "/orders") {
    const key = request.headers["idempotency-key"]
    const { workflowRunId, existing } = await engine.trigger(orderWorkflow, {
      input: JSON.parse(await bodyOf(request)),
      idempotencyKey: typeof key === "string" ? key : undefined,
    })
    response.setHeader("location", `/orders/${workflowRunId}`)
    return send(response, existing ? 200 : 202, { id: workflowRunId })
  }
  const [, id] = /^\/orders\/([^/]+)$/.exec(pathname) ?? []
  if (request.method === "GET" && id !== undefined) {
    const run = await engine.getStatus(id)
    if (run?.workflow !== orderWorkflow.name) return send(response, 404, { error: "no such order" })
    const result = run.status === "completed" ? run.result : null
    return send(response, 200, { id, status: run.status, result })
  }
  if (request.method === "GET" && pathname === "/health") {
    const { healthy } = await engine.healthCheck()
    return send(response, healthy ? 200 : 503, { healthy })
  }
  return send(response, 404, { error: "not found" })
}

const server = createServer((request, response) => {
  handle(request, response).catch((error: unknown) => {
    const code = error instanceof FlowlyError ? error.code : "Internal"
    const status =
      code === "InvalidInput" || error instanceof SyntaxError
        ? 400
        : code === "IdempotencyConflict"
          ? 409
          : 500
    send(response, status, { error: code })
  })
})
await new Promise<void>((resolve) => {
  server.listen(Number(process.env["PORT"] ?? 0), "127.0.0.1", resolve)
})
const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
console.log(`listening on ${base}`)

if (process.argv.includes("--keep")) {
  process.once("SIGINT", () => void close())
} else {
  await useIt()
  await close()
}

/** A client of this server. */
async function useIt(): Promise<void> {
  const post = (body: unknown, key: string) =>
    fetch(`${base}/orders`, {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": key },
      body: JSON.stringify(body),
    })
  const first = await post({ item: "chair", quantity: 4 }, "key-1")
  assert.equal(first.status, 202)
  const { id } = await json<{ id: string }>(first)
  console.log(`  POST /orders: ${first.status}, ${id}`)
  const again = await post({ item: "chair", quantity: 4 }, "key-1")
  assert.deepEqual([again.status, await again.json()], [200, { id }])
  console.log("  POST /orders, the same key again: 200, the same order")
  assert.equal((await post({ item: "table", quantity: 1 }, "key-1")).status, 409)
  console.log("  POST /orders, the same key with another order: 409")
  assert.equal((await post({ item: "chair", quantity: -1 }, "key-2")).status, 400)
  assert.equal((await fetch(`${base}/orders/no-such-id`)).status, 404)
  assert.equal((await fetch(`${base}/health`)).status, 200)

  let told = ""
  for (;;) {
    const order = await json<{ status: string; result: unknown }>(
      await fetch(base + "/orders/" + id),
    )
    if (order.status !== told) console.log(`  GET /orders/…: ${order.status}`)
    told = order.status
    if (order.status === "completed") return assert.deepEqual(order.result, { price: 100 })
    await new Promise((resolve) => {
      setTimeout(resolve, 100)
    })
  }
}

async function close(): Promise<void> {
  server.closeAllConnections()
  server.close()
  await engine.stop() // lets steps finish, hands the rest back
  await pool.end()
  await database.close()
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" })
  response.end(JSON.stringify(body))
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Array<Buffer> = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString("utf8")
}

async function json<A>(response: Response): Promise<A> {
  return (await response.json()) as A
}
