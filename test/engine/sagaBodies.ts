/**
 * Bodies that are undone: with undos of their own tries, with unknown steps, with a point of no
 * return.
 */
import { setTimeout as delay } from "node:timers/promises"
import { type Program, program } from "./replay.ts"

const boom = (): never => {
  throw new Error("boom")
}

export const sagaBodies: ReadonlyArray<Program> = [
  program(
    "undos with tries of their own, which park",
    async ({ ctx, world }) => {
      for (const name of ["a", "b", "c"]) {
        await ctx.step(name, {
          run: () => delay(1, name),
          compensate: {
            run: () => world.fails(`undo ${name}`, 2),
            retry: { maxAttempts: 10, backoff: "fixed", initialDelayMs: 900 },
            timeoutMs: 60_000,
          },
        })
      }
      boom()
    },
    { ends: "compensated" },
  ),

  program(
    "unknown steps that are undone",
    async ({ ctx, world }) => {
      const undo = { compensate: () => void world.count("undo"), compensateOnUnknown: true }
      await ctx.step("known", { run: () => 1, ...undo })
      await ctx.step("flaky", {
        run: () => world.fails("flaky", 1),
        retry: { maxAttempts: 50, backoff: "fixed", initialDelayMs: 900 },
        ...undo,
      })
      await ctx.step("late", {
        run: ({ signal }) => delay(60_000, undefined, { signal }),
        timeoutMs: 200,
        ...undo,
      })
    },
    { ends: "compensated" },
  ),

  program(
    "an unknown step beside the one that fails",
    async ({ ctx, world }) => {
      const undo = { compensate: () => void world.count("undo"), compensateOnUnknown: true }
      await Promise.all([
        ctx.step("slow", { run: ({ signal }) => delay(60_000, 1, { signal }), ...undo }),
        ctx.step("quick", { run: () => delay(1, 1), ...undo }),
        ctx.step("fails", () => delay(4).then(boom)),
      ])
    },
    { ends: "compensated" },
  ),

  program(
    "a point of no return",
    async ({ ctx, world, note }) => {
      const undo = { compensate: () => void world.count("undo") }
      await ctx.step("a", { run: () => 1, ...undo })
      await Promise.all([
        ctx.step("b", { run: () => delay(2, 1), ...undo }),
        ctx.pointOfNoReturn("shipped"),
        ctx.step("c", { run: () => delay(1, 1), ...undo }),
      ])
      note("passed", true)
      await ctx.step("d", { run: () => 1, ...undo })
      await ctx.sleep("nap", "700 ms")
      boom()
    },
    { ends: "compensated" },
  ),
]

export const undoneBodies: ReadonlyArray<Program> = [
  program(
    "a saga that fails",
    async ({ ctx }) => {
      for (const name of ["reserve", "charge", "ship"]) {
        await ctx.step(name, { run: () => name, compensate: (undone) => void undone })
      }
      await ctx.step("no undo", () => 1)
      await ctx.step("confirm", () => Promise.reject(new Error("no")))
    },
    { ends: "compensated" },
  ),

  program(
    "a saga whose undo needs several tries",
    async ({ ctx, world }) => {
      await ctx.step("a", { run: () => "A", compensate: () => delay(2) })
      await ctx.step("b", { run: () => "B", compensate: () => world.fails("undo b", 2) })
      await ctx.sleep("cooling", "1 second")
      await ctx.step("a", { run: () => "A2", compensate: () => delay(2) })
      throw new Error("the body itself gave up")
    },
    { ends: "compensated" },
  ),

  program(
    "a saga whose undo never helps",
    async ({ ctx, world }) => {
      await ctx.step("a", { run: () => "A", compensate: () => delay(2) })
      await ctx.step("b", { run: () => "B", compensate: () => world.fails("undo b", Infinity) })
      await ctx.step("c", { run: () => "C", compensate: () => delay(2) })
      await ctx.step("fail", () => Promise.reject(new Error("no")))
    },
    { ends: "failed" },
  ),

  program(
    "a saga with a step under way",
    async ({ ctx }) => {
      await ctx.step("first", { run: () => 1, compensate: () => undefined })
      await Promise.all([
        ctx.step("slow charge", { run: () => delay(12, "charged"), compensate: () => delay(1) }),
        ctx.step("quick", { run: () => delay(1, "quick"), compensate: () => delay(1) }),
        ctx.step("fails", () => delay(4).then(() => Promise.reject(new Error("no")))),
      ])
    },
    { ends: "compensated" },
  ),

  program(
    "a saga that is retried first",
    async ({ ctx, world }) => {
      await ctx.step("a", { run: () => 1, compensate: () => undefined })
      await ctx.step("shaky", {
        run: () => world.fails("shaky", 1),
        compensate: () => undefined,
      })
      await ctx.step("b", { run: () => 1, compensate: () => undefined })
      await ctx.step("hopeless", () => Promise.reject(new Error("no")))
    },
    { attempts: 2, ends: "compensated", maxAttempts: 2 },
  ),
]
