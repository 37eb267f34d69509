/**
 * Bodies with transactional steps.
 */
import { setTimeout as delay } from "node:timers/promises"
import { type Program, program } from "./replay.ts"

export const transactionBodies: ReadonlyArray<Program> = [
  program(
    "transactions beside steps and waits",
    async ({ ctx, note }) => {
      const order: Array<string> = []
      const one = async (name: string, work: Promise<unknown>) => {
        await work
        order.push(name)
      }
      await Promise.all([
        one(
          "t1",
          ctx.transaction("t1", (client) => client),
        ),
        one(
          "s1",
          ctx.step("s1", () => delay(1)),
        ),
        one(
          "t2",
          ctx.transaction("t2", () => delay(2, "t2")),
        ),
        one(
          "s2",
          ctx.step("s2", () => 2),
        ),
        one("nap", ctx.sleep("nap", "300 ms")),
      ])
      note("order", order.join())
      return [order.length, await ctx.transaction("last", (client) => client)]
    },
    { result: [5, "client"] },
  ),

  program(
    "transactions that fail, are tried again, and are undone",
    async ({ ctx, world }) => {
      await ctx.transaction("kept", () => 1, { compensate: () => undefined })
      await ctx.transaction("flaky", () => world.fails("flaky", 2), {
        retry: { maxAttempts: 3, initialDelayMs: 700, backoff: "fixed" },
        compensate: () => undefined,
      })
      await ctx.transaction("never", () => Promise.reject(new Error("no")), {
        compensate: () => undefined,
      })
    },
    { ends: "compensated" },
  ),
]
