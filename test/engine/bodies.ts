/**
 * Hand-written bodies: the shapes that people write, and those that break engines. Here those of
 * steps, sleeps, races and pure work; with those of other files they are `bodies`.
 */
import { setTimeout as delay } from "node:timers/promises"
import { promisify } from "node:util"
import { gunzip, gzip } from "node:zlib"
import type { StepInfo } from "../../src/promise/step.ts"
import { defineWorkflow } from "../../src/promise/workflow.ts"
import { calledBodies } from "./childBodies.ts"
import { eventBodies } from "./eventBodies.ts"
import { type Body, type Program, program, watched } from "./replay.ts"
import { retryBodies } from "./retryBodies.ts"
import { undoneBodies } from "./sagaBodies.ts"
import { transactionBodies } from "./transactionBodies.ts"
import type { World } from "./world.ts"

const child = (name: string, body: Body) => (world: World) => watched(name, world, body)

/** A definition to call a child by. */
const called = (name: string) => defineWorkflow<any, any>(name, () => undefined)

/** Does not end by itself. */
const hang = ({ signal }: StepInfo): Promise<never> =>
  new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true })
  })

/** Hundreds of turns of the event loop and of the thread pool, without any operation. */
const squeeze = async (text: string): Promise<number> => {
  const packed = await promisify(gzip)(text.repeat(2000))
  const again = await promisify(gunzip)(packed)
  return again.length
}

const turns = async (count: number): Promise<void> => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
}

const never = "1 day"

export const bodies: ReadonlyArray<Program> = [
  ...calledBodies,
  ...undoneBodies,
  ...eventBodies,
  ...transactionBodies,
  ...retryBodies,

  program(
    "steps one after another",
    async ({ ctx }) => {
      const a = await ctx.step("a", () => 1)
      const b = await ctx.step("b", () => a + 1)
      const c = await ctx.step("c", async () => b + 1)
      return [a, b, c]
    },
    { result: [1, 2, 3] },
  ),

  program(
    "steps of the same name in a loop",
    async ({ ctx }) => {
      const seen: Array<number> = []
      for (let i = 0; i < 5; i++) seen.push(await ctx.step("item", () => i * i))
      return seen
    },
    { result: [0, 1, 4, 9, 16] },
  ),

  program(
    "Promise.all over steps of the same name",
    async ({ ctx }) =>
      Promise.all([1, 2, 3, 4].map((n) => ctx.step("same", () => delay(8 - 2 * n, n)))),
    { result: [1, 2, 3, 4] },
  ),

  program(
    "Promise.all over steps and sleeps",
    async ({ ctx }) => {
      const all = await Promise.all([
        ctx.step("a", () => "A"),
        ctx.sleep("short", "200 ms"),
        ctx.step("b", () => delay(5, "B")),
        ctx.sleep("long", "2 seconds"),
      ])
      return [...all, await ctx.step("after", () => "C")]
    },
    { result: ["A", undefined, "B", undefined, "C"] },
  ),

  program(
    "a step that beats a sleep",
    async ({ ctx, note }) => {
      const winner = await Promise.race([
        ctx.step("fast", () => "step"),
        ctx.sleep("deadline", never).then(() => "sleep"),
      ])
      note("race", winner)
      return [winner, await ctx.step(`after ${winner}`, () => winner.length)]
    },
    { result: ["step", 4] },
  ),

  program(
    "a sleep that beats a step",
    async ({ ctx, note }) => {
      const winner = await Promise.race([
        ctx.step("slow", hang),
        ctx.sleep("deadline", "300 ms").then(() => "sleep"),
      ])
      note("race", winner)
      return [winner, await ctx.step(`after ${winner}`, () => winner.length)]
    },
    { result: ["sleep", 5] },
  ),

  program(
    "races of different depth",
    async ({ ctx, note }) => {
      const deep = async () => {
        const value = await ctx.step("deep", () => delay(2, "deep"))
        await Promise.resolve()
        await Promise.resolve().then(() => undefined)
        return value
      }
      const inner = () =>
        Promise.race([ctx.step("flat", () => delay(2, "flat")), deep(), ctx.sleep("never", never)])
      const winner = await Promise.race([inner().then((x) => x), ctx.sleep("never", never)])
      note("race", winner)
      const after = await ctx.step(`after ${winner}`, () => 1)
      const second = await Promise.race([
        deep(),
        ctx.step("flat", () => delay(1, "flat")),
        deep().then((x) => `${x}!`),
      ])
      note("second race", second)
      return [winner, after, second, await ctx.step(`end ${second}`, () => 2)]
    },
    { anyEnd: true },
  ),

  program(
    "a race whose loser is recorded too",
    async ({ ctx, note }) => {
      const a = ctx.step("a", () => delay(1, "a"))
      const b = ctx.step("b", () => delay(1, "b"))
      const winner = await Promise.race([a, b])
      note("race", winner)
      const c = await ctx.step(`c after ${winner}`, () => delay(3, "c"))
      return [winner, c, await b, await a, await ctx.step("end", () => "end")]
    },
    { anyEnd: true },
  ),

  program(
    "a race of three, in a loop",
    async ({ ctx, note }) => {
      const winners: Array<string> = []
      for (let i = 0; i < 4; i++) {
        const winner = await Promise.race(
          ["x", "y", "z"].map((name) => ctx.step(name, () => delay(1, name))),
        )
        note(`race ${i}`, winner)
        winners.push(winner)
        if (winner === "y") winners.push(await ctx.step("y won", () => "!"))
      }
      return winners
    },
    { anyEnd: true },
  ),

  program(
    "pure asynchronous work between steps",
    async ({ ctx }) => {
      const a = await ctx.step("a", () => "A")
      const size = await squeeze(a)
      const b = await ctx.step("b", () => size)
      await turns(220)
      const c = await ctx.step("c", () => b + 1)
      await delay(50)
      await ctx.sleep("nap", "2 seconds")
      const again = await squeeze("B")
      await ctx.sleep("again", "2 seconds")
      return [c, again, await ctx.step("d", () => "D")]
    },
    { result: [2001, 2000, "D"] },
  ),

  program(
    "pure asynchronous work beside an open wait",
    async ({ ctx }) => {
      const early = async () => {
        const size = await squeeze("early")
        return ctx.step("early", () => size)
      }
      const [size] = await Promise.all([early(), ctx.sleep("long", "4 seconds")])
      return size
    },
    { result: 10_000 },
  ),

  program(
    "steps that nobody awaits",
    async ({ ctx }) => {
      void ctx.step("forgotten", () => delay(3, 1))
      const a = await ctx.step("a", () => delay(6, "A"))
      void ctx.step("forgotten too", () => delay(30, 1))
      void ctx.step("and failing", () => Promise.reject(new Error("unheard")))
      return [a, await ctx.step("b", () => delay(6, "B"))]
    },
    { result: ["A", "B"] },
  ),

  program("an emit that nobody awaits", async ({ ctx }) => {
    void ctx.emit("begun", { at: 1 })
    const a = await ctx.step("a", () => "A")
    void ctx.emit("ended", { at: 2 })
    return a
  }),

  program(
    "emits that nobody awaits, before a throw that is retried",
    async ({ ctx, world }) => {
      await ctx.step("a", () => "A")
      void ctx.emit("tried")
      await ctx
        .step("shaky", () => world.fails("shaky", 1))
        .catch((error) => {
          void ctx.emit("failing")
          throw error
        })
      return "done"
    },
    { attempts: 2, maxAttempts: 3, result: "done" },
  ),

  program("events between steps", async ({ ctx }) => {
    for (let i = 0; i < 3; i++) {
      await ctx.emit("progress", i)
      await ctx.step("work", () => i)
    }
    return "done"
  }),

  program(
    "allSettled over what fails and what does not",
    async ({ ctx }) => {
      const all = await Promise.allSettled([
        ctx.step("good", () => delay(4, "good")),
        ctx.step("bad", () => Promise.reject(new Error("bad"))),
        ctx.sleep("nap", "1500 ms"),
        ctx.workflow(called("fails"), undefined),
      ])
      return all.map((one) =>
        one.status === "fulfilled" ? one.value : (one.reason as Error).message.split("(")[0],
      )
    },
    {
      result: ["good", "bad", undefined, 'child "fails" '],
      children: [child("fails", ({ ctx }) => ctx.step("c", () => Promise.reject(new Error("no"))))],
    },
  ),

  program(
    "side effects",
    async ({ ctx, note }) => {
      const id = await ctx.sideEffect("id", () => Math.random())
      note("id", id)
      const now = await ctx.sideEffect("now", () => Date.now())
      note("now", now)
      await ctx.step(id < 0.5 ? "low" : "high", () => 1)
      await ctx.sleep("nap", "1 second")
      return [id, now]
    },
    { anyEnd: true },
  ),

  program(
    "a step in a finally",
    async ({ ctx }) => {
      const log: Array<string> = []
      try {
        log.push(await ctx.step("try", () => "try"))
        await ctx.step("fail", () => Promise.reject(new Error("failed")))
      } catch {
        log.push(await ctx.step("catch", () => "catch"))
      } finally {
        log.push(await ctx.step("finally", () => "finally"))
      }
      return log
    },
    { result: ["try", "catch", "finally"] },
  ),

  program(
    "a step in a finally of a run that fails",
    async ({ ctx }) => {
      try {
        await ctx.step("a", () => 1)
        await ctx.step("fail", () => Promise.reject(new Error("failed")))
      } finally {
        await ctx.step("finally", () => "finally")
      }
    },
    { ends: "failed" },
  ),

  program(
    "a step that times out",
    async ({ ctx, note }) => {
      const outcome = await ctx
        .step("slow", { run: hang, timeoutMs: 200, retry: { maxAttempts: 2, initialDelayMs: 50 } })
        .catch((error: unknown) => (error as { code: string }).code)
      note("outcome", outcome)
      return [outcome, await ctx.step("after", () => "B")]
    },
    { result: ["StepTimeout", "B"] },
  ),

  program(
    "thrown text, nothing, and many errors",
    async ({ ctx }) => {
      const fail = (name: string, error: unknown) => ctx.step(name, () => Promise.reject(error))
      const text = await fail("text", "just text").catch((error: unknown) => error)
      const nothing = await fail("nothing", undefined).catch(
        (error: unknown) => error === undefined,
      )
      const many = await Promise.any([fail("x", new Error("x")), fail("y", "y")]).catch(
        (error: AggregateError) => error.errors.map((one) => (one as Error).message ?? one),
      )
      const stored = await fail("all", new AggregateError([new TypeError("t"), 7], "all")).catch(
        (error: AggregateError) => [error.message, ...error.errors.map(String)],
      )
      return [text, nothing, many, stored, await ctx.step("after", () => 1)]
    },
    { result: ["just text", true, ["x", "y"], ["all", "TypeError: t", "7"], 1] },
  ),

  program(
    "the first of any",
    async ({ ctx, note }) => {
      const first = await Promise.any([
        ctx.step("bad", () => Promise.reject(new Error("bad"))),
        ctx.step("good", () => delay(5, "good")),
        ctx.step("slow", hang),
      ])
      note("any", first)
      return [first, await ctx.step("after", () => 1)]
    },
    { result: ["good", 1] },
  ),

  program(
    "a fan-out of a hundred",
    async ({ ctx }) => {
      const width = await ctx.step("width", () => 100)
      const all = await Promise.all(
        Array.from({ length: width }, (_, i) => ctx.step(`part ${i % 10}`, () => i)),
      )
      return all.reduce((sum, n) => sum + n, 0)
    },
    { result: 4950 },
  ),

  program("rich values", async ({ ctx }) => {
    const value = await ctx.step("rich", () => ({
      date: new Date(0),
      map: new Map<string, unknown>([["big", 2n ** 70n]]),
      set: new Set([undefined, Number.NaN, -0, Infinity]),
      bytes: new Uint8Array([1, 2, 3]),
      url: new URL("https://example.com/?q=1"),
      nothing: undefined,
      list: [undefined, null],
    }))
    const none = await ctx.step("nothing", () => undefined)
    const nan = await ctx.step("nan", () => Number.NaN)
    const checks = [
      value.date instanceof Date && value.date.getTime() === 0,
      value.map.get("big") === 2n ** 70n,
      value.set.has(undefined) && value.set.has(Number.NaN) && value.set.has(Infinity),
      value.bytes instanceof Uint8Array && value.url instanceof URL,
      "nothing" in value && value.nothing === undefined,
      none === undefined,
      Number.isNaN(nan),
    ]
    return [checks, value, none, nan, await ctx.step("after", () => checks.every(Boolean))]
  }),

  program(
    "sleeps that are over before they begin",
    async ({ ctx }) => {
      await ctx.sleepUntil("past", new Date(0))
      await ctx.sleep("zero", 0)
      await Promise.all([ctx.sleep("zero", 0), ctx.sleepUntil("past", new Date(5))])
      return ctx.step("after", () => "awake")
    },
    { result: "awake" },
  ),

  program(
    "sleeps in a loop, and a sleep until",
    async ({ ctx }) => {
      for (let i = 0; i < 3; i++) {
        await ctx.sleep("tick", i === 1 ? "1200 ms" : "100 ms")
        await ctx.step("tock", () => i)
      }
      const at = await ctx.sideEffect("at", () => Date.now())
      await ctx.sleepUntil("soon", new Date(Math.min(at, 0)))
      return "rung"
    },
    { result: "rung" },
  ),

  program(
    "a saga behind pure asynchronous work",
    async ({ ctx }) => {
      await ctx.step("a", { run: () => 1, compensate: () => undefined })
      await squeeze("x")
      await ctx.step("b", { run: () => 2, compensate: () => undefined })
      await turns(200)
      await ctx.step("c", { run: () => 3, compensate: () => undefined })
      throw new Error("enough")
    },
    { ends: "compensated" },
  ),

  program(
    "nested loops, branches, and a value that decides",
    async ({ ctx, note }) => {
      const log: Array<string> = []
      for (let i = 0; i < 3; i++) {
        const kind = await ctx.step("kind", () => ["even", "odd"][i % 2])
        note(`kind ${i}`, kind)
        if (kind === "odd") await ctx.sleep("odd nap", "700 ms")
        const parts = await Promise.all(
          [0, 1].map((j) => ctx.step(`${kind} part`, () => i * 10 + j)),
        )
        log.push(`${kind}:${parts.join("+")}`)
      }
      return log
    },
    { result: ["even:0+1", "odd:10+11", "even:20+21"] },
  ),

  program(
    "names that look like keys",
    async ({ ctx }) => [
      await ctx.step("a#2", () => "literal"),
      await ctx.step("a", () => "first"),
      await ctx.step("a", () => "second"),
      await ctx.step("a#2", () => "literal again"),
    ],
    { result: ["literal", "first", "second", "literal again"] },
  ),
]
