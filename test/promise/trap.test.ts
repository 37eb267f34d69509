/** The trap of development: what a body calls outside a step is told, with its line, once. */
import { randomUUID } from "node:crypto"
import { setTimeout as delay } from "node:timers/promises"
import { afterEach, describe, expect, it, vi } from "vitest"
import {
  defineWorkflow,
  DurableEngine,
  type DurableEngineOptions,
  MemoryWorkflowStore,
  type WorkflowContext,
} from "../../src/index.ts"
import { thrown } from "./rig.ts"

const engines = new Set<DurableEngine>()
afterEach(async () => {
  await Promise.all([...engines].map((engine) => engine.stop()))
  engines.clear()
})

const started = async (
  body: (ctx: WorkflowContext) => unknown,
  options: Pick<DurableEngineOptions, "development"> = { development: true },
  store = new MemoryWorkflowStore(),
) => {
  const told: Array<string> = []
  const tell = (message: string) => void told.push(message)
  const workflow = defineWorkflow<undefined, any>("trapped", (ctx) => body(ctx))
  const engine = new DurableEngine({
    workflows: [workflow],
    ...options,
    logger: { debug: () => undefined, info: () => undefined, warn: tell, error: tell },
    worker: { pollIntervalMs: 20, shutdownTimeoutMs: 20 },
  })
  engine.setStore(store)
  engines.add(engine)
  await engine.start()
  const run = async () => (await engine.trigger(workflow)).result()
  return { engine, workflow, told, run }
}

/** The line of this file that a call stands in, some lines behind the present one. */
const lineOf = (error: Error): number => Number(/trap\.test\.ts:(\d+)/.exec(error.stack ?? "")?.[1])

const calls: ReadonlyArray<readonly [what: string, instead: string, call: () => unknown]> = [
  ["Date.now()", "ctx.now()", () => Date.now()],
  ["new Date()", "ctx.now()", () => new Date()],
  ["Math.random()", "ctx.random()", () => Math.random()],
  ["crypto.randomUUID()", "ctx.uuid()", () => crypto.randomUUID()],
  ["crypto.randomUUID()", "ctx.uuid()", () => randomUUID()],
  ["setTimeout()", "ctx.sleep", () => clearTimeout(setTimeout(() => undefined, 1))],
  ["setInterval()", "ctx.sleep", () => clearInterval(setInterval(() => undefined, 1))],
  ["setImmediate()", "ctx.sleep", () => clearImmediate(setImmediate(() => undefined))],
  ["fetch()", "ctx.step", () => fetch("data:text/plain,x").then(() => undefined)],
]

describe("a trap", () => {
  it.each(calls)("tells of %s in a body, and what to use: %s", async (what, instead, call) => {
    const { told, run } = await started(async (ctx) => {
      await ctx.step("before", () => 1)
      await call()
    })
    await run()
    expect(told).toEqual([expect.stringContaining(`workflow "trapped" calls ${what} outside`)])
    expect(told[0]).toContain(instead)
    expect(told[0]).toMatch(/ at \S*test\/promise\/trap\.test\.ts:\d+:\d+:/)
  })

  it("names the line, once for each place, however often it is called and replayed", async () => {
    const lines: Array<number> = []
    const body = async (ctx: WorkflowContext) => {
      for (let i = 0; i < 3; i++) {
        lines.push(lineOf(new Error("here")) + 1)
        Math.random()
        await ctx.sleep("nap", 30)
      }
      lines.push(lineOf(new Error("here")) + 1)
      Math.random()
    }
    const { told, run } = await started(body)
    await run()
    await run()
    const told2 = told.map((one) => Number(/trap\.test\.ts:(\d+)/.exec(one)?.[1]))
    expect(told2).toEqual([...new Set(lines)])
  })

  it("says nothing of steps, undos, side effects, and of what ctx does itself", async () => {
    const store = new MemoryWorkflowStore()
    const noise = async () => {
      for (const [, , call] of calls) await call()
      await delay(1)
      for (const [, , call] of calls) await call()
    }
    const { told, run } = await started(
      async (ctx) => {
        const branch = async (name: string) => {
          await ctx.step(name, { run: noise, compensate: noise, retry: { maxAttempts: 2 } })
          await ctx.sideEffect(name, noise)
          await ctx.sleep(name, 20)
          await ctx.emit(name, new Date(0))
          return [ctx.now(), ctx.random(), ctx.uuid(), await ctx.patched(name)]
        }
        await Promise.all([branch("a"), branch("b")])
        await Promise.race([branch("c"), ctx.sleepUntil("d", new Date(Date.UTC(2020, 1)))])
        await ctx.step("fails", () => Promise.reject(new Error("undo all")))
      },
      { development: true },
      store,
    )
    await run().catch(() => undefined)
    expect(told).toEqual([])
  })

  it("refuses what a step asks of ctx, wherever it asks", async () => {
    const { run } = await started(async (ctx) => {
      const outer = async (name: string) => {
        await delay(1)
        return ctx.step(name, () => 1)
      }
      const refused = await ctx.step("outer", () => outer("inner")).catch((error) => error.message)
      return [refused, await outer("later")]
    })
    const refusal = expect.stringMatching(/^ctx: is not for step "outer": a replay would not ask/)
    expect(await run()).toEqual([refusal, 1])
  })

  it("lets a run ask that a step of another one has started, or woken", async () => {
    const store = new MemoryWorkflowStore()
    const other = await started((ctx) => ctx.step("a", () => 1), { development: true }, store)
    const { run } = await started((ctx) => ctx.step("other", () => other.run()))
    expect(await run()).toBe(1)
  })

  it("says nothing outside of bodies: callers, hooks, listeners", async () => {
    const { engine, told, run } = await started((ctx) => ctx.emit("said"))
    const heard = Promise.withResolvers<void>()
    engine.hook("workflow:started", () => Math.random())
    engine.on("said", () => {
      Math.random()
      heard.resolve()
    })
    Math.random()
    await run()
    await heard.promise
    expect(told).toEqual([])
  })

  it('"throw" makes the call throw', async () => {
    const { run, told } = await started(() => Math.random(), { development: "throw" })
    const error = await run().catch((reason: unknown) => reason)
    expect(error).toMatchObject({
      code: "RunFailed",
      cause: { code: "NotDeterministic", message: expect.stringContaining("Math.random()") },
    })
    expect(told).toEqual([])
  })

  it("leaves values alone: a date is a date, a timer fires, in a body and elsewhere", async () => {
    const seen = async () => {
      const date = new Date()
      const fired = await new Promise((resolve) => setTimeout(resolve, 1, "fired"))
      class Later extends Date {}
      return [
        date instanceof Date,
        date.constructor === Date,
        new Date(5).getTime(),
        new Later(5) instanceof Later,
        typeof Date(),
        Date.UTC(2020, 0),
        fired,
        await (await fetch("data:text/plain,hello")).text(),
      ]
    }
    const expected = await seen()
    const { run } = await started(seen)
    expect(await run()).toEqual(expected)
    expect(await seen()).toEqual(expected)
  })

  it("is there by default in development, and nowhere else", async () => {
    try {
      for (const [environment, times] of [
        ["development", 1],
        ["production", 0],
        ["", 0],
      ] as const) {
        vi.stubEnv("NODE_ENV", environment)
        const { told, run, engine } = await started(() => Math.random(), {})
        await run()
        expect(told.length).toBe(times)
        await engine.stop()
      }
    } finally {
      vi.unstubAllEnvs()
    }
  })

  it("replaces nothing when it is off, and puts everything back when the last engine stops", async () => {
    const globals = () => [
      Date,
      Date.now,
      Date.prototype.constructor,
      Math.random,
      crypto.randomUUID,
      Object.hasOwn(crypto, "randomUUID"),
      randomUUID,
      setTimeout,
      setInterval,
      setImmediate,
      fetch,
    ]
    const before = globals()
    const off = await started(() => Math.random(), { development: false })
    expect(globals()).toEqual(before)
    expect(globals().every((one, i) => one === before[i])).toBe(true)
    await off.run()
    expect(off.told).toEqual([])
    const one = await started(() => undefined)
    const two = await started(() => undefined)
    expect(globals().filter((now, i) => now === before[i]).length).toBeLessThanOrEqual(1)
    await one.engine.stop()
    expect(Math.random === before[3]).toBe(false)
    await two.engine.stop()
    expect(globals().every((now, i) => now === before[i])).toBe(true)
  })

  it("puts everything back where the engine could not start", async () => {
    const before = [Date, Date.now, Math.random, setTimeout, fetch]
    const pool = {
      connect: () => Promise.reject(new Error("down")),
      on: () => undefined,
      removeListener: () => undefined,
    }
    const engine = new DurableEngine({ workflows: [], pool, development: true })
    engines.add(engine)
    await expect(engine.start()).rejects.toMatchObject({ code: "StoreUnavailable" })
    const after = [Date, Date.now, Math.random, setTimeout, fetch]
    expect(after.every((now, i) => now === before[i])).toBe(true)
  })

  it("refuses an option that is none", () => {
    const wrong = { workflows: [], development: "yes" as "throw" }
    expect(thrown(() => new DurableEngine(wrong))).toMatchObject({
      code: "InvalidInput",
      details: { field: "development" },
    })
  })
})
