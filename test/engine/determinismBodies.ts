/**
 * Bodies that ask for the time, for dice and for UUIDs: the same at every replay, also in branches
 * that race, and in an attempt that follows a failure.
 */
import { setTimeout as delay } from "node:timers/promises"
import { type Program, program } from "./replay.ts"

export const determinismBodies: ReadonlyArray<Program> = [
  program(
    "time, dice and UUIDs between operations",
    async ({ ctx, note }) => {
      const times: Array<number> = []
      for (let i = 0; i < 3; i++) {
        times.push(ctx.now().getTime())
        const dice = Math.floor(ctx.random() * 1000)
        const id = ctx.uuid()
        note(`draw ${i}`, [times.at(-1), dice, id])
        await ctx.step(`step ${dice}`, () => delay(1, id))
        await ctx.sleep(`nap ${id}`, "700 ms")
      }
      return times.every((at, i) => i === 0 || at >= (times[i - 1] ?? 0) + 700)
    },
    { result: true },
  ),

  program(
    "dice in branches of different length",
    async ({ ctx, note }) => {
      const branch = async (name: string, ms: number) => {
        await ctx.step(name, () => delay(ms))
        for (let i = 0; i < 3; i++) {
          const dice = Math.floor(ctx.random() * 1000)
          note(`${name} ${i}`, [dice, ctx.uuid(), ctx.now().getTime()])
          await ctx.step(`${name} ${dice}`, () => delay(1))
        }
        return name
      }
      return Promise.all([branch("x", 9), branch("y", 5), branch("z", 1)])
    },
    { result: ["x", "y", "z"] },
  ),

  program(
    "dice behind races",
    async ({ ctx, note }) => {
      const drawn: Array<string> = []
      for (let i = 0; i < 3; i++) {
        const arms = ["x", "y", "z"].map(async (name) => {
          await ctx.step(name, () => delay(1))
          const dice = Math.floor(ctx.random() * 1000)
          note(`${name} ${i}`, dice)
          await ctx.step(`${name} ${dice}`, () => delay(1))
          return `${name} ${dice} ${ctx.uuid()}`
        })
        const winner = await Promise.race(arms)
        note(`winner ${i}`, [winner, ctx.random(), ctx.now().getTime()])
        drawn.push(winner)
        // the losers, too, are heard before the next round
        note(`all ${i}`, await Promise.all(arms))
        if (i === 1) await ctx.sleep("nap", "900 ms")
      }
      return drawn.length
    },
    { result: 3 },
  ),

  program(
    "a branch that the dice chose, before a failure that is retried",
    async ({ ctx, world }) => {
      const dice = Math.floor(ctx.random() * 1_000_000)
      const id = ctx.uuid()
      const at = ctx.now().getTime()
      const chosen = await ctx.step(`${dice} ${id} ${at}`, () => delay(1, "chosen"))
      await ctx.step("shaky", () => world.fails("shaky", 2))
      return chosen
    },
    { attempts: 3, result: "chosen", maxAttempts: 4 },
  ),

  program(
    "dice that find the undo of a step again",
    async ({ ctx }) => {
      const name = `${ctx.random()} ${ctx.uuid()}`
      await ctx.step(name, { run: () => 1, compensate: () => undefined })
      await ctx.step("hopeless", () => Promise.reject(new Error("no")))
    },
    { ends: "compensated" },
  ),
]
