/**
 * Bodies with children that are started now and awaited later, and with bounded fan-out.
 */
import { setTimeout as delay } from "node:timers/promises"
import { defineWorkflow } from "../../src/promise/workflow.ts"
import { type Body, type Program, program, watched } from "./replay.ts"
import type { World } from "./world.ts"

const child = (name: string, body: Body) => (world: World) => watched(name, world, body)
const called = (name: string) => defineWorkflow<any, any>(name, () => undefined)

export const childBodies: ReadonlyArray<Program> = [
  program(
    "children that are started, and awaited later",
    async ({ ctx, note }) => {
      const a = await ctx.startChild(called("square"), 3)
      const b = await ctx.startChild(called("square"), 4)
      note("ids", [a.workflowRunId, b.workflowRunId])
      const between = await ctx.step("between", () => delay(2, "between"))
      const second = await b.result()
      return [between, await a.result(), second, await b.result()]
    },
    {
      result: ["between", 9, 16, 16],
      children: [
        child("square", async ({ ctx }, n: number) => ctx.step("work", () => delay(3, n * n))),
      ],
    },
  ),

  program(
    "a started child that fails, in a run that is tried again",
    async ({ ctx }) => {
      const started = await ctx.startChild(called("flaky"), null)
      await ctx.step("between", () => delay(1, 1))
      return started.result()
    },
    {
      maxAttempts: 3,
      attempts: 2,
      result: "at last",
      children: [
        child("flaky", async ({ ctx, world }) =>
          ctx.step("work", () => {
            world.fails("flaky", 1)
            return "at last"
          }),
        ),
      ],
    },
  ),

  program(
    "a bounded fan-out over steps",
    async ({ ctx, note }) => {
      const doubled = await ctx.map(
        [5, 1, 4, 2, 3, 1],
        async (ms, index) => {
          const first = await ctx.step(`wait ${index}`, () => delay(ms, ms))
          return ctx.step("double", () => delay(1, first * 2))
        },
        { concurrency: 2 },
      )
      note("doubled", doubled)
      return [doubled, await ctx.step("after", () => 1)]
    },
    { result: [[10, 2, 8, 4, 6, 2], 1] },
  ),

  program(
    "a bounded fan-out over children, of which one fails",
    async ({ ctx, note }) => {
      const failure = await ctx
        .map([1, 2, 3, 4, 5, 6], (n) => ctx.child(called("odd"), n, { name: `child ${n}` }), {
          concurrency: 2,
        })
        .catch((error: { code?: string }) => error.code)
      note("failure", failure)
      return [failure, await ctx.step("after", () => 1)]
    },
    {
      result: ["ChildFailed", 1],
      children: [
        child("odd", async ({ ctx }, n: number) =>
          ctx.step("work", async () => {
            await delay(1)
            if (n === 3) throw new Error("three")
            return n
          }),
        ),
      ],
    },
  ),
]
