/** The operator's verbs: terminate, pause, resume, wake, reschedule, fork; by id and by filter. */
import { describe, expect, it } from "vitest"
import { defineWorkflow, type DurableEngine } from "../../src/index.ts"
import { aborted, type Backend, refusal, until, untilStatus, useRig } from "./rig.ts"

const hour = 3_600_000

export const controlSuite = (backend: Backend): void => {
  const rig = useRig(backend)

  /** Two steps at once, each under the test's thumb, then a third. */
  const makeTwo = () => {
    const ran: Array<string> = []
    const begun = {
      a: Promise.withResolvers<AbortSignal>(),
      b: Promise.withResolvers<AbortSignal>(),
    }
    const may = { a: Promise.withResolvers<void>(), b: Promise.withResolvers<void>() }
    const workflow = defineWorkflow(rig.name("two"), async (ctx) => {
      const hold = (name: "a" | "b") =>
        ctx.step(name, async ({ signal }) => {
          ran.push(name)
          begun[name].resolve(signal)
          await may[name].promise
          return name
        })
      const both = await Promise.all([hold("a"), hold("b")])
      return [...both, await ctx.step("c", () => (ran.push("c"), "c"))]
    })
    return { workflow, ran, begun, may }
  }

  const log = async (engine: DurableEngine, id: string) =>
    (await engine.getControlLog(id)).map(({ verb, reason }) => [verb, reason])

  describe("what is no id", () => {
    const workflow = defineWorkflow("no id", () => 1)
    const verbs: Readonly<Record<string, (engine: DurableEngine, id: any) => unknown>> = {
      cancel: (engine, id) => engine.cancel(id),
      terminate: (engine, id) => engine.terminate(id),
      pause: (engine, id) => engine.pause(id),
      resume: (engine, id) => engine.resume(id),
      retry: (engine, id) => engine.retry(id),
      wake: (engine, id) => engine.wake(id),
      reschedule: (engine, id) => engine.reschedule(id, new Date()),
      fork: (engine, id) => engine.fork(id),
      retryDeadLetter: (engine, id) => engine.retryDeadLetter(id),
      retryCompensation: (engine, id) => engine.retryCompensation(id),
      skipCompensation: (engine, id) => engine.skipCompensation(id),
      sendEvent: (engine, id) => engine.sendEvent(id, "event"),
      handle: async (engine, id) => engine.handle(workflow, id),
    }

    it.each(Object.keys(verbs))("is refused by %s, with what it is", async (verb) => {
      const engine = rig.engine([workflow])
      for (const id of [undefined, null, 7, { workflowRunId: "x" }]) {
        const error = await refusal(verbs[verb]!(engine, id) as Promise<unknown>)
        expect(error).toMatchObject({ code: "InvalidInput", details: { field: "workflowRunId" } })
        expect(error.message).toBe(`workflowRunId: must be text, not ${typeof id}`)
      }
    })
  })

  describe("pause", () => {
    it("lets executing steps end and be recorded, starts nothing, and resume goes on", async () => {
      const { workflow, ran, begun, may } = makeTwo()
      const engine = await rig.started([workflow])
      const { workflowRunId, result } = await engine.trigger(workflow)
      const signals = await Promise.all([begun.a.promise, begun.b.promise])
      expect(await engine.pause(workflowRunId, { reason: "audit" })).toBe("requested")
      may.a.resolve()
      await until(async () => (await engine.getStatus(workflowRunId))?.status === "running")
      may.b.resolve()
      const paused = await untilStatus(engine, workflowRunId, "paused")
      expect(paused.error).toMatchObject({ code: "RunPaused", details: { reason: "audit" } })
      expect(signals.map((signal) => signal.aborted)).toEqual([false, false])
      expect(ran).toEqual(["a", "b"])
      await engine.resume(workflowRunId, { reason: "done" })
      expect(await result()).toEqual(["a", "b", "c"])
      expect(ran).toEqual(["a", "b", "c"])
      expect(await log(engine, workflowRunId)).toEqual([
        ["pause", "audit"],
        ["resume", "done"],
      ])
    })

    it("that is withdrawn in time is none", async () => {
      const { workflow, begun, may, ran } = makeTwo()
      const engine = await rig.started([workflow])
      const { workflowRunId, result } = await engine.trigger(workflow)
      await Promise.all([begun.a.promise, begun.b.promise])
      await engine.pause(workflowRunId)
      await engine.resume(workflowRunId)
      may.a.resolve()
      may.b.resolve()
      expect(await result()).toEqual(["a", "b", "c"])
      expect(ran).toEqual(["a", "b", "c"])
      expect(await refusal(engine.resume(workflowRunId))).toMatchObject({
        code: "RunStateConflict",
      })
    })

    it("of a sleeping run holds it beyond its time, and no try of a step begins", async () => {
      let tries = 0
      const workflow = defineWorkflow(rig.name("naps"), async (ctx) => {
        await ctx.sleep("nap", { hours: 1 })
        return ctx.step("after", () => ++tries)
      })
      const engine = await rig.started([workflow])
      const { workflowRunId, result } = await engine.trigger(workflow)
      await untilStatus(engine, workflowRunId, "sleeping")
      expect(await engine.pause(workflowRunId)).toBe("paused")
      await engine.wake(workflowRunId)
      expect((await engine.getStatus(workflowRunId))?.status).toBe("paused")
      expect(tries).toBe(0)
      await engine.resume(workflowRunId)
      expect(await result()).toBe(1)
    })

    it("between two tries of a step lets no other try begin", async () => {
      const first = Promise.withResolvers<void>()
      const other = Promise.withResolvers<void>()
      let tries = 0
      const workflow = defineWorkflow(rig.name("tries"), async (ctx) => {
        const flaky = ctx.step("flaky", {
          run: () => {
            tries++
            first.resolve()
            if (tries === 1) throw new Error("again")
            return tries
          },
          retry: { maxAttempts: 3, initialDelayMs: 300, backoff: "fixed" },
        })
        return (await Promise.all([flaky, ctx.step("other", () => other.promise)]))[0]
      })
      const engine = await rig.started([workflow])
      const { workflowRunId, result } = await engine.trigger(workflow)
      await first.promise
      await engine.pause(workflowRunId)
      // heard within a poll of 50 ms, long before the try is due
      await new Promise((resolve) => setTimeout(resolve, 900))
      expect(tries).toBe(1)
      other.resolve()
      await untilStatus(engine, workflowRunId, "paused")
      expect(tries).toBe(1)
      await engine.resume(workflowRunId)
      expect(await result()).toBe(2)
    })

    it("gives way to a cancel", async () => {
      const { workflow, begun, may } = makeTwo()
      const engine = await rig.started([workflow])
      const { workflowRunId } = await engine.trigger(workflow)
      await Promise.all([begun.a.promise, begun.b.promise])
      await engine.pause(workflowRunId)
      expect(await engine.cancel(workflowRunId)).toBe("requested")
      may.a.resolve()
      may.b.resolve()
      await untilStatus(engine, workflowRunId, "cancelled")
    })

    it("of a run that undoes stops between two undos, and resume undoes the rest once", async () => {
      const undone: Array<string> = []
      const begun = Promise.withResolvers<void>()
      const may = Promise.withResolvers<void>()
      const workflow = defineWorkflow(rig.name("undoes"), async (ctx) => {
        const undo = (name: string, wait?: Promise<void>) =>
          ctx.step(name, {
            run: () => name,
            compensate: async () => {
              undone.push(name)
              begun.resolve()
              await wait
            },
          })
        await undo("a")
        await undo("b", may.promise)
        throw new Error("no")
      })
      const engine = await rig.started([workflow])
      const { workflowRunId } = await engine.trigger(workflow)
      await begun.promise
      expect(await engine.pause(workflowRunId)).toBe("requested")
      // the holder must have heard before its undo ends
      await new Promise((resolve) => setTimeout(resolve, 500))
      may.resolve()
      await untilStatus(engine, workflowRunId, "paused")
      expect(undone).toEqual(["b"])
      await engine.resume(workflowRunId)
      await untilStatus(engine, workflowRunId, "compensated")
      expect(undone).toEqual(["b", "a"])
    })

    it("stands while no worker runs, and for the worker that comes", async () => {
      let ran = 0
      const workflow = defineWorkflow(rig.name("later"), (ctx) => ctx.step("s", () => ++ran))
      const engine = rig.engine([workflow])
      const { workflowRunId, result } = await engine.trigger(workflow)
      expect(await engine.pause(workflowRunId)).toBe("paused")
      await engine.start()
      const witness = await engine.trigger(workflow)
      await witness.result()
      expect((await engine.getStatus(workflowRunId))?.status).toBe("paused")
      await engine.resume(workflowRunId)
      expect(await result()).toBe(2)
    })
  })

  describe("terminate", () => {
    it("ends a run at once and undoes nothing; its step is aborted and changes nothing", async () => {
      const undone: Array<string> = []
      const begun = Promise.withResolvers<AbortSignal>()
      const workflow = defineWorkflow(rig.name("doomed"), async (ctx) => {
        await ctx.step("a", { run: () => 1, compensate: () => void undone.push("a") })
        await ctx.step("hold", ({ signal }) => (begun.resolve(signal), aborted(signal)))
      })
      const engine = await rig.started([workflow])
      const { workflowRunId, result } = await engine.trigger(workflow)
      const signal = await begun.promise
      await engine.terminate(workflowRunId, { reason: "enough" })
      const status = await engine.getStatus(workflowRunId)
      expect(status).toMatchObject({ status: "cancelled", error: { code: "RunTerminated" } })
      expect((await refusal(result())).message).toContain("enough")
      await until(() => signal.aborted, "the abort of the step")
      expect(undone).toEqual([])
      expect(await refusal(engine.terminate(workflowRunId))).toMatchObject({
        code: "RunStateConflict",
      })
      expect(await log(engine, workflowRunId)).toEqual([["terminate", "enough"]])
    })

    it("of a parent cancels its child; of a child fails its parent's wait", async () => {
      const begun: Array<string> = []
      const child = defineWorkflow(rig.name("child"), async (ctx) => {
        await ctx.step("hold", ({ signal }) => (begun.push(ctx.workflowRunId), aborted(signal)))
      })
      const parent = defineWorkflow(rig.name("parent"), async (ctx) => {
        await ctx.workflow(child)
      })
      const engine = await rig.started([parent, child])
      const first = await engine.trigger(parent)
      const second = await engine.trigger(parent)
      await until(() => begun.length === 2)
      await untilStatus(engine, first.workflowRunId, "waiting")
      await untilStatus(engine, second.workflowRunId, "waiting")
      await engine.terminate(first.workflowRunId)
      const [childOfFirst] = begun
      const children = await Promise.all(
        begun.map(async (id) => [id, (await engine.getStatus(id))?.status] as const),
      )
      expect(children.length).toBe(2)
      await until(async () => {
        const statuses = await Promise.all(begun.map((id) => engine.getStatus(id)))
        return statuses.filter((one) => one?.status === "cancelled").length === 1
      })
      const statuses = await Promise.all(begun.map((id) => engine.getStatus(id)))
      const left = statuses.find((one) => one?.status === "running")
      await engine.terminate(left?.workflowRunId ?? childOfFirst ?? "")
      const error = await refusal(second.result())
      expect(error.cause).toMatchObject({ code: "ChildFailed" })
    })
  })

  describe("wake", () => {
    it("ends a long sleep of a parked run", async () => {
      const workflow = defineWorkflow(rig.name("nap"), async (ctx) => {
        await ctx.sleep("nap", { days: 1 })
        return "awake"
      })
      const engine = await rig.started([workflow])
      const { workflowRunId, result } = await engine.trigger(workflow)
      await untilStatus(engine, workflowRunId, "sleeping")
      await engine.wake(workflowRunId, { reason: "now" })
      expect(await result()).toBe("awake")
      expect(await log(engine, workflowRunId)).toEqual([["wake", "now"]])
      expect(await refusal(engine.wake(workflowRunId))).toMatchObject({ code: "RunStateConflict" })
    })

    it("ends a sleep beside a step that executes", async () => {
      const may = Promise.withResolvers<void>()
      const slept = Promise.withResolvers<void>()
      const begun = Promise.withResolvers<void>()
      const workflow = defineWorkflow(rig.name("beside"), async (ctx) => {
        await Promise.all([
          ctx.step("hold", () => (begun.resolve(), may.promise)),
          ctx.sleep("nap", { days: 1 }).then(() => slept.resolve()),
        ])
      })
      const engine = await rig.started([workflow])
      const { workflowRunId, result } = await engine.trigger(workflow)
      await begun.promise
      await until(async () => {
        await engine.wake(workflowRunId)
        return Promise.race([
          slept.promise.then(() => true),
          new Promise<false>((resolve) => setTimeout(() => resolve(false), 200)),
        ])
      })
      may.resolve()
      await result()
    })

    it("ends a long backoff, with the attempt it was at", async () => {
      const attempts: Array<number> = []
      const workflow = defineWorkflow(rig.name("backoff"), (ctx) =>
        ctx.step("flaky", {
          run: ({ attempt }) => {
            attempts.push(attempt)
            if (attempt === 1) throw new Error("again")
            return "well"
          },
          retry: { maxAttempts: 2, initialDelayMs: hour, maxDelayMs: hour },
        }),
      )
      const engine = await rig.started([workflow])
      const { workflowRunId, result } = await engine.trigger(workflow)
      await untilStatus(engine, workflowRunId, "sleeping")
      await engine.wake(workflowRunId)
      expect(await result()).toBe("well")
      expect(attempts).toEqual([1, 2])
    })
  })

  describe("reschedule", () => {
    it("moves a run that has not started, and an open sleep", async () => {
      const workflow = defineWorkflow(rig.name("moved"), async (ctx) => {
        await ctx.sleep("nap", { days: 1 })
        return "awake"
      })
      const engine = await rig.started([workflow])
      const scheduledFor = new Date(Date.now() + 24 * hour)
      const { workflowRunId, result } = await engine.trigger(workflow, { scheduledFor })
      await engine.reschedule(workflowRunId, new Date())
      await untilStatus(engine, workflowRunId, "sleeping")
      await engine.reschedule(workflowRunId, new Date(), { sleep: "nap", reason: "early" })
      expect(await result()).toBe("awake")
      const [, entry] = await engine.getControlLog(workflowRunId)
      expect(entry).toMatchObject({ verb: "reschedule", reason: "early", detail: { sleep: "nap" } })
    })

    it("refuses what has no open sleep, and a date that is none", async () => {
      const workflow = defineWorkflow(rig.name("busy"), (ctx) =>
        ctx.step("hold", ({ signal }) => aborted(signal)),
      )
      const engine = await rig.started([workflow])
      const { workflowRunId } = await engine.trigger(workflow)
      await untilStatus(engine, workflowRunId, "running")
      const refused = await refusal(engine.reschedule(workflowRunId, new Date()))
      expect(refused).toMatchObject({ code: "RunStateConflict" })
      const invalid = await refusal(engine.reschedule(workflowRunId, new Date("no date")))
      expect(invalid).toMatchObject({ code: "InvalidInput", details: { field: "at" } })
      await engine.terminate(workflowRunId)
    })
  })

  describe("fork", () => {
    const makeLine = () => {
      const ran: Array<string> = []
      let broken = true
      const workflow = defineWorkflow(rig.name("line"), async (ctx, input: { n: number }) => {
        const ids = [ctx.uuid()]
        const a = await ctx.step("a", () => (ran.push("a"), input.n))
        await ctx.sleep("nap", 20)
        const b = await ctx.step("b", () => {
          ran.push("b")
          if (broken) throw new Error("broken")
          return input.n
        })
        return { a, b, ids: [...ids, ctx.uuid()] }
      })
      return { workflow, ran, repair: () => (broken = false) }
    }

    it("starts from a step of a failed run: what was done before is remembered", async () => {
      const { workflow, ran, repair } = makeLine()
      const engine = await rig.started([workflow])
      const { workflowRunId, result } = await engine.trigger(workflow, { input: { n: 1 } })
      await refusal(result())
      const before = await engine.getStatus(workflowRunId)
      repair()
      const fork = await engine.fork(workflowRunId, {
        from: "b",
        input: { n: 2 },
        reason: "repaired",
      })
      expect(fork.workflowRunId).not.toBe(workflowRunId)
      const outcome = await engine.handle(workflow, fork.workflowRunId).result()
      expect(outcome).toMatchObject({ a: 1, b: 2 })
      expect(ran).toEqual(["a", "b", "b"])
      expect(await engine.getStatus(workflowRunId)).toEqual(before)
      expect(await engine.getControlLog(workflowRunId)).toEqual([])
      expect((await engine.getControlLog(fork.workflowRunId))[0]).toMatchObject({
        verb: "fork",
        reason: "repaired",
        detail: { origin: workflowRunId, stepKey: "b" },
      })
    })

    it("of a completed run draws the same numbers, and may begin anywhere", async () => {
      const { workflow, ran, repair } = makeLine()
      repair()
      const engine = await rig.started([workflow])
      const { workflowRunId, result } = await engine.trigger(workflow, { input: { n: 1 } })
      const first = await result()
      const all = await engine.fork(workflowRunId)
      expect(await engine.handle(workflow, all.workflowRunId).result()).toEqual(first)
      expect(ran).toEqual(["a", "b"])
      const from = { position: 1 }
      const anew = await engine.fork(workflowRunId, { from, input: { n: 3 } })
      const third = await engine.handle(workflow, anew.workflowRunId).result()
      expect(third).toEqual({ ...first, a: 3, b: 3 })
      expect(ran).toEqual(["a", "b", "a", "b"])
    })

    it("from a step that has no outcome is refused", async () => {
      const { workflow } = makeLine()
      const engine = rig.engine([workflow])
      const { workflowRunId } = await engine.trigger(workflow, { input: { n: 1 } })
      const refused = await refusal(engine.fork(workflowRunId, { from: "b" }))
      expect(refused).toMatchObject({ code: "RunStateConflict" })
    })
  })

  describe("many runs", () => {
    it("are steered by a filter, and counted", async () => {
      const workflow = defineWorkflow(rig.name("many"), (ctx) => ctx.sleep("nap", { days: 1 }))
      const other = defineWorkflow(rig.name("other"), (ctx) => ctx.sleep("nap", { days: 1 }))
      const engine = rig.engine([workflow, other])
      const handles = await Promise.all(Array.from({ length: 7 }, () => engine.trigger(workflow)))
      const bystander = await engine.trigger(other)
      const filter = { workflow: workflow.name }
      const options = { reason: "maintenance" }
      expect(await engine.pauseMany(filter, options)).toEqual({ accepted: 7, refused: 0 })
      expect(await engine.resumeMany({ ...filter, status: "paused" })).toEqual({
        accepted: 7,
        refused: 0,
      })
      expect(await engine.wakeMany(filter)).toEqual({ accepted: 7, refused: 0 })
      const later = new Date(Date.now() + hour)
      expect((await engine.rescheduleMany(filter, later)).accepted).toBe(7)
      await engine.cancel(handles[0]?.workflowRunId ?? "")
      expect(await engine.cancelMany(filter)).toEqual({ accepted: 6, refused: 1 })
      expect(await engine.terminateMany(filter)).toEqual({ accepted: 0, refused: 7 })
      expect(await engine.retryMany({ ...filter, status: ["cancelled"] })).toEqual({
        accepted: 0,
        refused: 7,
      })
      const forks = await engine.forkMany(filter, { reason: "again" })
      expect(forks).toMatchObject({ accepted: 7, refused: 0 })
      expect(new Set(forks.workflowRunIds).size).toBe(7)
      expect((await engine.getStatus(bystander.workflowRunId))?.status).toBe("pending")
      expect(await engine.terminateMany({ workflow: other.name, status: "pending" })).toEqual({
        accepted: 1,
        refused: 0,
      })
    })

    it("each have what was asked with them: the reason, the sleep, whether to undo", async () => {
      const workflow = defineWorkflow(rig.name("asked"), async (ctx) => {
        await Promise.all([ctx.sleep("nap", { days: 1 }), ctx.sleep("rest", { days: 2 })])
      })
      const engine = await rig.started([workflow])
      const filter = { workflow: workflow.name }
      const ids = [await engine.trigger(workflow), await engine.trigger(workflow)].map(
        (run) => run.workflowRunId,
      )
      for (const id of ids) await untilStatus(engine, id, "sleeping")
      const at = new Date(Date.now() + hour)
      const verbs: ReadonlyArray<readonly [string, (reason: string) => Promise<unknown>]> = [
        ["reschedule", (reason) => engine.rescheduleMany(filter, at, { reason, sleep: "rest" })],
        ["pause", (reason) => engine.pauseMany(filter, { reason })],
        ["resume", (reason) => engine.resumeMany(filter, { reason })],
        ["cancel", (reason) => engine.cancelMany(filter, { reason, compensate: false })],
      ]
      for (const [verb, ask] of verbs) {
        expect(await ask(`why ${verb}`)).toEqual({ accepted: 2, refused: 0 })
        if (verb === "pause") for (const id of ids) await untilStatus(engine, id, "paused")
      }
      for (const id of ids) {
        expect(await engine.getControlLog(id)).toEqual([
          {
            verb: "reschedule",
            reason: "why reschedule",
            detail: { at: at.getTime(), sleep: "rest" },
            at: expect.any(Date),
          },
          { verb: "pause", reason: "why pause", detail: {}, at: expect.any(Date) },
          { verb: "resume", reason: "why resume", detail: {}, at: expect.any(Date) },
          {
            verb: "cancel",
            reason: "why cancel",
            detail: { compensate: false },
            at: expect.any(Date),
          },
        ])
        const [first] = await engine.getControlLog(id)
        expect(Math.abs((first?.at.getTime() ?? 0) - Date.now())).toBeLessThan(60_000)
      }
    })

    it("each have the reason of their end, their new attempt and their fork", async () => {
      const failing = defineWorkflow(rig.name("failing"), () => Promise.reject(new Error("no")))
      const waiting = defineWorkflow(rig.name("waiting"), () => undefined)
      const engine = await rig.started([failing])
      const client = rig.engine([failing, waiting])
      const failed = await engine.trigger(failing)
      await refusal(failed.result())
      const waits = await client.trigger(waiting)
      await client.wakeMany({ workflow: waiting.name }, { reason: "why wake" })
      await client.terminateMany({ workflow: waiting.name }, { reason: "why terminate" })
      const { workflowRunIds } = await client.forkMany(
        { workflow: waiting.name },
        { reason: "why fork", input: 5 },
      )
      await client.retryMany({ workflow: failing.name }, { reason: "why retry" })
      const newRunId = crypto.randomUUID()
      const fork = await client.fork(waits.workflowRunId, { newRunId, reason: "one", input: 6 })
      expect(fork.workflowRunId).toBe(newRunId)
      const logged = async (id: string | undefined) =>
        (await client.getControlLog(id ?? "")).map(({ verb, reason }) => [verb, reason])
      expect(await logged(waits.workflowRunId)).toEqual([
        ["wake", "why wake"],
        ["terminate", "why terminate"],
      ])
      expect(await logged(workflowRunIds[0])).toEqual([["fork", "why fork"]])
      expect((await client.getRun(workflowRunIds[0] ?? ""))?.input).toBe(5)
      expect(await logged(newRunId)).toEqual([["fork", "one"]])
      expect(await logged(failed.workflowRunId)).toEqual([["retry", "why retry"]])
    })

    it("are steered to the last, page by page", async () => {
      const workflow = defineWorkflow(rig.name("many"), () => undefined)
      const engine = rig.engine([workflow])
      await engine.triggerMany(
        workflow,
        Array.from({ length: 1100 }, () => ({})),
      )
      const all = { accepted: 1100, refused: 0 }
      expect(await engine.cancelMany({ workflow: workflow.name })).toEqual(all)
    })

    it("are never all runs by mistake", async () => {
      const engine = rig.engine([])
      for (const none of [{}, undefined, null] as ReadonlyArray<object>) {
        expect(await refusal(engine.cancelMany(none))).toMatchObject({
          code: "InvalidInput",
          details: { field: "filter" },
        })
      }
      const strange = { status: "gone" as "paused" }
      expect(await refusal(engine.pauseMany(strange))).toMatchObject({
        details: { field: "filter.status" },
      })
      const long = "r".repeat(1001)
      expect(await refusal(engine.pause("x", { reason: long }))).toMatchObject({
        code: "RunNotFound",
      })
      expect(await refusal(engine.pauseMany({ status: "paused" }, { reason: long }))).toMatchObject(
        {
          details: { field: "reason" },
        },
      )
    })
  })
}
