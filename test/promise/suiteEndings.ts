/** How runs end otherwise: cancel, deadlines, attempts and dead letters, compensation. */
import { describe, expect, it } from "vitest"
import { defineWorkflow, type DurableEngine, FlowlyError } from "../../src/index.ts"
import { aborted, type Backend, makeGate, refusal, until, untilStatus, useRig } from "./rig.ts"

const soon = () => new Date(Date.now() + 3_600_000)

export const endingsSuite = (backend: Backend): void => {
  const rig = useRig(backend)

  /** A saga whose last step waits for its signal. */
  const makeSaga = (hold: "step" | "sleep" | "child") => {
    const undone: Array<string> = []
    const held = Promise.withResolvers<AbortSignal>()
    const child = defineWorkflow(rig.name("child"), async (ctx) => {
      await ctx.step("child step", ({ signal }) => {
        held.resolve(signal)
        return aborted(signal)
      })
    })
    const saga = defineWorkflow(rig.name("saga"), async (ctx) => {
      for (const name of ["a", "b"]) {
        await ctx.step(name, { run: () => name, compensate: () => void undone.push(name) })
      }
      if (hold === "sleep") await ctx.sleep("long", { days: 1 })
      if (hold === "child") await ctx.workflow(child)
      if (hold === "step") {
        await ctx.step("hold", ({ signal }) => {
          held.resolve(signal)
          return aborted(signal)
        })
      }
    })
    return { saga, child, undone, held: held.promise }
  }

  const cancelled = async (engine: DurableEngine, id: string) => {
    const status = await untilStatus(engine, id, "cancelled")
    expect(status.error).toBeInstanceOf(FlowlyError)
    expect(status.error).toMatchObject({ code: "RunCancelled" })
    return status
  }

  describe("cancel", () => {
    it("ends a run that nobody has started yet at once, with its reason", async () => {
      const workflow = defineWorkflow(rig.name("pending"), () => 1)
      const engine = rig.engine([workflow])
      const handle = await engine.trigger(workflow)
      expect(await engine.cancel(handle.workflowRunId, { reason: "changed my mind" })).toBe(
        "cancelled",
      )
      const status = await cancelled(engine, handle.workflowRunId)
      expect((status.error as Error).message).toContain("changed my mind")
      const error = await refusal(handle.result())
      expect(error).toMatchObject({ code: "RunFailed", details: { status: "cancelled" } })
      expect(error.message).toContain("changed my mind")
    })

    it("ends a run that was scheduled for later", async () => {
      const workflow = defineWorkflow(rig.name("scheduled"), () => 1)
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow, { scheduledFor: soon() })
      expect(await engine.cancel(handle.workflowRunId)).toBe("cancelled")
      await cancelled(engine, handle.workflowRunId)
    })

    it("wakes a sleeping run, undoes its steps, and ends it", async () => {
      const { saga, undone } = makeSaga("sleep")
      const engine = await rig.started([saga])
      const handle = await engine.trigger(saga)
      await untilStatus(engine, handle.workflowRunId, "sleeping")
      expect(await engine.cancel(handle.workflowRunId)).toBe("requested")
      const status = await untilStatus(engine, handle.workflowRunId, "compensated")
      expect(status.error).toMatchObject({ code: "RunCancelled" })
      expect(undone).toEqual(["b", "a"])
    })

    it("undoes nothing when the caller says so", async () => {
      const { saga, undone } = makeSaga("sleep")
      const engine = await rig.started([saga])
      const handle = await engine.trigger(saga)
      await untilStatus(engine, handle.workflowRunId, "sleeping")
      await engine.cancel(handle.workflowRunId, { compensate: false, reason: "stop" })
      await cancelled(engine, handle.workflowRunId)
      expect(undone).toEqual([])
    })

    it("reaches a running step on another engine: its signal aborts", async () => {
      const { saga, undone, held } = makeSaga("step")
      const engine = await rig.started([saga])
      const other = rig.engine([saga])
      const handle = await engine.trigger(saga)
      const signal = await held
      expect(await other.cancel(handle.workflowRunId)).toBe("requested")
      await until(() => signal.aborted, "the abort")
      await untilStatus(other, handle.workflowRunId, "compensated")
      expect(undone).toEqual(["b", "a"])
    })

    it("of a parent that waits takes its children along", async () => {
      const { saga, child, undone, held } = makeSaga("child")
      const engine = await rig.started([saga, child])
      const handle = await engine.trigger(saga)
      const signal = await held
      await untilStatus(engine, handle.workflowRunId, "waiting")
      await engine.cancel(handle.workflowRunId)
      await until(() => signal.aborted, "the abort of the child's step")
      await untilStatus(engine, handle.workflowRunId, "compensated")
      expect(undone).toEqual(["b", "a"])
    })

    it("of a run without anything to undo ends it as cancelled", async () => {
      const held = Promise.withResolvers<void>()
      const workflow = defineWorkflow(rig.name("plain"), (ctx) =>
        ctx.step("hold", ({ signal }) => {
          held.resolve()
          return aborted(signal)
        }),
      )
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      await held.promise
      expect(await engine.cancel(handle.workflowRunId)).toBe("requested")
      expect(await refusal(handle.result())).toMatchObject({
        code: "RunFailed",
        details: { status: "cancelled" },
        cause: { code: "RunCancelled" },
      })
    })

    it("is refused of a run that has ended, is undoing, or does not exist", async () => {
      const undoing = Promise.withResolvers<void>()
      const release = Promise.withResolvers<void>()
      const done = defineWorkflow(rig.name("done"), () => 1)
      const saga = defineWorkflow(rig.name("undoing"), async (ctx) => {
        await ctx.step("a", {
          run: () => 1,
          compensate: async () => {
            undoing.resolve()
            await release.promise
          },
        })
        throw new Error("undo")
      })
      const engine = await rig.started([done, saga])
      const first = await engine.trigger(done)
      await first.result()
      expect(await refusal(engine.cancel(first.workflowRunId))).toMatchObject({
        code: "RunStateConflict",
        message: expect.stringContaining("already ended"),
      })
      const second = await engine.trigger(saga)
      await undoing.promise
      expect(await refusal(engine.cancel(second.workflowRunId))).toMatchObject({
        code: "RunStateConflict",
        message: expect.stringContaining("already undoing"),
      })
      expect(await second.status()).toMatchObject({
        status: "compensating",
        error: { message: "undo" },
      })
      release.resolve()
      await untilStatus(engine, second.workflowRunId, "compensated")
      for (const id of ["019a0000-0000-7000-8000-000000000000", "not an id"]) {
        expect(await refusal(engine.cancel(id))).toMatchObject({ code: "RunNotFound" })
      }
    })

    it("stays: a stopping worker does not bring a cancelled run back to life", async () => {
      const held = Promise.withResolvers<void>()
      const release = Promise.withResolvers<void>()
      let ran = 0
      const workflow = defineWorkflow(rig.name("no resurrection"), async (ctx) => {
        await ctx.step("deaf", async () => {
          ran++
          held.resolve()
          await release.promise
        })
      })
      const engine = await rig.started([workflow], { worker: { shutdownTimeoutMs: 50 } })
      const other = rig.engine([workflow])
      const handle = await engine.trigger(workflow)
      await held.promise
      await other.cancel(handle.workflowRunId)
      await engine.stop()
      release.resolve()
      const next = await rig.started([workflow])
      await cancelled(next, handle.workflowRunId)
      expect(ran).toBe(1)
    })
  })

  describe("a run's deadline", () => {
    /** For a run to come, on a busy machine, as far as its test wants it before its deadline. */
    const enoughMs = 1000

    it("ends an executing run, and its step hears of it", async () => {
      const signals: Array<AbortSignal> = []
      const workflow = defineWorkflow(rig.name("executing"), (ctx) =>
        ctx.step("hold", ({ signal }) => {
          signals.push(signal)
          return aborted(signal)
        }),
      )
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow, { timeoutMs: enoughMs })
      expect(await refusal(handle.result())).toMatchObject({
        code: "RunFailed",
        details: { status: "failed" },
        cause: { code: "RunTimedOut" },
      })
      await until(() => signals[0]?.aborted, "the abort")
    })

    it("makes a dead letter of a run that may be tried several times: there is no time for it", async () => {
      const workflow = defineWorkflow(rig.name("late"), (ctx) => ctx.sleep("long", "1 day"))
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow, { timeoutMs: 50, maxAttempts: 3 })
      expect(await refusal(handle.result())).toMatchObject({
        details: { status: "dead_letter" },
        cause: { code: "RunTimedOut" },
      })
      expect((await handle.status())?.attempt).toBe(1)
    })

    it("ends a sleeping run, and undoes its steps", async () => {
      const { saga, undone } = makeSaga("sleep")
      const engine = await rig.started([saga])
      const handle = await engine.trigger(saga, { timeoutMs: enoughMs })
      const error = await refusal(handle.result())
      expect(error).toMatchObject({
        details: { status: "compensated" },
        cause: { code: "RunTimedOut" },
      })
      expect(undone).toEqual(["b", "a"])
    })

    it("does not undo a run that ended in time, nor end it twice", async () => {
      const workflow = defineWorkflow(rig.name("in time"), async (ctx) => ctx.step("a", () => 1))
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow, { timeoutMs: enoughMs })
      expect(await handle.result()).toBe(1)
      await new Promise((resolve) => setTimeout(resolve, enoughMs + 100))
      expect(await handle.status()).toMatchObject({ status: "completed", result: 1 })
    })

    it("stands, though a deaf step completes after it", async () => {
      const started = Promise.withResolvers<void>()
      const release = Promise.withResolvers<void>()
      const ended = Promise.withResolvers<void>()
      const workflow = defineWorkflow(rig.name("deaf"), async (ctx) => {
        await ctx.step("deaf", async () => {
          started.resolve()
          await release.promise
          ended.resolve()
          return "too late"
        })
        return "completed"
      })
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow, { timeoutMs: enoughMs })
      await started.promise
      expect((await refusal(handle.result())).details["status"]).toBe("failed")
      release.resolve()
      await ended.promise
      await engine.stop()
      const other = rig.engine([workflow])
      expect(await other.getStatus(handle.workflowRunId)).toMatchObject({
        status: "failed",
        error: { code: "RunTimedOut" },
      })
    })

    it("of a child fails the child alone", async () => {
      const child = defineWorkflow(rig.name("slow"), (ctx) => ctx.sleep("long", "1 day"))
      const parent = defineWorkflow(rig.name("parent"), (ctx) =>
        ctx
          .workflow(child, undefined, { timeoutMs: 100 })
          .catch((error: FlowlyError) => [error.code, (error.cause as { _tag?: string })._tag]),
      )
      const engine = await rig.started([child, parent])
      expect(await (await engine.trigger(parent)).result()).toEqual(["ChildFailed", "RunTimedOut"])
    })
  })

  describe("attempts", () => {
    it("run the whole body again, without repeating what was completed", async () => {
      const ran: Array<string> = []
      const workflow = defineWorkflow(rig.name("twice"), async (ctx) => {
        await ctx.step("before", () => void ran.push(`before ${ctx.attempt}`))
        await ctx.step("flaky", () => {
          ran.push(`flaky ${ctx.attempt}`)
          if (ctx.attempt < 2) throw new Error("not yet")
        })
        return ctx.attempt
      })
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow, { maxAttempts: 3 })
      expect(await handle.result()).toBe(2)
      expect(ran).toEqual(["before 1", "flaky 1", "flaky 2"])
      expect(await handle.status()).toMatchObject({ status: "completed", attempt: 2 })
    })

    it("used up make a dead letter; a retry carries what was done", async () => {
      const ran: Array<string> = []
      let broken = true
      const workflow = defineWorkflow(rig.name("dead"), async (ctx) => {
        await ctx.step("before", () => void ran.push("before"))
        const [, after] = await Promise.all([
          ctx.step("charge", () => {
            ran.push("charge")
            if (broken) throw new Error("broken")
          }),
          ctx.step("beside", () => {
            ran.push("beside")
            return "beside"
          }),
        ])
        return after
      })
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow, { maxAttempts: 1 })
      expect(await refusal(handle.result())).toMatchObject({ details: { status: "dead_letter" } })
      const letters = await engine.getDeadLetterRuns({ workflow: workflow.name })
      expect(letters).toMatchObject([
        {
          workflowRunId: handle.workflowRunId,
          status: "dead_letter",
          error: { message: "broken" },
        },
      ])
      expect(await handle.status()).toMatchObject({ failedStep: "charge" })

      broken = false
      await engine.retryDeadLetter(handle.workflowRunId)
      expect(await handle.result()).toBe("beside")
      expect(ran.filter((name) => name === "before")).toHaveLength(1)
      expect(ran.filter((name) => name === "charge")).toHaveLength(2)
      expect(await engine.getDeadLetterRuns({ workflow: workflow.name })).toEqual([])
      expect(await handle.status()).toMatchObject({ status: "completed", attempt: 2 })
    })

    it("record a step that succeeds after it had failed: replay does not run it again", async () => {
      const gate = makeGate()
      let ran = 0
      const workflow = defineWorkflow(rig.name("failed, then well"), async (ctx) => {
        const value = await ctx.step("flaky", () => {
          if (++ran === 1) throw new Error("first")
          return ran
        })
        await ctx.step("gate", gate.step)
        return value
      })
      const { handle } = await rig.replay(workflow, gate, { maxAttempts: 2 })
      expect(await handle.result()).toBe(2)
      expect(ran).toBe(2)
    })

    it("retry what failed, though a later failure was caught", async () => {
      const ran: Array<string> = []
      const failOnce = (name: string) => () => {
        ran.push(name)
        if (ran.filter((one) => one === name).length === 1) throw new Error(name)
      }
      const child = defineWorkflow(rig.name("flaky child"), async (ctx) => {
        await ctx.step("child", failOnce("child"))
      })
      const workflow = defineWorkflow(rig.name("late"), async (ctx) => {
        const failure: unknown = await ctx.workflow(child).catch((error: unknown) => error)
        await ctx.step("cleanup", failOnce("cleanup")).catch(() => undefined)
        if (failure !== undefined) throw failure
        return "well"
      })
      const engine = await rig.started([workflow, child])
      const handle = await engine.trigger(workflow, { maxAttempts: 2 })
      expect(await handle.result()).toBe("well")
      expect(ran.filter((name) => name === "child")).toHaveLength(2)
    })

    it("pages dead letters, newest first", async () => {
      const workflow = defineWorkflow(rig.name("letters"), () => {
        throw new Error("no")
      })
      const engine = await rig.started([workflow])
      const ids: Array<string> = []
      for (let i = 0; i < 3; i++) {
        const handle = await engine.trigger(workflow, { maxAttempts: 1 })
        await refusal(handle.result())
        ids.unshift(handle.workflowRunId)
      }
      // one that may be tried once only has failed, and is no dead letter
      await refusal((await engine.trigger(workflow)).result())
      const page = await engine.getDeadLetterRuns({ workflow: workflow.name, limit: 2 })
      expect(page.map((one) => one.workflowRunId)).toEqual(ids.slice(0, 2))
      const rest = await engine.getDeadLetterRuns({ workflow: workflow.name, before: ids[1]! })
      expect(rest.map((one) => one.workflowRunId)).toEqual(ids.slice(2))
      for (const options of [{ limit: 0 }, { limit: NaN }, { before: "not an id" }]) {
        expect((await refusal(engine.getDeadLetterRuns(options))).code).toBe("InvalidInput")
      }
    })

    it("of a child are listed, and tried again, as any others", async () => {
      let broken = true
      const child = defineWorkflow(rig.name("dead child"), () => {
        if (broken) throw new Error("broken")
        return "well"
      })
      const parent = defineWorkflow(rig.name("bereaved"), (ctx) =>
        ctx.child(child, undefined, { maxAttempts: 1 }).catch((error: Error) => error.message),
      )
      const engine = await rig.started([parent, child])
      const handle = await engine.trigger(parent)
      expect(await handle.result()).toContain("dead_letter")
      const [letter, ...others] = await engine.getDeadLetterRuns({ workflow: child.name })
      expect([letter, others]).toMatchObject([{ status: "dead_letter" }, []])
      const { workflowRunId = "" } = letter ?? {}
      const { parentRunId } = (await engine.getRun(workflowRunId)) ?? {}
      expect(parentRunId).toBe(handle.workflowRunId)
      broken = false
      await engine.retryDeadLetter(workflowRunId)
      expect(await engine.handle(child, workflowRunId).result()).toBe("well")
      expect(await engine.getDeadLetterRuns({ workflow: child.name })).toEqual([])
    })

    it("cannot be had of a run that is well, is compensated, or does not exist", async () => {
      const fine = defineWorkflow(rig.name("fine"), () => 1)
      const saga = defineWorkflow(rig.name("undone"), async (ctx) => {
        await ctx.step("a", { run: () => 1, compensate: () => undefined })
        throw new Error("no")
      })
      const engine = await rig.started([fine, saga])
      for (const handle of [await engine.trigger(fine), await engine.trigger(saga)]) {
        await handle.result().catch(() => undefined)
        expect((await refusal(engine.retryDeadLetter(handle.workflowRunId))).code).toBe(
          "RunStateConflict",
        )
      }
      expect((await refusal(engine.retryDeadLetter("nobody"))).code).toBe("RunNotFound")
    })
  })

  describe("compensation", () => {
    it("is tried again when it fails, and one that gives up does not stop the others", async () => {
      const undone: Array<string> = []
      const workflow = defineWorkflow(rig.name("stubborn"), async (ctx) => {
        await ctx.step("first", { run: () => 1, compensate: () => void undone.push("first") })
        await ctx.step("flaky", {
          run: () => 2,
          compensate: (_, { attempt }) => {
            undone.push(`flaky ${attempt}`)
            if (attempt < 2) throw new Error("again")
          },
        })
        throw new Error("undo it all")
      })
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      expect(await refusal(handle.result())).toMatchObject({ details: { status: "compensated" } })
      expect(undone).toEqual(["flaky 1", "flaky 2", "first"])
    })

    it("goes on after the engine that began it has stopped", async () => {
      const undone: Array<string> = []
      const gate = makeGate()
      const workflow = defineWorkflow(rig.name("handed over"), async (ctx) => {
        await ctx.step("a", { run: () => "a", compensate: () => void undone.push("a") })
        await ctx.step("b", {
          run: () => "b",
          compensate: async (_, info) => {
            await gate.step(info)
            undone.push("b")
          },
        })
        await ctx.step("c", { run: () => "c", compensate: () => void undone.push("c") })
        throw new Error("no")
      })
      const { handle } = await rig.replay(workflow, gate, {})
      expect(await refusal(handle.result())).toMatchObject({ details: { status: "compensated" } })
      expect(undone).toEqual(["c", "b", "a"])
    })

    it("also undoes a step that completed while the run was failing", async () => {
      const undone: Array<unknown> = []
      const failed = Promise.withResolvers<void>()
      const workflow = defineWorkflow(rig.name("slow charge"), async (ctx) => {
        await Promise.all([
          ctx.step("slow charge", {
            run: async ({ signal }) => {
              await aborted(signal).catch(() => undefined)
              return "charged"
            },
            compensate: (result) => void undone.push(result),
          }),
          ctx.step("fails", () => {
            failed.resolve()
            throw new Error("no")
          }),
        ])
      })
      const engine = await rig.started([workflow])
      expect(await refusal((await engine.trigger(workflow)).result())).toMatchObject({
        details: { status: "compensated" },
      })
      expect(undone).toEqual(["charged"])
    })

    it("never begins because the engine stops", async () => {
      const undone: Array<string> = []
      const gate = makeGate()
      const workflow = defineWorkflow(rig.name("graceful"), async (ctx) => {
        await ctx.step("a", { run: () => "a", compensate: () => void undone.push("a") })
        await ctx.step("gate", gate.step)
        return "finished"
      })
      const { handle } = await rig.replay(workflow, gate, {})
      expect(await handle.result()).toBe("finished")
      expect(undone).toEqual([])
    })
  })
}
