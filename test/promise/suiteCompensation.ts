/** Undoing: when, what, with which tries, and what an operator can do. */
import { describe, expect, it } from "vitest"
import {
  defineWorkflow,
  NonRetryableError,
  RetryAfterError,
  type StepInfo,
  type WorkflowContext,
} from "../../src/index.ts"
import {
  aborted,
  type Backend,
  makeGate,
  refusal,
  sleep,
  thrown,
  until,
  untilStatus,
  useRig,
} from "./rig.ts"

const boom =
  (message = "boom") =>
  (): never => {
    throw new Error(message)
  }

export const compensationSuite = (backend: Backend): void => {
  const rig = useRig(backend)

  describe("compensate with options", () => {
    it("has its own tries and its own time limit", async () => {
      const undone: Array<number> = []
      const keys = new Set<string>()
      const workflow = defineWorkflow(rig.name("own"), async (ctx) => {
        await ctx.step("a", {
          run: ({ idempotencyKey }) => {
            keys.add(idempotencyKey)
            return "A"
          },
          compensate: {
            run: (result: string, { attempt, signal, idempotencyKey }) => {
              undone.push(attempt)
              keys.add(idempotencyKey)
              if (attempt === 1) return aborted(signal)
              if (attempt < 4) throw new Error("not yet")
              return expect(result).toBe("A")
            },
            retry: { maxAttempts: 4, backoff: "fixed", initialDelayMs: 1 },
            timeoutMs: 50,
          },
        })
        await ctx.step("b", boom())
      })
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      expect(await refusal(handle.result())).toMatchObject({ details: { status: "compensated" } })
      expect(undone).toEqual([1, 2, 3, 4])
      expect(keys.size, "the step's key, and one for all tries of its undo").toBe(2)
      expect(await handle.status()).toMatchObject({
        compensations: [{ stepKey: "a", status: "completed", attempts: 4 }],
      })
    })

    it("gives up, or waits, as its errors say", async () => {
      const undone: Array<readonly [string, number]> = []
      const retry = { maxAttempts: 4, backoff: "fixed", initialDelayMs: 1 } as const
      const workflow = defineWorkflow(rig.name("says"), async (ctx) => {
        for (const name of ["never", "later"]) {
          await ctx.step(name, {
            run: () => name,
            compensate: {
              run: (_, { attempt }) => {
                undone.push([name, performance.now()])
                if (name === "never") throw new NonRetryableError("never")
                if (attempt === 1) throw new RetryAfterError("later", { delayMs: 200 })
              },
              retry,
            },
          })
        }
        await ctx.step("b", boom())
      })
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      expect(await refusal(handle.result())).toMatchObject({ details: { status: "failed" } })
      expect(undone.map(([name]) => name)).toEqual(["later", "later", "never"])
      expect(undone[1]![1] - undone[0]![1]).toBeGreaterThan(190)
    })

    it("keeps the time of its next try, though the run is taken up again before that", async () => {
      const undone: Array<number> = []
      const workflow = defineWorkflow(rig.name("early"), async (ctx) => {
        await ctx.step("a", {
          run: () => "A",
          compensate: {
            run: () => {
              undone.push(performance.now())
              if (undone.length === 1) throw new Error("not yet")
            },
            retry: { maxAttempts: 2, backoff: "fixed", initialDelayMs: 2500 },
          },
        })
        await ctx.step("b", boom())
      })
      const first = await rig.started([workflow])
      const { workflowRunId } = await first.trigger(workflow)
      await untilStatus(first, workflowRunId, "compensating")
      await until(() => undone.length === 1)
      await first.stop()
      // an event wakes the parked run
      const second = await rig.started([workflow])
      await second.sendEvent(workflowRunId, "nudge", null)
      expect(await refusal(second.handle(workflow, workflowRunId).result())).toMatchObject({
        details: { status: "compensated" },
      })
      expect(undone[1]! - undone[0]!).toBeGreaterThan(2400)
    })

    it.each([
      ["at once", (ctx: WorkflowContext) => ctx.step("undo", () => 1)],
      ["behind an await", (ctx: WorkflowContext) => sleep(1).then(() => ctx.step("undo", () => 1))],
      ["for the time it takes", (ctx: WorkflowContext) => ctx.sleep("undo", 1)],
    ])("that asks ctx fails, and does not wait for ever: %s", async (_, undo) => {
      const workflow = defineWorkflow(rig.name("asks"), async (ctx) => {
        await ctx.step("done", {
          run: () => 1,
          compensate: { run: () => undo(ctx), retry: { maxAttempts: 1 } },
        })
        throw new Error("no further")
      })
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      await refusal(handle.result())
      expect(await handle.status()).toMatchObject({
        status: "failed",
        compensations: [
          {
            status: "failed",
            error: {
              code: "InvalidInput",
              message: expect.stringMatching(/^ctx: is not for an undo/),
            },
          },
        ],
      })
    })

    it("must have a function", async () => {
      const workflow = defineWorkflow(rig.name("odd"), (ctx) =>
        ctx.step("a", { run: () => 1, compensate: {} as never }),
      )
      const engine = await rig.started([workflow])
      const error = await refusal((await engine.trigger(workflow)).result())
      expect(error.cause).toMatchObject({ code: "InvalidInput" })
    })
  })

  describe("compensateOn", () => {
    const undoing = (endings: Parameters<typeof defineWorkflow>[2], name: string) => {
      const undone: Array<string> = []
      const workflow = defineWorkflow(
        rig.name(name),
        async (ctx, how: string) => {
          await ctx.step("a", { run: () => 1, compensate: () => undone.push("a") })
          if (how === "fail") throw new Error("boom")
          await ctx.sleep("long", { hours: 1 })
        },
        endings as { readonly compensateOn?: { readonly failure?: boolean } },
      )
      return { undone, workflow }
    }

    it("failure: false leaves what was done, and the run fails", async () => {
      const { undone, workflow } = undoing({ compensateOn: { failure: false } }, "failure")
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow, { input: "fail" })
      expect(await refusal(handle.result())).toMatchObject({ details: { status: "failed" } })
      expect(undone).toEqual([])
    })

    it("timeout: false leaves what was done when the deadline has passed", async () => {
      const { undone, workflow } = undoing({ compensateOn: { timeout: false } }, "timeout")
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow, { input: "wait", timeoutMs: 300 })
      expect(await refusal(handle.result())).toMatchObject({ details: { status: "failed" } })
      expect(undone).toEqual([])
    })

    it("cancel: false is the default for those who cancel, who may say otherwise", async () => {
      const { undone, workflow } = undoing({ compensateOn: { cancel: false } }, "cancel")
      const engine = await rig.started([workflow])
      const ends: Array<string> = []
      for (const compensate of [undefined, true]) {
        const handle = await engine.trigger(workflow, { input: "wait" })
        await untilStatus(engine, handle.workflowRunId, "sleeping")
        await engine.cancel(handle.workflowRunId, compensate === undefined ? {} : { compensate })
        ends.push((await refusal(handle.result())).details["status"] as string)
        ends.push(undone.join())
      }
      expect(ends).toEqual(["cancelled", "", "compensated", "a"])
    })

    it("is checked when the workflow is defined", () => {
      const error = thrown(() =>
        defineWorkflow("odd", () => undefined, { compensateOn: { failed: true } as never }),
      )
      expect(error).toMatchObject({ code: "InvalidInput" })
    })
  })

  describe("compensateOnUnknown", () => {
    const charging = (
      name: string,
      run: (info: StepInfo) => Promise<string>,
      timeoutMs?: number,
    ) => {
      const undone: Array<unknown> = []
      const workflow = defineWorkflow(rig.name(name), async (ctx) => {
        await ctx.step("before", { run: () => 1, compensate: () => undone.push("before") })
        await ctx.step("charge", {
          run,
          compensate: (result) => undone.push(["charge", result]),
          compensateOnUnknown: true,
          timeoutMs,
        })
      })
      return { undone, workflow }
    }

    it("undoes a step that timed out and was given up, first, without a result", async () => {
      const { undone, workflow } = charging("late", ({ signal }) => aborted(signal), 50)
      const engine = await rig.started([workflow])
      const error = await refusal((await engine.trigger(workflow)).result())
      expect(error).toMatchObject({ details: { status: "compensated" } })
      expect(undone).toEqual([["charge", undefined], "before"])
    })

    it("leaves a step alone that failed by itself", async () => {
      const { undone, workflow } = charging("declined", () => Promise.reject(new Error("declined")))
      const engine = await rig.started([workflow])
      const error = await refusal((await engine.trigger(workflow)).result())
      expect(error).toMatchObject({ details: { status: "compensated" } })
      expect(undone).toEqual(["before"])
    })

    it("leaves a step alone whose try failed by itself, and that waits for its next one", async () => {
      const undone: Array<unknown> = []
      const workflow = defineWorkflow(rig.name("between"), (ctx) =>
        ctx.step("charge", {
          run: boom("declined"),
          compensate: (result) => undone.push(["charge", result]),
          compensateOnUnknown: true,
          retry: { maxAttempts: 2, initialDelayMs: 60_000 },
        }),
      )
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      await untilStatus(engine, handle.workflowRunId, "sleeping")
      await engine.cancel(handle.workflowRunId)
      expect(await refusal(handle.result())).toMatchObject({ details: { status: "cancelled" } })
      expect(undone).toEqual([])
    })

    it("undoes a step that was under way when the run was cancelled", async () => {
      const begun = Promise.withResolvers<void>()
      const { undone, workflow } = charging("cut", ({ signal }) => {
        begun.resolve()
        return aborted(signal)
      })
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      await begun.promise
      await engine.cancel(handle.workflowRunId)
      expect(await refusal(handle.result())).toMatchObject({ details: { status: "compensated" } })
      expect(undone).toEqual([["charge", undefined], "before"])
    })

    it("undoes a step that was under way when its process vanished, if the run goes no further", async () => {
      const gate = makeGate()
      const { undone, workflow } = charging("gone", gate.step)
      const first = await rig.started([workflow], { worker: { shutdownTimeoutMs: 10 } })
      const { workflowRunId } = await first.trigger(workflow)
      await gate.reached
      await first.stop()
      const asking = rig.engine([workflow])
      await asking.cancel(workflowRunId)
      const second = await rig.started([workflow])
      expect(await refusal(second.handle(workflow, workflowRunId).result())).toMatchObject({
        details: { status: "compensated" },
      })
      expect(undone).toEqual([["charge", undefined], "before"])
    })

    it("lets a step complete in its next try, which is then undone with its result", async () => {
      let tries = 0
      const undone: Array<unknown> = []
      const workflow = defineWorkflow(rig.name("second"), async (ctx) => {
        await ctx.step("charge", {
          run: ({ signal }) => (++tries === 1 ? aborted(signal) : Promise.resolve("paid")),
          compensate: (result) => undone.push(result),
          compensateOnUnknown: true,
          timeoutMs: 50,
          retry: { maxAttempts: 2, initialDelayMs: 1 },
        })
        throw new Error("boom")
      })
      const engine = await rig.started([workflow])
      await refusal((await engine.trigger(workflow)).result())
      expect(undone).toEqual(["paid"])
    })
  })

  it("a point of no return keeps what completed before it", async () => {
    const undone: Array<string> = []
    const step = (name: string) => ({ run: () => name, compensate: () => undone.push(name) })
    const workflow = defineWorkflow(rig.name("no-return"), async (ctx) => {
      await ctx.step("a", step("a"))
      await ctx.step("b", step("b"))
      await ctx.pointOfNoReturn("shipped")
      await ctx.step("c", step("c"))
      throw new Error("boom")
    })
    const engine = await rig.started([workflow])
    const error = await refusal((await engine.trigger(workflow)).result())
    expect(error).toMatchObject({ details: { status: "compensated" } })
    expect(undone).toEqual(["c"])
  })

  describe("a compensation that gave up", () => {
    const stubborn = () => {
      const undone: Array<string> = []
      let helps = false
      const workflow = defineWorkflow(rig.name("stubborn"), async (ctx) => {
        for (const name of ["a", "b", "c"]) {
          await ctx.step(name, {
            run: () => name,
            compensate: {
              run: () => {
                undone.push(name)
                if (name !== "b" && !helps) throw new Error(`${name} stays`)
              },
              retry: { maxAttempts: 1 },
            },
          })
        }
        throw new Error("boom")
      })
      return { undone, workflow, help: () => (helps = true) }
    }

    it("leaves the run failed, with each outcome to be seen", async () => {
      const { workflow, undone } = stubborn()
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      expect(await refusal(handle.result())).toMatchObject({ details: { status: "failed" } })
      expect(undone).toEqual(["c", "b", "a"])
      expect(await handle.status()).toMatchObject({
        status: "failed",
        error: { message: "boom" },
        compensations: [
          { stepKey: "a", status: "failed", attempts: 1, error: { message: "a stays" } },
          { stepKey: "b", status: "completed", attempts: 1 },
          { stepKey: "c", status: "failed", attempts: 1, error: { message: "c stays" } },
        ],
      })
    })

    it("is tried again by retryCompensation, and only that", async () => {
      const { workflow, undone, help } = stubborn()
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      await refusal(handle.result())
      help()
      await engine.retryCompensation(handle.workflowRunId, "c")
      await until(() => undone.length === 4)
      await untilStatus(engine, handle.workflowRunId, "failed")
      await engine.retryCompensation(handle.workflowRunId)
      expect(await untilStatus(engine, handle.workflowRunId, "compensated")).toMatchObject({
        error: { message: "boom" },
      })
      expect(undone).toEqual(["c", "b", "a", "c", "a"])
    })

    it("is passed over after skipCompensation", async () => {
      const { workflow, undone } = stubborn()
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      await refusal(handle.result())
      await engine.skipCompensation(handle.workflowRunId)
      expect(await untilStatus(engine, handle.workflowRunId, "compensated")).toMatchObject({
        compensations: [
          { stepKey: "a", status: "skipped" },
          { stepKey: "b", status: "completed" },
          { stepKey: "c", status: "skipped" },
        ],
      })
      expect(undone).toEqual(["c", "b", "a"])
    })

    it("cannot be revised where there is none", async () => {
      const workflow = defineWorkflow(rig.name("fine"), (ctx) => ctx.step("a", boom()))
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      await refusal(handle.result())
      const refused = [
        await refusal(engine.retryCompensation(handle.workflowRunId)),
        await refusal(engine.skipCompensation(handle.workflowRunId, "a")),
        await refusal(engine.skipCompensation("no id")),
      ]
      expect(refused.map(({ code }) => code)).toEqual([
        "RunStateConflict",
        "RunStateConflict",
        "RunNotFound",
      ])
    })
  })

  it("skipCompensation lets a run go on whose code does not offer an undo any more", async () => {
    const name = rig.name("changed")
    const undone: Array<string> = []
    const gate = makeGate()
    const body = (withUndo: boolean) =>
      defineWorkflow(name, async (ctx) => {
        await ctx.step("a", { run: () => 1, compensate: () => undone.push("a") })
        const undo = withUndo ? { compensate: () => undone.push("b") } : {}
        await ctx.step("b", { run: () => 2, ...undo })
        await ctx.step("gate", gate.step)
      })
    const original = body(true)
    const first = await rig.started([original], { worker: { shutdownTimeoutMs: 10 } })
    const { workflowRunId } = await first.trigger(original)
    await gate.reached
    await first.stop()
    const changed = body(false)
    const second = rig.engine([changed])
    await second.cancel(workflowRunId)
    await second.start()
    const paused = await untilStatus(second, workflowRunId, "paused")
    expect(paused.error).toMatchObject({
      code: "CompensationMissing",
      message: expect.stringContaining("skipCompensation"),
    })
    const unnamed = await refusal(second.skipCompensation(workflowRunId))
    expect(unnamed.message).toContain("name the step")
    await second.skipCompensation(workflowRunId, "b")
    await untilStatus(second, workflowRunId, "compensated")
    expect(undone).toEqual(["a"])
  })
}
