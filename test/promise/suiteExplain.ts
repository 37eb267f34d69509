/** `explain`: what real runs answer. */
import { expect, it } from "vitest"
import { defineWorkflow } from "../../src/index.ts"
import { aborted, type Backend, until, untilStatus, useRig } from "./rig.ts"

const hour = 3_600_000

export const explainSuite = (backend: Backend): void => {
  const rig = useRig(backend)

  it("names what a parked run waits for, all of it", async () => {
    const child = defineWorkflow(rig.name("child"), (ctx) => ctx.sleep("nap", { days: 1 }))
    const workflow = defineWorkflow(rig.name("waits"), async (ctx) => {
      const flaky = ctx.step("flaky", {
        run: () => Promise.reject(new Error("again")),
        retry: { maxAttempts: 5, initialDelayMs: 2 * hour, maxDelayMs: 2 * hour },
      })
      await Promise.all([
        ctx.sleep("nap", { hours: 1 }),
        ctx.waitForEvent("approved"),
        ctx.workflow(child),
        flaky,
      ])
    })
    const engine = await rig.started([workflow, child])
    const { workflowRunId } = await engine.trigger(workflow)
    await untilStatus(engine, workflowRunId, "waiting")
    const childId = (await engine.listRuns({ parentRunId: workflowRunId })).runs[0]?.workflowRunId
    await untilStatus(engine, childId ?? "", "sleeping")
    // the child's start and its sleep may have woken the parent in between
    const explanation = await until(async () => {
      const found = await engine.explain(workflowRunId)
      return found?._tag === "waiting" && found
    })
    expect(explanation.for).toMatchObject([
      { kind: "sleep", stepKey: "nap", until: expect.any(Date) },
      { kind: "backoff", stepKey: "flaky", attempt: 2, maxAttempts: 5, until: expect.any(Date) },
      { kind: "event", event: "approved", until: null },
      { kind: "child", workflowRunId: childId, status: "sleeping" },
    ])
    expect(explanation.summary).toContain("attempt 2 of 5")
    await engine.terminate(workflowRunId)
  })

  it("names the step that this process executes, and the worker that holds the run", async () => {
    const begun = Promise.withResolvers<void>()
    const workflow = defineWorkflow(rig.name("busy"), (ctx) =>
      ctx.step("long", ({ signal }) => (begun.resolve(), aborted(signal))),
    )
    const engine = await rig.started([workflow], { worker: { workerId: "blue" } })
    const { workflowRunId } = await engine.trigger(workflow)
    await begun.promise
    const explanation = await engine.explain(workflowRunId)
    expect(explanation).toMatchObject({
      _tag: "executing",
      steps: ["long"],
      worker: { label: "blue", heartbeatAt: expect.any(Date) },
      asked: null,
    })
    await engine.terminate(workflowRunId)
    expect(await engine.explain(workflowRunId)).toMatchObject({
      _tag: "settled",
      status: "cancelled",
      at: expect.any(Date),
      error: { code: "RunTerminated" },
    })
  })

  it("gives times as dates, wherever they stand", async () => {
    const begun = Promise.withResolvers<void>()
    const workflow = defineWorkflow(rig.name("dates"), async (ctx) => {
      await ctx.step("done", () => 1)
      await ctx.step("long", ({ signal }) => (begun.resolve(), aborted(signal)))
    })
    const engine = await rig.started([workflow], { worker: { maxConcurrent: 1 } })
    const first = await engine.trigger(workflow)
    await begun.promise
    const second = await engine.trigger(workflow)
    expect(await engine.explain(first.workflowRunId)).toMatchObject({
      _tag: "executing",
      worker: { leaseExpiresAt: expect.any(Date) },
      lastStep: { stepKey: "done", completedAt: expect.any(Date) },
    })
    expect(await engine.explain(second.workflowRunId)).toMatchObject({
      _tag: "queued",
      since: expect.any(Date),
    })
    await engine.terminate(second.workflowRunId)
    await engine.terminate(first.workflowRunId)
  })

  it("tells that nobody knows the workflow, and that an operator paused", async () => {
    const workflow = defineWorkflow(rig.name("unknown"), () => 1)
    const engine = rig.engine([workflow])
    const { workflowRunId } = await engine.trigger(workflow)
    expect(await engine.explain(workflowRunId)).toMatchObject({
      _tag: "no-worker",
      workflow: workflow.name,
    })
    await engine.pause(workflowRunId, { reason: "audit" })
    expect(await engine.explain(workflowRunId)).toMatchObject({
      _tag: "paused",
      byOperator: true,
      reason: { code: "RunPaused", details: { reason: "audit" } },
    })
    expect(await engine.explain("01990000-0000-7000-8000-000000000000")).toBeNull()
  })
}
