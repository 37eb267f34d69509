/**
 * Bodies whose steps fail: with fallbacks, with more tries, with more attempts of the whole run.
 */
import { setTimeout as delay } from "node:timers/promises"
import { type Program, program } from "./replay.ts"

export const retryBodies: ReadonlyArray<Program> = [
  program(
    "a fallback behind a failed step",
    async ({ ctx, world, note }) => {
      let from = "first"
      try {
        await ctx.step("first", () => world.fails("first", Infinity))
      } catch (error) {
        note("failure", (error as Error).message.replace(/\d+/, "n"))
        from = await ctx.step("fallback", () => "fallback")
      }
      return [from, await ctx.step("after", () => from.toUpperCase())]
    },
    { result: ["fallback", "FALLBACK"] },
  ),

  program(
    "short retries, in memory",
    async ({ ctx, world }) => {
      const value = await ctx.step("flaky", {
        run: () => {
          world.fails("flaky", 2)
          return "at last"
        },
        retry: { maxAttempts: 5, initialDelayMs: 100, backoff: "fixed" },
      })
      return [value, await ctx.step("after", () => 1)]
    },
    { result: ["at last", 1] },
  ),

  program(
    "long retries, which park",
    async ({ ctx, world }) => {
      const both = await Promise.all([
        ctx.step("flaky", {
          run: () => {
            world.fails("flaky", 2)
            return "at last"
          },
          retry: { maxAttempts: 5, initialDelayMs: 900 },
        }),
        ctx.step("other", () => "other"),
      ])
      return [both, await ctx.step("after", () => 1)]
    },
    { result: [["at last", "other"], 1] },
  ),

  program(
    "retries that do not help",
    async ({ ctx, world }) => {
      const failure = await ctx
        .step("hopeless", {
          run: () => world.fails("hopeless", Infinity),
          retry: { maxAttempts: 3, initialDelayMs: 700, backoff: "fixed" },
        })
        .catch(() => "gave up")
      return [failure, await ctx.step("after", () => 1)]
    },
    { result: ["gave up", 1] },
  ),

  program(
    "a run that is retried, with cleanup in a catch",
    async ({ ctx, world }) => {
      const a = await ctx.step("a", () => "A")
      try {
        await ctx.step("shaky", () => world.fails("shaky", 2))
      } catch (error) {
        await ctx.step("cleanup", () => "clean")
        await ctx.emit("cleaned", ctx.attempt)
        throw error
      }
      return [a, await ctx.step("after", () => "B")]
    },
    { attempts: 3, result: ["A", "B"], maxAttempts: 4 },
  ),

  program(
    "a run that is retried after a caught fallback",
    async ({ ctx, world }) => {
      const first = await ctx
        .step("first", () => world.fails("first", 1))
        .catch(() => ctx.step("fallback", () => "fallback"))
      const [, slow] = await Promise.all([
        ctx.step("shaky", () => world.fails("shaky", 1)),
        ctx.step("slow", () => delay(5, "slow")),
      ])
      return [first, slow, await ctx.step("after", () => "B")]
    },
    { attempts: 2, result: ["fallback", "slow", "B"], maxAttempts: 3 },
  ),

  program(
    "a run whose attempts are used up",
    async ({ ctx, world }) => {
      await ctx.step("a", () => "A")
      await ctx.step("shaky", () => world.fails("shaky", Infinity))
    },
    { ends: "dead_letter", attempts: 2, maxAttempts: 2, anyEnd: true },
  ),

  program(
    "a body that fails without a step",
    ({ ctx }) => {
      throw new Error(`attempt ${ctx.attempt}`)
    },
    { attempts: 2, ends: "dead_letter", maxAttempts: 2 },
  ),
]
