// The order saga: steps that are remembered, a durable sleep, and the way back when an order fails.
// Run it: npm run example:01
import assert from "node:assert/strict"
import { defineWorkflow, DurableEngine, FlowlyError } from "flowly"
import pg from "pg"
import { openDatabase } from "../support/postgres.ts"

// Three services, as an application has them.
const books: Array<string> = []
const book = (entry: string) => {
  console.log(`  ${entry}`)
  books.push(entry)
}
const inventory = {
  reserve: async (orderId: string) => {
    book(`${orderId}: reserved`)
    return { reservationId: `reservation of ${orderId}` }
  },
  release: async (reservationId: string) => book(`${reservationId}: released`),
}
const payments = {
  charge: async (orderId: string, amount: number, idempotencyKey: string) => {
    book(`${orderId}: charged ${amount} €`)
    return { paymentId: `payment of ${orderId}`, idempotencyKey }
  },
  refund: async (paymentId: string) => book(`${paymentId}: refunded`),
}
const shipping = {
  ship: async (orderId: string, amount: number) => {
    if (amount > 1000) throw new Error("the parcel would be too heavy")
    book(`${orderId}: shipped`)
    return { trackingId: `parcel of ${orderId}` }
  },
}

const orderWorkflow = defineWorkflow(
  "process-order",
  async (ctx, input: { orderId: string; amount: number }) => {
    await ctx.step("reserve-inventory", {
      run: () => inventory.reserve(input.orderId),
      compensate: (result) => inventory.release(result.reservationId),
      retry: { maxAttempts: 3, backoff: "exponential", initialDelayMs: 500 },
    })
    await ctx.step("charge-card", {
      run: ({ idempotencyKey }) => payments.charge(input.orderId, input.amount, idempotencyKey),
      compensate: (result) => payments.refund(result.paymentId),
    })
    await ctx.sleep("cooling-off", { seconds: 2 })
    const { trackingId } = await ctx.step("ship", () => shipping.ship(input.orderId, input.amount))
    return { trackingId }
  },
)

const database = await openDatabase()
const pool = new pg.Pool({ connectionString: database.url })
const engine = new DurableEngine({ pool, workflows: [orderWorkflow] })
await engine.migrate()
await engine.start()

console.log("An order that goes through:")
const good = await engine.trigger(orderWorkflow, { input: { orderId: "order-1", amount: 120 } })
assert.deepEqual(await good.result(), { trackingId: "parcel of order-1" })
console.log(`  ${(await good.status())?.status}`)

console.log("An order that cannot be shipped:")
const bad = await engine.trigger(orderWorkflow, { input: { orderId: "order-2", amount: 5000 } })
const error = await bad.result().catch((reason: unknown) => reason)
assert.ok(error instanceof FlowlyError && error.code === "RunFailed")
console.log(`  ${error.message}`)
assert.equal((await bad.status())?.status, "compensated")
assert.deepEqual(books.slice(-2), [
  "payment of order-2: refunded",
  "reservation of order-2: released",
])

await engine.stop()
await pool.end()
await database.close()
