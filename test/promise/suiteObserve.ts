/** Hooks, listeners of events, health. */
import { describe, expect, it } from "vitest"
import {
  defineWorkflow,
  type EmittedEvent,
  type HookEvent,
  type HookName,
} from "../../src/index.ts"
import { type Backend, refusal, until, useRig } from "./rig.ts"

const hookNames: ReadonlyArray<HookName> = [
  "workflow:started",
  "workflow:completed",
  "workflow:failed",
  "workflow:compensated",
  "step:started",
  "step:completed",
  "step:failed",
]

export const observeSuite = (backend: Backend): void => {
  const rig = useRig(backend)

  describe("hooks", () => {
    it("tell what happens to a run and its steps, in order", async () => {
      const workflow = defineWorkflow(rig.name("hooked"), async (ctx) => {
        await ctx.step("flaky", {
          run: ({ attempt }) => {
            if (attempt === 1) throw new Error("again")
            return attempt
          },
          retry: { maxAttempts: 2, initialDelayMs: 1 },
        })
        return "end"
      })
      const engine = await rig.started([workflow])
      const heard: Array<HookEvent> = []
      for (const name of hookNames) engine.hook(name, (event) => heard.push(event))
      const handle = await engine.trigger(workflow)
      await handle.result()
      await until(() => heard.at(-1)?.type === "workflow:completed")
      expect(heard.map((event) => event.type)).toEqual([
        "workflow:started",
        "step:started",
        "step:failed",
        "step:started",
        "step:completed",
        "workflow:completed",
      ])
      const base = { workflowRunId: handle.workflowRunId, workflow: workflow.name, attempt: 1 }
      expect(heard[0]).toEqual({ ...base, type: "workflow:started" })
      expect(heard[2]).toMatchObject({
        ...base,
        step: "flaky",
        stepAttempt: 1,
        willRetry: true,
        error: { message: "again" },
      })
      expect(heard[4]).toMatchObject({ step: "flaky", stepAttempt: 2 })
      expect(heard[5]).toEqual({ ...base, type: "workflow:completed", result: "end" })
    })

    it("tell a failure, and a compensation", async () => {
      const failing = defineWorkflow(rig.name("failing"), () => {
        throw new Error("failed")
      })
      const saga = defineWorkflow(rig.name("saga"), async (ctx) => {
        await ctx.step("a", { run: () => 1, compensate: () => undefined })
        throw new Error("undone")
      })
      const engine = await rig.started([failing, saga])
      const heard: Array<HookEvent> = []
      for (const name of hookNames.filter((one) => one.startsWith("workflow:"))) {
        engine.hook(name, (event) => heard.push(event))
      }
      await (await engine.trigger(failing)).result().catch(() => undefined)
      await (await engine.trigger(saga)).result().catch(() => undefined)
      await until(() => heard.length >= 4)
      expect(heard.map(({ type, error }) => [type, (error as Error | undefined)?.message])).toEqual(
        [
          ["workflow:started", undefined],
          ["workflow:failed", "failed"],
          ["workflow:started", undefined],
          ["workflow:compensated", "undone"],
        ],
      )
      expect(heard[1]).toMatchObject({ willRetry: false })
    })

    it("tell of an attempt that will be followed by another", async () => {
      const workflow = defineWorkflow(rig.name("attempts"), (ctx) => {
        if (ctx.attempt === 1) throw new Error("first")
      })
      const engine = await rig.started([workflow])
      const heard: Array<HookEvent> = []
      engine.hook("workflow:failed", (event) => heard.push(event))
      await (await engine.trigger(workflow, { maxAttempts: 2 })).result()
      expect(heard).toMatchObject([{ attempt: 1, willRetry: true, error: { message: "first" } }])
    })

    it("that are unhooked hear nothing, and the others still do", async () => {
      const workflow = defineWorkflow(rig.name("unhooked"), async (ctx) => {
        await ctx.step("a", () => 1)
      })
      const engine = await rig.started([workflow])
      const gone: Array<HookEvent> = []
      const stayed: Array<HookEvent> = []
      const listener = (event: HookEvent) => gone.push(event)
      for (const name of hookNames) {
        engine.hook(name, listener)
        engine.hook(name, (event) => stayed.push(event))
        engine.unhook(name, listener)
      }
      await (await engine.trigger(workflow)).result()
      await until(() => stayed.length === 4)
      expect(gone).toEqual([])
    })

    it("that throw or reject harm nobody, and are reported", async () => {
      rig.allowWarnings()
      const workflow = defineWorkflow(rig.name("thrower"), async (ctx) =>
        ctx.step("a", () => "fine"),
      )
      const engine = await rig.started([workflow])
      for (const name of hookNames) {
        engine.hook(name, () => {
          throw new Error(`thrown by ${name}`)
        })
        engine.hook(name, async () => {
          throw new Error(`rejected by ${name}`)
        })
      }
      expect(await (await engine.trigger(workflow)).result()).toBe("fine")
      await until(() => rig.warnings.length === 8)
      expect(rig.warnings.every((line) => line.includes("hook"))).toBe(true)
    })
  })

  describe("listeners", () => {
    const emitter = () =>
      defineWorkflow(rig.name("emitter"), async (ctx, input: string) => {
        await ctx.emit("progress", { input, part: 1 })
        await ctx.step("work", () => undefined)
        await ctx.emit("progress", { input, part: 2 })
        await ctx.emit("done", new Map([["input", input]]))
      })

    it("hear what a body emitted and did not wait for, however it ended", async () => {
      const ends = {
        returns: () => undefined,
        throws: () => {
          throw new Error("thrown")
        },
      }
      for (const [how, end] of Object.entries(ends)) {
        const workflow = defineWorkflow(rig.name(how), async (ctx) => {
          await ctx.step("undone", { run: () => 1, compensate: () => undefined })
          void ctx.emit("one")
          void ctx.emit("two")
          end()
        })
        const engine = await rig.started([workflow])
        const handle = await engine.trigger(workflow)
        await handle.result().catch(() => undefined)
        const events = await engine.getEvents(handle.workflowRunId)
        expect(events.map(({ event }) => event)).toEqual(["one", "two"])
      }
    })

    it("that are there before the trigger miss nothing, in the order of emission", async () => {
      const workflow = emitter()
      const engine = await rig.started([workflow])
      const all: Array<EmittedEvent> = []
      const done: Array<EmittedEvent> = []
      engine.onAny((event) => all.push(event))
      engine.on("done", (event) => done.push(event))
      const handle = await engine.trigger(workflow, { input: "x" })
      await until(() => all.length === 3)
      expect(done).toEqual([all[2]])
      expect(all.map(({ event, data }) => [event, data])).toEqual([
        ["progress", { input: "x", part: 1 }],
        ["progress", { input: "x", part: 2 }],
        ["done", new Map([["input", "x"]])],
      ])
      expect(all[0]).toMatchObject({ workflowRunId: handle.workflowRunId, at: expect.any(Date) })
      expect(await engine.getEvents(handle.workflowRunId)).toEqual(all)
    })

    it("on an engine that never starts hear what another engine's runs emit", async () => {
      const workflow = emitter()
      const worker = await rig.started([workflow])
      const listening = rig.engine([workflow])
      const heard: Array<string> = []
      listening.onAny((event) => heard.push(event.event))
      const handle = await listening.trigger(workflow, { input: "y" })
      await handle.result()
      await until(() => heard.length === 3)
      expect(heard).toEqual(["progress", "progress", "done"])
      await worker.stop()
    })

    it("that were taken away hear nothing more", async () => {
      const workflow = emitter()
      const engine = await rig.started([workflow])
      const gone: Array<EmittedEvent> = []
      const stayed: Array<EmittedEvent> = []
      const stop = engine.onAny((event) => gone.push(event))
      engine.onAny((event) => stayed.push(event))
      stop()
      await (await engine.trigger(workflow, { input: "z" })).result()
      await until(() => stayed.length === 3)
      expect(gone).toEqual([])
    })

    it("come and go without losing what is emitted while one is there", async () => {
      const workflow = emitter()
      const engine = await rig.started([workflow])
      for (let round = 0; round < 5; round++) {
        const heard: Array<EmittedEvent> = []
        const stop = engine.on("done", (event) => heard.push(event))
        const handle = await engine.trigger(workflow, { input: String(round) })
        const mine = () => heard.some((event) => event.workflowRunId === handle.workflowRunId)
        await until(mine)
        stop()
      }
    })

    it("that throw or reject harm nobody, and are reported", async () => {
      rig.allowWarnings()
      const workflow = emitter()
      const engine = await rig.started([workflow])
      const heard: Array<string> = []
      engine.onAny(() => {
        throw new Error("thrown")
      })
      engine.onAny(async () => {
        throw new Error("rejected")
      })
      engine.onAny((event) => heard.push(event.event))
      await (await engine.trigger(workflow, { input: "x" })).result()
      await until(() => heard.length === 3 && rig.warnings.length === 6)
    })
  })

  describe("healthCheck", () => {
    it("is healthy without a worker, with one, and tells what the worker does", async () => {
      const gate = Promise.withResolvers<void>()
      const workflow = defineWorkflow(rig.name("busy"), (ctx) => ctx.step("a", () => gate.promise))
      const idle = rig.engine([workflow])
      expect(await idle.healthCheck()).toEqual({
        healthy: true,
        store: { ok: true, latencyMs: expect.any(Number) },
        worker: null,
      })
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      expect(
        await until(async () => {
          const health = await engine.healthCheck()
          return health.worker?.running === 1 && health
        }),
      ).toMatchObject({
        healthy: true,
        worker: { running: 1, maxConcurrent: 10, leaseTrusted: true, unhealthy: [] },
      })
      gate.resolve()
      await handle.result()
    })

    it("of a stopped engine is unhealthy, and does not reject", async () => {
      const engine = await rig.started([])
      await engine.stop()
      expect(await engine.healthCheck()).toMatchObject({ healthy: false, store: { ok: false } })
    })
  })

  describe("a logger", () => {
    it("is any object with four methods, and hears no payload", async () => {
      const workflow = defineWorkflow(rig.name("secret"), async (ctx, input: string) => {
        await ctx.step("fails", () => {
          throw new Error(`refused ${input}`)
        })
      })
      const lines: Array<string> = []
      const note = (message: string) => void lines.push(message)
      const logger = { debug: note, info: note, warn: note, error: note }
      const engine = await rig.started([workflow], { logger })
      await refusal((await engine.trigger(workflow, { input: "hunter2" })).result())
      await engine.stop()
      expect(lines.filter((line) => line.includes("hunter2"))).toEqual([])
    })
  })
}
