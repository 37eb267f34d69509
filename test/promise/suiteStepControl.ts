/** What a step may say about its tries: limits, delays, heartbeats. */
import { describe, expect, it } from "vitest"
import { defineWorkflow, NonRetryableError, RetryAfterError } from "../../src/index.ts"
import { aborted, type Backend, makeGate, refusal, until, useRig } from "./rig.ts"

/** For a try or a child to begin, on a busy machine, before the deadline that is to end it. */
const enoughMs = 1000

export const stepControlSuite = (backend: Backend): void => {
  const rig = useRig(backend)

  describe("a step that fails with", () => {
    it("a NonRetryableError is not tried again, whatever its policy says", async () => {
      let tries = 0
      const workflow = defineWorkflow(rig.name("final"), (ctx) =>
        ctx.step("charge", {
          run: () => {
            tries++
            throw new NonRetryableError("card declined", { cause: new Error("402") })
          },
          retry: { maxAttempts: 5, initialDelayMs: 1, retryIf: () => true },
        }),
      )
      const engine = await rig.started([workflow])
      const error = await refusal((await engine.trigger(workflow)).result())
      expect(error.cause).toMatchObject({
        name: "NonRetryableError",
        message: "card declined",
        cause: { message: "402" },
      })
      expect(tries).toBe(1)
    })

    it("a RetryAfterError is not tried before that, though its policy says sooner", async () => {
      const at: Array<number> = []
      const workflow = defineWorkflow(rig.name("later"), (ctx) =>
        ctx.step("call", {
          run: () => {
            at.push(performance.now())
            if (at.length === 1) throw new RetryAfterError("busy", { delayMs: 300 })
            if (at.length === 2) {
              throw new RetryAfterError("busy", { date: new Date(Date.now() + 1300) })
            }
            return "done"
          },
          retry: { maxAttempts: 3, initialDelayMs: 0, maxDelayMs: 1 },
        }),
      )
      const engine = await rig.started([workflow])
      expect(await (await engine.trigger(workflow)).result()).toBe("done")
      // timers and clocks of the database may round
      expect(at[1]! - at[0]!).toBeGreaterThan(290)
      expect(at[2]! - at[1]!).toBeGreaterThan(1250)
    })

    it("a RetryAfterError has its tries counted like any other", async () => {
      let tries = 0
      const workflow = defineWorkflow(rig.name("twice"), (ctx) =>
        ctx.step("call", {
          run: () => {
            tries++
            throw new RetryAfterError("busy", { delayMs: 1 })
          },
          retry: { maxAttempts: 2 },
        }),
      )
      const engine = await rig.started([workflow])
      const error = await refusal((await engine.trigger(workflow)).result())
      expect(error.cause).toMatchObject({ name: "RetryAfterError", message: "busy" })
      expect(tries).toBe(2)
    })
  })

  describe("a step's deadline", () => {
    it("ends the running try, aborts its signal, and is not tried again", async () => {
      let reason: unknown
      let tries = 0
      const workflow = defineWorkflow(rig.name("slow"), (ctx) =>
        ctx.step("slow", {
          run: ({ signal }) => {
            tries++
            return aborted(signal).catch((error: unknown) => {
              reason = error
              throw error
            })
          },
          retry: { maxAttempts: 5, initialDelayMs: 1 },
          deadlineMs: enoughMs,
        }),
      )
      const engine = await rig.started([workflow])
      const error = await refusal((await engine.trigger(workflow)).result())
      const expected = { code: "StepDeadlineExceeded", details: { stepKey: "slow", attempts: 1 } }
      expect(error.cause).toMatchObject(expected)
      expect(reason).toMatchObject({ _tag: "StepDeadlineExceeded" })
      expect(tries).toBe(1)
    })

    it("does not wait for a try that would come too late, and tells of the last one", async () => {
      const workflow = defineWorkflow(rig.name("told"), (ctx) =>
        ctx.step("flaky", {
          run: () => {
            throw new Error("no luck")
          },
          retry: { maxAttempts: 100, initialDelayMs: 1, factor: 40_000, maxDelayMs: 40_000 },
          deadlineMs: 30_000,
        }),
      )
      const engine = await rig.started([workflow])
      const error = await refusal((await engine.trigger(workflow)).result())
      expect(error.cause).toMatchObject({
        code: "StepDeadlineExceeded",
        message: expect.stringContaining("no luck"),
        details: { attempts: 2, lastFailure: "no luck", deadlineMs: 30_000 },
      })
    })

    it("goes on counting while no process runs the step", async () => {
      const gate = makeGate()
      const workflow = defineWorkflow(rig.name("crash"), (ctx) =>
        ctx.step("slow", { run: gate.step, deadlineMs: enoughMs }),
      )
      const first = await rig.started([workflow], { worker: { shutdownTimeoutMs: 10 } })
      const handle = await first.trigger(workflow)
      await gate.reached
      await first.stop()
      await new Promise((resolve) => setTimeout(resolve, enoughMs + 100))
      const second = await rig.started([workflow])
      const error = await refusal(second.handle(workflow, handle.workflowRunId).result())
      expect(error.cause).toMatchObject({ code: "StepDeadlineExceeded" })
    })
  })

  describe("a heartbeat", () => {
    it("reaches the next try", async () => {
      const heard: Array<unknown> = []
      const workflow = defineWorkflow(rig.name("pages"), (ctx) =>
        ctx.step("pages", {
          run: ({ lastHeartbeat, heartbeat, attempt }) => {
            heard.push(lastHeartbeat)
            for (let page = 1; page <= 3; page++) heartbeat({ page, attempt })
            if (attempt < 3) throw new Error("connection lost")
            return "done"
          },
          retry: { maxAttempts: 3, backoff: "fixed", initialDelayMs: 1 },
        }),
      )
      const engine = await rig.started([workflow])
      expect(await (await engine.trigger(workflow)).result()).toBe("done")
      expect(heard).toEqual([undefined, { page: 3, attempt: 1 }, { page: 3, attempt: 2 }])
    })

    it("reaches the next try in another process, also when the first stops before it is stored", async () => {
      const heard: Array<unknown> = []
      const beaten = Promise.withResolvers<void>()
      const workflow = defineWorkflow(rig.name("handed-over"), (ctx) =>
        ctx.step("pages", {
          run: async ({ lastHeartbeat, heartbeat, signal }) => {
            heard.push(lastHeartbeat)
            if (heard.length > 1) return "done"
            for (let page = 1; page <= 50; page++) heartbeat(new Date(page))
            beaten.resolve()
            return aborted(signal)
          },
        }),
      )
      const first = await rig.started([workflow], { worker: { shutdownTimeoutMs: 0 } })
      const { workflowRunId } = await first.trigger(workflow)
      await beaten.promise
      await first.stop()
      const second = await rig.started([workflow])
      expect(await second.handle(workflow, workflowRunId).result()).toBe("done")
      expect(heard).toEqual([undefined, new Date(50)])
    })

    it("that cannot be stored throws, naming the step", async () => {
      const workflow = defineWorkflow(rig.name("odd"), (ctx) =>
        ctx.step("odd", ({ heartbeat }) => heartbeat(() => 1)),
      )
      const engine = await rig.started([workflow])
      const error = await refusal((await engine.trigger(workflow)).result())
      expect(error.cause).toMatchObject({ message: expect.stringContaining('step "odd"') })
    })

    it("that fails to come ends the try", async () => {
      const workflow = defineWorkflow(rig.name("silent"), (ctx) =>
        ctx.step("silent", {
          run: async ({ attempt, heartbeat, signal }) => {
            if (attempt === 1) return aborted(signal)
            // twice as long as may pass in silence
            for (let i = 0; i < 10; i++) {
              await new Promise((resolve) => setTimeout(resolve, 100))
              heartbeat(i)
            }
            return "alive"
          },
          retry: { maxAttempts: 2, backoff: "fixed", initialDelayMs: 1 },
          heartbeatTimeoutMs: 500,
        }),
      )
      const failures: Array<unknown> = []
      const engine = await rig.started([workflow])
      engine.hook("step:failed", (event) => failures.push("error" in event && event.error))
      expect(await (await engine.trigger(workflow)).result()).toBe("alive")
      expect(failures).toMatchObject([{ code: "StepHeartbeatTimeout" }])
    })
  })

  it("a run's deadline cancels its children", async () => {
    const child = defineWorkflow(rig.name("child"), (ctx) => ctx.sleep("long", { hours: 1 }))
    const parent = defineWorkflow(rig.name("parent"), (ctx) =>
      ctx.step("id", () => 1).then(() => ctx.workflow(child)),
    )
    const engine = await rig.started([parent, child])
    const ended: Array<string> = []
    engine.hook("workflow:failed", (event) => ended.push(event.workflow))
    const handle = await engine.trigger(parent, { timeoutMs: enoughMs })
    const error = await refusal(handle.result())
    expect(error.cause).toMatchObject({ code: "RunTimedOut" })
    await until(() => ended.includes(child.name))
  })
}
