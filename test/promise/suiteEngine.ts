/** The engine itself: setup, bad input at the earliest moment, starting and stopping. */
import { describe, expect, it } from "vitest"
import {
  type AnyWorkflow,
  defineWorkflow,
  DurableEngine,
  type DurableEngineOptions,
  MemoryWorkflowStore,
} from "../../src/index.ts"
import { aborted, type Backend, refusal, thrown, until, useRig } from "./rig.ts"

const noop = defineWorkflow("noop", () => undefined)

export const engineSuite = (backend: Backend): void => {
  const rig = useRig(backend)

  describe("defineWorkflow", () => {
    it.each([
      ["an empty name", "", "must not be empty"],
      ["a name of 256 characters", "x".repeat(256), "more than the limit of 255"],
      ["NUL in a name", "a\0b", "NUL"],
      ["a number for a name", 7 as never, "must be text"],
    ])("refuses %s", (_, name, says) => {
      const error = thrown(() => defineWorkflow(name, () => 1))
      expect(error.code).toBe("InvalidInput")
      expect(error.message).toContain("workflow name")
      expect(error.message).toContain(says)
    })

    it("refuses what is no function, and what is no schema", () => {
      expect(thrown(() => defineWorkflow("a", "no" as never)).code).toBe("InvalidInput")
      expect(thrown(() => defineWorkflow("a", () => 1, { input: {} as never })).code).toBe(
        "InvalidInput",
      )
    })

    it("takes a name of 255 characters", async () => {
      const workflow = defineWorkflow(rig.name("n").padEnd(255, "x"), (ctx) =>
        ctx.step("s".repeat(255), () => 1),
      )
      const engine = await rig.started([workflow])
      expect(await (await engine.trigger(workflow)).result()).toBe(1)
    })
  })

  describe("the constructor", () => {
    const make = (options: Partial<Record<keyof DurableEngineOptions, unknown>>) =>
      thrown(() => new DurableEngine({ workflows: [], ...options } as DurableEngineOptions))

    it("refuses two workflows of one name", () => {
      const twin = defineWorkflow("noop", () => undefined)
      expect(make({ workflows: [noop, twin] })).toMatchObject({
        code: "DuplicateWorkflow",
        message: expect.stringContaining('"noop"'),
      })
    })

    it.each([
      ["schema", { schema: "Upper" }],
      ["schema", { schema: 'x"; drop table' }],
      ["schema", { schema: "a.b" }],
      ["schema", { schema: "" }],
      ["schema", { schema: "x".repeat(49) }],
      ["schema", { schema: "pg_catalog" }],
      ["schema", { schema: 7 }],
      ["pool", { pool: { connect: () => undefined }, url: "postgres://localhost/db" }],
      ["pool", { pool: {} }],
      ["pool", { pool: "postgres://localhost/db" }],
      ["url", { url: "" }],
      ["url", { url: "localhost:5432" }],
      ["url", { url: "mysql://localhost/db" }],
      ["workflows", { workflows: undefined }],
      ["workflows", { workflows: [undefined] }],
      ["workflows", { workflows: [() => 1] }],
      ["worker.pollIntervalMs", { worker: { pollIntervalMs: 0 } }],
      ["worker.pollIntervalMs", { worker: { pollIntervalMs: NaN } }],
      ["worker.maxConcurrent", { worker: { maxConcurrent: 0 } }],
      ["worker.maxConcurrent", { worker: { maxConcurrent: 1.5 } }],
      ["worker.maxConcurrent", { worker: { maxConcurrent: Infinity } }],
      ["worker.leaseMs", { worker: { leaseMs: 999 } }],
      ["worker.leaseMs", { worker: { leaseMs: "30000" } }],
      ["worker.shutdownTimeoutMs", { worker: { shutdownTimeoutMs: -1 } }],
      ["worker.maxCrashes", { worker: { maxCrashes: 0 } }],
      ["worker.workerId", { worker: { workerId: 5 } }],
      ["worker.workerId", { worker: { workerId: "x".repeat(256) } }],
    ])("refuses a bad %s: %j", (field, options) => {
      const error = make(options)
      expect(error).toMatchObject({ code: "InvalidInput", retryable: false })
      expect(error.message).toContain(field)
      expect(error.message.length).toBeGreaterThan(field.length + 10)
    })

    it("is fine without pool and url; the first call says what is missing", async () => {
      const engine = new DurableEngine({ workflows: [noop] })
      for (const call of [
        () => engine.start(),
        () => engine.trigger(noop),
        () => engine.migrate(),
      ]) {
        const error = await refusal(call())
        expect(error.code).toBe("InvalidInput")
        expect(error.message).toContain("setStore(new MemoryWorkflowStore())")
      }
      engine.setStore(new MemoryWorkflowStore())
      await engine.start()
      expect(await (await engine.trigger(noop)).result()).toBeUndefined()
      await engine.stop()
    })
  })

  describe("trigger", () => {
    const workflow = defineWorkflow("bad triggers", (_, input: unknown) => input)

    it.each([
      ["idempotencyKey", { idempotencyKey: "" }],
      ["idempotencyKey", { idempotencyKey: "x".repeat(256) }],
      ["idempotencyKey", { idempotencyKey: "a\0b" }],
      ["concurrencyKey", { concurrencyKey: "" }],
      ["concurrencyKey", { concurrencyKey: 5 as never }],
      ["scheduledFor", { scheduledFor: new Date(NaN) }],
      ["scheduledFor", { scheduledFor: new Date(8.64e15) }],
      ["timeoutMs", { timeoutMs: 0 }],
      ["timeoutMs", { timeoutMs: -5 }],
      ["timeoutMs", { timeoutMs: NaN }],
      ["timeoutMs", { timeoutMs: Infinity }],
      ["timeoutMs", { timeoutMs: 1e15 }],
      ["maxAttempts", { maxAttempts: 0 }],
      ["maxAttempts", { maxAttempts: 1.5 }],
      ["maxAttempts", { maxAttempts: 1e12 }],
      ["priority", { priority: 0.5 }],
      ["priority", { priority: 1e12 }],
      ["deadline", { deadline: "soon" }],
      ["deadline", { deadline: -1 }],
    ])("refuses a bad %s: %j", async (field, options) => {
      const engine = rig.engine([workflow])
      const error = await refusal(engine.trigger(workflow, { input: 1, ...options }))
      expect(error).toMatchObject({ code: "InvalidInput", retryable: false })
      expect(error.message).toMatch(new RegExp(`^${field}: .{10}`))
    })

    it("refuses a workflow that the engine was not told of, and says which it knows", async () => {
      const known = defineWorkflow("known one", () => 1)
      const engine = rig.engine([known])
      for (const call of [
        () => engine.trigger(workflow, { input: 1 }),
        () => engine.schedule(workflow, { cron: "@daily", input: 1 }),
      ]) {
        const error = await refusal(call())
        expect(error.code).toBe("UnknownWorkflow")
        expect(error.message).toMatch(
          /"bad triggers" is not registered.*knows: "known one".*add it/,
        )
      }
      const twin = defineWorkflow("known one", () => 2)
      const error = await refusal(engine.trigger(twin))
      expect(error.code).toBe("UnknownWorkflow")
      expect(error.message).toContain("another definition")
      expect((await refusal(engine.trigger(undefined as never))).code).toBe("InvalidInput")
    })

    it("takes the largest values that are allowed", async () => {
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow, {
        input: 1,
        timeoutMs: 36_525 * 86_400_000,
        maxAttempts: 1_000_000,
        priority: -1_000_000,
        idempotencyKey: `${rig.name("k")}${"ü".repeat(200)}`,
        concurrencyKey: `${rig.name("k")}${"🚀".repeat(100)}`,
        deadline: { days: 36_525 },
      })
      expect(await handle.result()).toBe(1)
      const fraction = await engine.trigger(workflow, { input: 2, timeoutMs: 5000.5 })
      expect(await fraction.result()).toBe(2)
    })
  })

  describe("schedule", () => {
    const workflow = defineWorkflow("bad schedules", (_, input: unknown) => input)

    it.each([
      ["cron", { cron: "" }],
      ["cron", { cron: "every day" }],
      ["cron", { cron: "61 * * * *" }],
      ["cron", { cron: "0 0 31 2 *" }],
      ["cron", { cron: "@fortnightly" }],
      ["cron", { cron: undefined as never }],
      ["cron", { cron: null as never }],
      ["timeZone", { cron: "@daily", timeZone: "Mars/Olympus" }],
      ["timeZone", { cron: "@daily", timeZone: "" }],
      ["schedule key", { cron: "@daily", key: "" }],
      ["schedule key", { cron: "@daily", key: "x".repeat(256) }],
    ])("refuses a bad %s: %j", async (field, options) => {
      const engine = rig.engine([workflow])
      const error = await refusal(engine.schedule(workflow, { input: 1, ...options }))
      expect(error).toMatchObject({ code: "InvalidInput", retryable: false })
      expect(error.message).toMatch(new RegExp(`^${field}: .{10}`))
    })
  })

  describe("hook and on", () => {
    it("refuse what is no hook and what is no function", () => {
      const engine = rig.engine([])
      const listener = () => undefined
      expect(thrown(() => engine.hook("workflow:done" as never, listener)).code).toBe(
        "InvalidInput",
      )
      expect(thrown(() => engine.hook("step:failed", undefined as never)).code).toBe("InvalidInput")
      expect(thrown(() => engine.on("x", undefined as never)).code).toBe("InvalidInput")
      expect(thrown(() => engine.onAny(5 as never)).code).toBe("InvalidInput")
    })
  })

  describe("setStore", () => {
    it("is refused once the engine is in use", async () => {
      const engine = await rig.started([noop])
      const error = thrown(() => engine.setStore(new MemoryWorkflowStore()))
      expect(error.code).toBe("EngineStarted")
      expect(error.message).toContain("before")
    })

    it("refuses what is no store", () => {
      const engine = new DurableEngine({ workflows: [] })
      expect(thrown(() => engine.setStore({} as never)).code).toBe("InvalidInput")
    })

    it("may follow a listener", async () => {
      const workflow = defineWorkflow(rig.name("emits"), (ctx) => ctx.emit("hello"))
      const engine = new DurableEngine({ workflows: [workflow] })
      const heard: Array<string> = []
      engine.onAny((event) => heard.push(event.event))
      engine.setStore(new MemoryWorkflowStore())
      await engine.start()
      await engine.trigger(workflow)
      await until(() => heard.length === 1)
      await engine.stop()
    })
  })

  describe("start and stop", () => {
    it("start is idempotent, also at once", async () => {
      const workflow = defineWorkflow(rig.name("idempotent"), async (ctx) => ctx.step("a", () => 1))
      const engine = rig.engine([workflow])
      await Promise.all([engine.start(), engine.start()])
      await engine.start()
      expect(await (await engine.trigger(workflow)).result()).toBe(1)
    })

    it("stop is idempotent, also before any use and while starting", async () => {
      const unused = rig.engine([noop])
      await Promise.all([unused.stop(), unused.stop()])
      await unused.stop()
      const starting = rig.engine([noop])
      const start = starting.start().catch((error: { code: string }) => error.code)
      await starting.stop()
      expect([undefined, "EngineStopped"]).toContain(await start)
    })

    it("after stop every call says that it was stopped", async () => {
      const engine = await rig.started([noop])
      const handle = await engine.trigger(noop)
      await handle.result()
      await engine.stop()
      const id = handle.workflowRunId
      const calls: ReadonlyArray<() => Promise<unknown>> = [
        () => engine.start(),
        () => engine.migrate(),
        () => engine.trigger(noop),
        () => engine.schedule(noop, { cron: "@daily" }),
        () => engine.unschedule("x"),
        () => engine.getStatus(id),
        () => engine.cancel(id),
        () => engine.resume(id),
        () => engine.getEvents(id),
        () => engine.getDeadLetterRuns(),
        () => engine.retryDeadLetter(id),
        () => handle.result(),
        () => handle.status(),
      ]
      for (const call of calls) expect((await refusal(call())).code).toBe("EngineStopped")
      expect(thrown(() => engine.onAny(() => undefined)).code).toBe("EngineStopped")
    })

    it("a call that is under way when the engine stops ends well, or says that it was stopped", async () => {
      const engines = [rig.engine([noop]), await rig.started([noop])]
      for (const engine of engines) {
        const calls = [
          engine.trigger(noop),
          engine.getStatus("019a0000-0000-7000-8000-000000000000"),
          engine.schedule(noop, { cron: "@yearly" }),
          engine.getDeadLetterRuns(),
          engine.start(),
          engine.healthCheck(),
        ].map((call) =>
          call.then(
            () => "well",
            (error: { code?: string }) => error.code ?? error,
          ),
        )
        await engine.stop()
        for (const answer of await Promise.all(calls)) {
          expect(["well", "EngineStopped"]).toContain(answer)
        }
      }
      await rig.engine([noop]).unschedule("noop")
    })

    it("a result that is waited for when the engine stops is refused, not forgotten", async () => {
      const workflow = defineWorkflow(rig.name("waits"), (ctx) => ctx.sleep("long", "1 day"))
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      const waiting = refusal(handle.result())
      await until(async () => (await handle.status())?.status === "sleeping")
      await engine.stop()
      expect((await waiting).code).toBe("EngineStopped")
      const other = rig.engine([workflow])
      await other.cancel(handle.workflowRunId)
    })

    it("`await using` stops it", async () => {
      let escaped: DurableEngine
      {
        await using engine = rig.engine([noop])
        await engine.start()
        await (await engine.trigger(noop)).result()
        escaped = engine
      }
      expect((await refusal(escaped.start())).code).toBe("EngineStopped")
    })

    it("stop lets a running step finish, and its outcome is kept", async () => {
      const started = Promise.withResolvers<void>()
      const release = Promise.withResolvers<void>()
      let ran = 0
      const workflow = defineWorkflow(rig.name("drains"), async (ctx) => {
        const value = await ctx.step("slow", async () => {
          ran++
          started.resolve()
          await release.promise
          return "kept"
        })
        await ctx.step("next", () => undefined)
        return value
      })
      const first = await rig.started([workflow])
      const handle = await first.trigger(workflow)
      await started.promise
      const stopping = first.stop()
      release.resolve()
      await stopping
      const second = await rig.started([workflow])
      expect(await second.handle(workflow, handle.workflowRunId).result()).toBe("kept")
      expect(ran).toBe(1)
    })

    it("of one name are different workers: what becomes of one does not touch the other's runs", async () => {
      const gates = new Map<number, PromiseWithResolvers<void>>()
      const tries: Array<number> = []
      const workflow = defineWorkflow(rig.name("same name"), (ctx, n: number) =>
        ctx.step("works", async () => {
          tries.push(n)
          await gates.get(n)?.promise
          return n
        }),
      )
      const worker = { workerId: "same", shutdownTimeoutMs: 20, maxConcurrent: 1 }
      for (const n of [1, 2]) gates.set(n, Promise.withResolvers<void>())
      const first = await rig.started([workflow], { worker })
      const one = await first.trigger(workflow, { input: 1 })
      await until(() => tries.includes(1))
      // not before: it might take the first run
      const second = await rig.started([workflow], { worker })
      const two = await second.trigger(workflow, { input: 2 })
      await until(() => tries.includes(2))
      // its lease is retired, its run handed back; the one of the same name goes on
      const ran = await Promise.all([one, two].map((run) => second.explain(run.workflowRunId)))
      expect(ran.map((explained) => explained?._tag)).toEqual(["executing", "executing"])
      await first.stop()
      gates.get(2)?.resolve()
      expect(await second.handle(workflow, two.workflowRunId).result()).toBe(2)
      gates.get(1)?.resolve()
      expect(await second.handle(workflow, one.workflowRunId).result()).toBe(1)
      expect(tries).toEqual([1, 2, 1])
    })

    it("stop gives a deaf step up after shutdownTimeoutMs, tells its signal, frees its run", async () => {
      const signals: Array<AbortSignal> = []
      let deaf = true
      const workflow = defineWorkflow(rig.name("deaf"), async (ctx) =>
        ctx.step("deaf", async ({ signal }) => {
          signals.push(signal)
          if (deaf) await aborted(new AbortController().signal)
          return "at last"
        }),
      )
      const first = await rig.started([workflow], { worker: { shutdownTimeoutMs: 50 } })
      const handle = await first.trigger(workflow)
      await until(() => signals.length === 1)
      await first.stop()
      expect(signals[0]?.aborted).toBe(true)
      deaf = false
      // not after the lease of 30 seconds: the run was handed back
      const second = await rig.started([workflow])
      expect(await second.handle(workflow, handle.workflowRunId).result()).toBe("at last")
    })

    it("an engine that only triggers needs no start", async () => {
      const workflow: AnyWorkflow = defineWorkflow(rig.name("client"), () => "worked")
      const client = rig.engine([workflow])
      const handle = await client.trigger(workflow, { input: undefined })
      expect(await handle.status()).toMatchObject({ status: "pending" })
      const worker = await rig.started([workflow])
      expect(await handle.result()).toBe("worked")
      await worker.stop()
      expect(await client.getStatus(handle.workflowRunId)).toMatchObject({ status: "completed" })
    })
  })
}
