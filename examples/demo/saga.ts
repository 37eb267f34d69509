/**
 * The order saga of the README, on a shop that writes a ledger: reserve, charge, wait, ship,
 * confirm; and the way back, should the order fail.
 */
import { defineWorkflow } from "flowly"
import type { Shop } from "./shop.ts"

export interface Order {
  readonly order: string
  readonly amount: number
  readonly destination: string
  /** A real shop would wait for hours. */
  readonly coolingSeconds: number
}

export interface Receipt {
  readonly reservation: number
  readonly payment: number
  readonly parcel: number
}

/** The shop does the work in the workers; who only triggers orders needs none. */
export const defineOrderSaga = (shop: Shop) =>
  defineWorkflow("process-order", async (ctx, input: Order): Promise<Receipt> => {
    const reservation = await ctx.step("reserve-inventory", {
      run: (info) => shop.reserve(input, info),
      compensate: (result, info) => shop.release(input, result, info),
      retry: { maxAttempts: 3, backoff: "exponential", initialDelayMs: 500 },
    })
    const payment = await ctx.step("charge-card", {
      run: (info) => shop.charge(input, info),
      compensate: (result, info) => shop.refund(input, result, info),
    })
    await ctx.sleep("cooling-off", { seconds: input.coolingSeconds })
    const parcel = await ctx.step("ship-order", {
      run: (info) => shop.ship(input, info),
      timeoutMs: 20_000,
    })
    await ctx.step("send-confirmation", (info) => shop.confirm(input, info))
    return { reservation, payment, parcel }
  })
