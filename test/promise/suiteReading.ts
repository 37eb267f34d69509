/** Reading runs: rows, records, pages, counts; attributes and the status text that a run publishes. */
import { describe, expect, it } from "vitest"
import { defineWorkflow } from "../../src/index.ts"
import { aborted, type Backend, makeGate, refusal, until, untilStatus, useRig } from "./rig.ts"

export const readingSuite = (backend: Backend): void => {
  const rig = useRig(backend)

  it("getRun and getSteps give decoded values and dates", async () => {
    const workflow = defineWorkflow(rig.name("read"), async (ctx, input: { at: Date }) => {
      await ctx.step("works", () => new Map([["a", input.at]]))
      await ctx.step("fails", () => Promise.reject(new TypeError("no"))).catch(() => undefined)
      await ctx.sleep("nap", 1)
      return new Set([1])
    })
    const engine = await rig.started([workflow])
    const at = new Date(0)
    const { workflowRunId, result } = await engine.trigger(workflow, {
      input: { at },
      idempotencyKey: "key",
      attributes: { customer: "c1", total: 12, vip: false },
    })
    await result()
    const run = await engine.getRun(workflowRunId)
    expect(run).toMatchObject({
      workflowRunId,
      workflow: workflow.name,
      status: "completed",
      attempt: 1,
      input: { at },
      result: new Set([1]),
      idempotencyKey: "key",
      parentRunId: null,
      dueAt: null,
      attributes: { customer: "c1", total: 12, vip: false },
      statusText: null,
    })
    expect(run?.completedAt?.getTime()).toBeGreaterThanOrEqual(run?.createdAt.getTime() ?? NaN)
    const steps = await engine.getSteps(workflowRunId)
    expect(steps.map(({ stepKey, kind, status }) => [stepKey, kind, status])).toEqual([
      ["works", "step", "completed"],
      ["fails", "step", "failed"],
      ["nap", "sleep", "completed"],
    ])
    expect(steps[0]?.result).toEqual(new Map([["a", at]]))
    expect(steps[1]?.error).toMatchObject({ name: "TypeError", message: "no" })
    expect(steps[2]?.completedAt).toBeInstanceOf(Date)
    expect(await engine.getRun("01990000-0000-7000-8000-000000000000")).toBeNull()
    expect(await engine.getSteps("nobody")).toEqual([])
  })

  it("getRun tells all that a run was started with, and why it stands", async () => {
    const workflow = defineWorkflow(rig.name("told"), () => 1, { version: "v2" })
    const engine = rig.engine([workflow])
    const scheduledFor = new Date(Date.now() + 3_600_000)
    const { workflowRunId } = await engine.trigger(workflow, {
      scheduledFor,
      timeoutMs: 5000,
      priority: -7,
      maxAttempts: 4,
      concurrencyKey: "c",
      idempotencyKey: "i",
    })
    const run = await engine.getRun(workflowRunId)
    expect(run).toEqual({
      workflowRunId,
      workflow: workflow.name,
      version: "v2",
      status: "pending",
      compensating: false,
      attempt: 1,
      maxAttempts: 4,
      input: undefined,
      parentRunId: null,
      idempotencyKey: "i",
      concurrencyKey: "c",
      priority: -7,
      attributes: {},
      statusText: null,
      dueAt: scheduledFor,
      scheduledFor,
      deadlineAt: new Date(scheduledFor.getTime() + 5000),
      createdAt: expect.any(Date),
      startedAt: null,
      completedAt: null,
    })
    await engine.pause(workflowRunId, { reason: "audit" })
    const paused = await engine.getRun(workflowRunId)
    expect(paused).toMatchObject({ status: "paused", pauseReason: { code: "RunPaused" } })
    expect(paused).not.toHaveProperty("error")
  })

  it("getRun of a child names its parent; of an active run, the error of the attempt before", async () => {
    const child = defineWorkflow(rig.name("child"), (ctx) => ctx.sleep("nap", { days: 1 }))
    const parent = defineWorkflow(rig.name("parent"), async (ctx) => {
      if (ctx.attempt === 1) throw new TypeError("first")
      await ctx.child(child)
    })
    const engine = await rig.started([parent, child])
    const { workflowRunId } = await engine.trigger(parent, { maxAttempts: 2 })
    const one = await until(
      async () => (await engine.listRuns({ parentRunId: workflowRunId })).runs[0],
    )
    expect(one).toMatchObject({ workflow: child.name, parentRunId: workflowRunId })
    const waiting = await untilStatus(engine, workflowRunId, "waiting")
    const first = { name: "TypeError", message: "first" }
    expect(waiting.error).toMatchObject(first)
    expect(await engine.getRun(workflowRunId)).toMatchObject({ attempt: 2, error: first })
    await engine.terminate(workflowRunId)
  })

  it("getSteps tells when a step began, when its next try is, and how its undo went", async () => {
    const workflow = defineWorkflow(rig.name("steps"), async (ctx) => {
      await ctx.step("undone", {
        run: () => new Promise((resolve) => setTimeout(() => resolve("done"), 30)),
        compensate: { run: () => Promise.reject(new TypeError("no undo")), retry: {} },
      })
      await ctx.step("waits", {
        run: () => Promise.reject(new Error("again")),
        retry: { maxAttempts: 2, initialDelayMs: 3_600_000, maxDelayMs: 3_600_000 },
      })
    })
    const engine = await rig.started([workflow])
    const { workflowRunId, result } = await engine.trigger(workflow)
    await untilStatus(engine, workflowRunId, "sleeping")
    const [done, waits] = await engine.getSteps(workflowRunId)
    const took = (done?.completedAt?.getTime() ?? NaN) - (done?.startedAt?.getTime() ?? NaN)
    expect(took).toBeGreaterThanOrEqual(25)
    expect(done).toMatchObject({ position: 1, attempts: 1, retryAt: null, compensation: null })
    expect(waits).toMatchObject({
      stepKey: "waits",
      position: null,
      status: "retrying",
      attempts: 1,
      error: { message: "again" },
      completedAt: null,
    })
    expect(waits?.retryAt?.getTime()).toBeGreaterThan(Date.now() + 3_000_000)
    await engine.cancel(workflowRunId)
    await refusal(result())
    expect((await engine.getSteps(workflowRunId))[0]?.compensation).toMatchObject({
      status: "failed",
      attempts: 1,
      error: { name: "TypeError", message: "no undo" },
    })
  })

  it("getStatus names the step that failed last, and no child that has ended", async () => {
    const child = defineWorkflow(rig.name("child"), () => 1)
    const fails = () => Promise.reject(new Error("no"))
    const parent = defineWorkflow(rig.name("parent"), async (ctx) => {
      await ctx.step("first", fails).catch(() => undefined)
      await ctx.child(child)
      await ctx.waitForEvent("go")
      await ctx.step("second", fails)
    })
    const engine = await rig.started([parent, child])
    const handle = await engine.trigger(parent)
    const { workflowRunId } = handle
    await until(async () => (await engine.getSteps(workflowRunId)).length === 2)
    const waiting = await untilStatus(engine, workflowRunId, "waiting")
    expect(waiting.currentStep).toBeUndefined()
    await handle.sendEvent("go")
    await refusal(handle.result())
    expect(await handle.status()).toMatchObject({ status: "failed", failedStep: "second" })
  })

  it("listRuns and count select by status, key, attributes and time, page by page", async () => {
    const workflow = defineWorkflow(rig.name("list"), () => 1)
    const engine = rig.engine([workflow])
    const ids: Array<string> = []
    for (let n = 0; n < 5; n++) {
      const attributes = { parity: n % 2 === 0 ? "even" : "odd", n }
      ids.push((await engine.trigger(workflow, { attributes })).workflowRunId)
    }
    const filter = { workflow: workflow.name }
    const newestFirst = ids.toReversed()
    const { runs, next } = await engine.listRuns(filter)
    expect(runs.map((run) => run.workflowRunId)).toEqual(newestFirst)
    expect(next).toBeNull()
    const seen: Array<string> = []
    let before: string | undefined
    do {
      const page = await engine.listRuns({ ...filter, before, limit: 2 })
      seen.push(...page.runs.map((run) => run.workflowRunId))
      before = page.next ?? undefined
    } while (before !== undefined)
    expect(seen).toEqual(newestFirst)
    expect(await engine.count({ ...filter, attributes: { parity: "even" } })).toBe(3)
    expect(await engine.count({ ...filter, attributes: { parity: "even", n: 2 } })).toBe(1)
    expect(await engine.count({ ...filter, createdBefore: new Date(0) })).toBe(0)
    expect(await engine.count({ ...filter, status: ["pending", "failed"] })).toBe(5)
    await engine.cancelMany({ ...filter, attributes: { parity: "odd" } })
    expect(await engine.count({ ...filter, status: "cancelled" })).toBe(2)
  })

  it("what cannot be a filter, a page or an attribute is refused, by name", async () => {
    const workflow = defineWorkflow(rig.name("strict"), () => 1)
    const engine = rig.engine([workflow])
    const misspelt = { workflows: "x" } as { workflow?: string }
    const cases: ReadonlyArray<readonly [Promise<unknown>, string]> = [
      [engine.listRuns(misspelt), "filter.workflows"],
      [engine.count({ createdFrom: new Date("never") }), "filter.createdFrom"],
      [engine.count({ attributes: { n: Number.NaN } }), "filter.attributes.n"],
      [engine.listRuns({ limit: 0 }), "limit"],
      [engine.listRuns({ before: "x" }), "before"],
      [engine.trigger(workflow, { attributes: { a: {} as string } }), "attributes.a"],
      [engine.trigger(workflow, { attributes: { a: "x".repeat(256) } }), "attributes.a"],
      [engine.trigger(workflow, { attributes: { "": 1 } }), "attributes"],
    ]
    for (const [call, field] of cases) {
      expect(await refusal(call)).toMatchObject({ code: "InvalidInput", details: { field } })
    }
  })

  describe("what a run publishes", () => {
    it("is there while it works, and at its end", async () => {
      const may = Promise.withResolvers<void>()
      const workflow = defineWorkflow(rig.name("tells"), async (ctx) => {
        ctx.setStatus("packing")
        ctx.setAttributes({ boxes: 2, fragile: true })
        await ctx.step("pack", () => may.promise)
        ctx.setStatus("shipping")
        ctx.setAttributes({ boxes: 3 })
        ctx.setStatus("shipped")
      })
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow, { attributes: { customer: "c1" } })
      await until(async () => (await handle.status())?.statusText === "packing")
      const attributes = { customer: "c1", boxes: 2, fragile: true }
      expect((await handle.status())?.attributes).toEqual(attributes)
      expect(await engine.count({ workflow: workflow.name, attributes: { boxes: 2 } })).toBe(1)
      may.resolve()
      await handle.result()
      const status = await handle.status()
      expect(status).toMatchObject({
        statusText: "shipped",
        attributes: { ...attributes, boxes: 3 },
      })
    })

    it("does not go backwards in a replay", async () => {
      const gate = makeGate()
      const workflow = defineWorkflow(rig.name("forward"), async (ctx) => {
        ctx.setStatus("one")
        await ctx.step("a", () => 1)
        ctx.setStatus("two")
        await ctx.step("gate", gate.step)
        ctx.setStatus("three")
        await ctx.step("hold", ({ signal }) => aborted(signal))
      })
      const { engine, handle } = await rig.replay(workflow, gate, {})
      const seen = new Set<string | undefined>()
      await until(async () => {
        const text = (await handle.status())?.statusText
        seen.add(text)
        return text === "three"
      })
      seen.delete("three")
      expect([...seen].filter((text) => text !== "two")).toEqual([])
      await engine.terminate(handle.workflowRunId)
    })

    it("is there before the run waits", async () => {
      const workflow = defineWorkflow(rig.name("waits"), async (ctx) => {
        ctx.setStatus("waiting for the bank")
        await ctx.sleep("nap", { days: 1 })
      })
      const engine = await rig.started([workflow])
      const { workflowRunId } = await engine.trigger(workflow)
      const status = await untilStatus(engine, workflowRunId, "sleeping")
      expect(status.statusText).toBe("waiting for the bank")
    })

    it("is checked where it is said", async () => {
      const workflow = defineWorkflow(rig.name("checked"), async (ctx) => {
        const errors: Array<unknown> = []
        const attempts = [
          () => ctx.setStatus(1 as unknown as string),
          () => ctx.setStatus("x".repeat(1001)),
          () => ctx.setAttributes({ a: null as unknown as string }),
        ]
        for (const attempt of attempts) {
          try {
            attempt()
          } catch (error) {
            errors.push((error as { code?: string }).code)
          }
        }
        return errors
      })
      const engine = await rig.started([workflow])
      const { result } = await engine.trigger(workflow)
      expect(await result()).toEqual(["InvalidInput", "InvalidInput", "InvalidInput"])
    })
  })
}
