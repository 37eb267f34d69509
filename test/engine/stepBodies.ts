/**
 * Bodies whose steps have limits over their tries, tell of their progress, and decide about their
 * tries by their errors.
 */
import { setTimeout as delay } from "node:timers/promises"
import { NonRetryableError, RetryAfterError } from "../../src/StepError.ts"
import { type Program, program } from "./replay.ts"

export const stepBodies: ReadonlyArray<Program> = [
  program(
    "a step that goes on from its last heartbeat",
    async ({ ctx }) => {
      const pages = await ctx.step("pages", {
        run: async ({ lastHeartbeat, heartbeat }) => {
          const from = (lastHeartbeat as number | undefined) ?? 0
          for (let page = from + 1; page <= 5; page++) {
            heartbeat(page)
            await delay(3)
            if (page === 3 && from < 3) throw new Error("connection lost")
          }
          return from
        },
        retry: { maxAttempts: 20, backoff: "fixed", initialDelayMs: 900 },
      })
      return [pages >= 3, await ctx.step("after", () => "after")]
    },
    { result: [true, "after"] },
  ),

  program(
    "tries that end at a deadline over all of them",
    async ({ ctx, world }) => {
      const failure = await ctx
        .step("hopeless", {
          run: () => world.fails("hopeless", Infinity),
          retry: { maxAttempts: 1000, initialDelayMs: 300, backoff: "fixed" },
          deadlineMs: 3000,
        })
        .catch((error: { code?: string }) => error.code)
      return [failure, await ctx.step("after", () => 1)]
    },
    { result: ["StepDeadlineExceeded", 1] },
  ),

  program(
    "a deadline beside other work, in time",
    async ({ ctx, world, note }) => {
      const all = await Promise.all([
        ctx.step("a", {
          run: async () => {
            await delay(2)
            world.fails("a", 1)
            return "A"
          },
          retry: { maxAttempts: 50, initialDelayMs: 700, backoff: "fixed" },
          deadlineMs: 1_000_000,
        }),
        ctx.step("b", { run: () => delay(4, "B"), deadlineMs: 1_000_000 }),
        ctx.sleep("nap", "800 ms"),
      ])
      note("all", all)
      return [all, await ctx.step("after", () => "C")]
    },
    { result: [["A", "B", undefined], "C"] },
  ),

  program(
    "errors that decide about further tries",
    async ({ ctx, world }) => {
      const value = await ctx.step("later", {
        run: () => {
          const count = world.count("later")
          if (count < 3) throw new RetryAfterError("busy", { delayMs: 400 * count })
          return "at last"
        },
        retry: { maxAttempts: 1000 },
      })
      const failure = await ctx
        .step("never", {
          run: () => {
            throw new NonRetryableError("no")
          },
          retry: { maxAttempts: 1000 },
        })
        .catch((error: Error) => error.name)
      return [value, failure]
    },
    { result: ["at last", "NonRetryableError"] },
  ),
]
