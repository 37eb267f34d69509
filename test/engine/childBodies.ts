/**
 * Bodies with children: awaited where they are called, or started now and awaited later; and with
 * bounded fan-out.
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

export const calledBodies: ReadonlyArray<Program> = [
  program(
    "a child",
    async ({ ctx }) => {
      const a = await ctx.step("a", () => 20)
      const doubled = await ctx.workflow(called("double"), a)
      return [doubled, await ctx.step("b", () => doubled + 1)]
    },
    {
      result: [40, 41],
      children: [
        child("double", async ({ ctx }, n: number) => {
          await ctx.sleep("think", "1500 ms")
          return ctx.step("double", () => n * 2)
        }),
      ],
    },
  ),

  program(
    "a child that fails, and is caught",
    async ({ ctx, note }) => {
      const message = await ctx.workflow(called("fails"), 1).catch((error: Error) => {
        note("cause", (error.cause as Error).message)
        return (error.cause as Error).message
      })
      return [message, await ctx.step("after", () => "B")]
    },
    {
      result: ["the child gave up", "B"],
      children: [
        child("fails", async ({ ctx }) => {
          await ctx.step("c", () => "C")
          throw new Error("the child gave up")
        }),
      ],
    },
  ),

  program(
    "children in parallel, of the same name",
    async ({ ctx }) => {
      const sizes = await Promise.all([3, 1, 2].map((n) => ctx.workflow(called("size"), n)))
      return [sizes, await ctx.workflow(called("size"), 9, { name: "another" })]
    },
    {
      result: [[3, 1, 2], 9],
      children: [
        child("size", async ({ ctx }, n: number) => {
          for (let i = 0; i < n; i++) await ctx.step("count", () => i)
          return n
        }),
      ],
    },
  ),

  program(
    "a grandchild",
    async ({ ctx }) => {
      const value = await ctx.workflow(called("middle"), 1)
      return [value, await ctx.step("end", () => "end")]
    },
    {
      result: [20, "end"],
      children: [
        child("middle", async ({ ctx }, n: number) => {
          await ctx.step("m", () => n)
          const below = await ctx.workflow(called("leaf"), n + 1)
          return ctx.step("m", () => below * 10)
        }),
        child("leaf", async ({ ctx }, n: number) => {
          await ctx.sleep("nap", "800 ms")
          return ctx.step("leaf", () => n)
        }),
      ],
    },
  ),

  program(
    "a failed child of a run that is retried",
    async ({ ctx, world }) => {
      const a = await ctx.step("a", () => "A")
      const seen = await ctx
        .workflow(called("shaky child"), undefined)
        .catch(async (error: unknown) => {
          await ctx.step("note it", () => Promise.reject(new Error("not noted"))).catch(() => 0)
          throw error
        })
      return [a, seen, world.count("ends") > 0]
    },
    {
      attempts: 2,
      result: ["A", "C", true],
      maxAttempts: 3,
      children: [
        child("shaky child", ({ ctx, world }) =>
          ctx.step("c", () => {
            world.fails("c", 1)
            return "C"
          }),
        ),
      ],
    },
  ),

  program(
    "a child with a saga of its own",
    async ({ ctx }) => {
      await ctx.step("a", { run: () => 1, compensate: () => undefined })
      await ctx.workflow(called("inner"), 1)
    },
    {
      ends: "compensated",
      children: [
        child("inner", async ({ ctx }) => {
          await ctx.step("x", { run: () => 1, compensate: () => undefined })
          await ctx.step("y", { run: () => 1, compensate: () => undefined })
          throw new Error("inner")
        }),
      ],
    },
  ),
]
