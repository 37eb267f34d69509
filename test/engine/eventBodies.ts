/**
 * Bodies that wait for events and for answers to tokens.
 */
import { setTimeout as delay } from "node:timers/promises"
import * as Result from "effect/Result"
import type { StepInfo } from "../../src/promise/step.ts"
import { reservedPrefix } from "../../src/Name.ts"
import * as Payload from "../../src/Payload.ts"
import { atFastClock, type Program, program } from "./replay.ts"
import type { World } from "./world.ts"

const never = "1 day"

/** As `engine.sendEvent` would, from a step: which may run again, so the id is the step's. */
const send = (world: World, info: StepInfo, name: string, payload: unknown, id = "") => {
  const encoded = Result.getOrThrow(Payload.encode(payload, { field: "payload" }))
  const event = {
    workflowRunId: info.workflowRunId,
    name,
    payload: encoded,
    id: id || info.idempotencyKey,
  }
  return atFastClock(world.handle.store.sendEvents([event]))
}

export const eventBodies: ReadonlyArray<Program> = [
  program(
    "events that came early, in order",
    async ({ ctx, world }) => {
      await ctx.step("send", (info) => {
        for (const n of [1, 2, 3]) send(world, info, "go", n, `${info.idempotencyKey}:${n}`)
        send(world, info, "other", "x")
      })
      const other = await ctx.waitForEvent<string>("other")
      const seen: Array<unknown> = [other.payload]
      for (let i = 0; i < 3; i++) seen.push((await ctx.waitForEvent("go")).payload)
      const none = await ctx.waitForEvent("go", { timeout: "300 ms" })
      return [...seen, none.timedOut]
    },
    { result: ["x", 1, 2, 3, true] },
  ),

  program(
    "a wait in vain, and one that is not",
    async ({ ctx, world, note }) => {
      const first = await ctx.waitForEvent("go", { timeout: "900 ms" })
      note("first", first.timedOut)
      const [second] = await Promise.all([
        ctx.waitForEvent("go", { timeout: never }),
        ctx.step("send", (info) => send(world, info, "go", { a: [1] })),
      ])
      note("second", second.timedOut)
      return [first, second]
    },
    { result: [{ timedOut: true }, { timedOut: false, payload: { a: [1] } }] },
  ),

  program(
    "a race between an event and a sleep",
    async ({ ctx, world, note }) => {
      await ctx.step("send", (info) => send(world, info, "go", undefined))
      const winner = await Promise.race([
        ctx.waitForEvent("go", { timeout: never }).then(() => "event"),
        ctx.sleep("patience", "800 ms").then(() => "sleep"),
      ])
      note("race", winner)
      return [winner, await ctx.step(`after ${winner}`, () => winner)]
    },
    { anyEnd: true },
  ),

  program(
    "waits for one name at once are served in the order in which they began",
    async ({ ctx, world }) => {
      const waits = [1, 2, 3].map(() => ctx.waitForEvent<number>("go"))
      await ctx.step("send", async (info) => {
        for (const n of [1, 2, 3]) {
          send(world, info, "go", n, `${info.idempotencyKey}:${n}`)
          await delay(2)
        }
      })
      return (await Promise.all(waits)).map((one) => one.payload)
    },
    { result: [1, 2, 3] },
  ),

  program(
    "a token that is waited for twice",
    async ({ ctx, world, note }) => {
      const token = await ctx.token("approval")
      note("token", token)
      const early = await ctx.waitForToken(token, { timeout: "700 ms" })
      const name = `${reservedPrefix}token:approval`
      await ctx.step("resolve", (info) => {
        send(world, info, name, "yes", name)
        send(world, info, name, "no", name)
      })
      const answer = await ctx.waitForToken<string>(token, { timeout: never })
      const again = await ctx.waitForToken(token).catch((error: Error) => error.message)
      return [early.timedOut, answer, again]
    },
    {
      result: [
        true,
        { timedOut: false, payload: "yes" },
        'token: "approval": its answer was given already',
      ],
    },
  ),
]
