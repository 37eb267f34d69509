/** What a body may know of time and chance, and how its code may change under running runs. */
import { describe, expect, it } from "vitest"
import { defineWorkflow, type HookEvent, type WorkflowContext } from "../../src/index.ts"
import { type Backend, makeGate, refusal, thrown, useRig } from "./rig.ts"

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

export const determinismSuite = (backend: Backend): void => {
  const rig = useRig(backend)

  describe("ctx.now, ctx.random, ctx.uuid", () => {
    const drawing = () => {
      const gate = makeGate()
      const executions: Array<Array<unknown>> = []
      const workflow = defineWorkflow(rig.name("draws"), async (ctx) => {
        const drawn: Array<unknown> = []
        executions.push(drawn)
        const draw = () => drawn.push(ctx.now().getTime(), ctx.random(), ctx.uuid())
        draw()
        await ctx.step("a", () => 1)
        draw()
        await Promise.all(["x", "y"].map((name) => ctx.step(name, () => 1).then(draw)))
        await ctx.step("gate", gate.step)
        draw()
        return drawn
      })
      return { gate, executions, workflow }
    }

    it("are the same on replay", async () => {
      const { gate, executions, workflow } = drawing()
      const { handle } = await rig.replay(workflow, gate, {})
      const result = await handle.result()
      const [first, second] = executions
      expect(executions.length).toBe(2)
      expect(first?.length).toBe(12)
      expect(second).toEqual(result)
      expect(second?.slice(0, 12)).toEqual(first)
    })

    it("are a date of the store, a number from 0 to 1, a UUID; no two calls alike", async () => {
      const workflow = defineWorkflow(rig.name("draws"), async (ctx) => {
        const first = ctx.now()
        await ctx.step("a", () => 1)
        const dice = Array.from({ length: 50 }, () => ctx.random())
        const uuids = Array.from({ length: 50 }, () => ctx.uuid())
        return { first, second: ctx.now(), third: ctx.now(), dice, uuids }
      })
      const engine = await rig.started([workflow])
      const handles = [await engine.trigger(workflow), await engine.trigger(workflow)]
      const results = await Promise.all(handles.map((handle) => handle.result()))
      for (const [i, result] of results.entries()) {
        const status = await handles[i]?.status()
        expect(result.first).toEqual(status?.startedAt)
        expect(result.second.getTime()).toBeGreaterThanOrEqual(result.first.getTime())
        expect(result.third).toEqual(result.second)
        for (const one of result.dice) expect(one >= 0 && one < 1).toBe(true)
        for (const one of result.uuids) expect(one).toMatch(uuidPattern)
      }
      const all = results.flatMap(({ dice, uuids }) => (dice as Array<unknown>).concat(uuids))
      expect(new Set(all).size).toBe(200)
    })
  })

  describe("ctx inside of a step", () => {
    const asks: Readonly<Record<string, (ctx: WorkflowContext) => unknown>> = {
      step: (ctx) => ctx.step("inner", () => 1),
      "step, awaited": async (ctx) => (await ctx.step("inner", () => 1), 1),
      sleep: (ctx) => ctx.sleep("inner", 1),
      emit: (ctx) => ctx.emit("inner"),
      sideEffect: (ctx) => ctx.sideEffect("inner", () => 1),
      waitForEvent: (ctx) => ctx.waitForEvent("inner"),
      uuid: (ctx) => ctx.uuid(),
      random: (ctx) => ctx.random(),
    }
    const refused = {
      code: "InvalidInput",
      message: expect.stringMatching(/^ctx: is not for step "outer": a replay would not ask again/),
    }

    it.each(Object.keys(asks))("is refused, for a replay would not ask: %s", async (name) => {
      const workflow = defineWorkflow(rig.name("nested"), async (ctx) => {
        await ctx.step("outer", () => asks[name]!(ctx) as Promise<void>)
      })
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      expect((await refusal(handle.result())).cause).toMatchObject(refused)
      expect((await engine.getSteps(handle.workflowRunId)).map((one) => one.name)).toEqual([
        "outer",
      ])
    })

    it("may tell the time and how the run is doing; and is the function's again behind it", async () => {
      const workflow = defineWorkflow(rig.name("nested"), async (ctx) => {
        const told = await ctx.step("outer", () => {
          ctx.setStatus("in the step")
          return ctx.now()
        })
        const failed = await ctx
          .step("fails", () => {
            throw new Error("at once")
          })
          .catch(() => "caught")
        return [told instanceof Date, failed, await ctx.step("inner", () => 1), ctx.random() < 1]
      })
      const engine = await rig.started([workflow])
      expect(await (await engine.trigger(workflow)).result()).toEqual([true, "caught", 1, true])
    })
  })

  describe("ctx.patched", () => {
    it("keeps the old code for a run that had begun with it; a new run takes the new code", async () => {
      const name = rig.name("changed")
      const gate = makeGate()
      const old = defineWorkflow(name, async (ctx) => {
        const a = await ctx.step("a", () => "A")
        const b = await ctx.step("b", () => "B")
        await ctx.step("gate", gate.step)
        return [a, b]
      })
      const changed = defineWorkflow(name, async (ctx) => {
        const a = await ctx.step("a", () => "A")
        const isNew = await ctx.patched("b-twice")
        const b = isNew ? await ctx.step("b twice", () => "BB") : await ctx.step("b", () => "B")
        await ctx.step("gate", gate.step)
        return [a, b, isNew, await ctx.patched("b-twice")]
      })
      const first = await rig.started([old], { worker: { shutdownTimeoutMs: 20 } })
      const begun = await first.trigger(old)
      await gate.reached
      await first.stop()
      const second = await rig.started([changed])
      const result = await second.handle(changed, begun.workflowRunId).result()
      expect(result).toEqual(["A", "B", false, false])
      const fresh = await second.trigger(changed)
      expect(await fresh.result()).toEqual(["A", "BB", true, true])
    })

    it("refuses an id that is no name", async () => {
      const workflow = defineWorkflow(rig.name("bad"), (ctx) =>
        ctx.patched("").catch((e) => e.code),
      )
      const engine = await rig.started([workflow])
      expect(await (await engine.trigger(workflow)).result()).toBe("InvalidInput")
    })
  })
  describe("versions of a workflow", () => {
    /** Three definitions of one name. */
    const versions = () => {
      const name = rig.name("versioned")
      const say = (version: string) => (ctx: WorkflowContext) =>
        ctx.step("say", () => `by ${version}`)
      return {
        none: defineWorkflow(name, say("none")),
        one: defineWorkflow(name, say("one"), { version: "1" }),
        two: defineWorkflow(name, say("two"), { version: "2" }),
      }
    }

    it("live side by side in one engine, each with its own runs", async () => {
      const { none, one, two } = versions()
      const engine = await rig.started([none, one, two])
      const results = [none, two, one, two].map(async (definition) => {
        const handle = await engine.trigger(definition)
        return [await handle.result(), (await handle.status())?.version]
      })
      expect(await Promise.all(results)).toEqual([
        ["by none", undefined],
        ["by two", "2"],
        ["by one", "1"],
        ["by two", "2"],
      ])
    })

    it("a run waits, untouched, for a worker that has its version", async () => {
      const { none, one, two } = versions()
      const client = rig.engine([none, one])
      const handles = [await client.trigger(one), await client.trigger(none)] as const
      const newer = await rig.started([two])
      const run = await newer.trigger(two)
      expect(await run.result()).toBe("by two")
      // several polls, each of which would have taken them
      const other = await newer.trigger(two, { scheduledFor: new Date(Date.now() + 300) })
      expect(await other.result()).toBe("by two")
      for (const handle of handles) {
        const status = await client.getStatus(handle.workflowRunId)
        expect(status).toMatchObject({ status: "pending", attempt: 1 })
        expect(status?.startedAt).toBeUndefined()
      }
      await rig.started([one])
      expect(await handles[0].result()).toBe("by one")
      await rig.started([none])
      expect(await handles[1].result()).toBe("by none")
    })

    it("a run goes on with its version where a newer one is deployed beside it", async () => {
      const name = rig.name("versioned")
      const gate = makeGate()
      const one = defineWorkflow(
        name,
        async (ctx) => [await ctx.step("old", () => "old"), await ctx.step("gate", gate.step)],
        { version: "1" },
      )
      const two = defineWorkflow(name, (ctx) => ctx.step("new", () => "new"), { version: "2" })
      const { engine, handle } = await rig.replay(one, gate, {}, [two])
      expect(await handle.result()).toEqual(["old", "through"])
      expect(await (await engine.trigger(two)).result()).toBe("new")
    })

    it("a child, and a schedule, are of the version they were given", async () => {
      const { none, one, two } = versions()
      const parent = defineWorkflow(rig.name("parent"), async (ctx) => [
        await ctx.workflow(two),
        await ctx.workflow(one),
        await ctx.workflow(none),
      ])
      const engine = await rig.started([parent, none, one, two])
      expect(await (await engine.trigger(parent)).result()).toEqual(["by two", "by one", "by none"])
      const key = rig.name("key")
      const ticked = Promise.withResolvers<HookEvent>()
      engine.hook("workflow:completed", (event) => {
        if (event.workflow === two.name) ticked.resolve(event)
      })
      await engine.schedule(two, { key, cron: "* * * * * *" })
      const { workflowRunId } = await ticked.promise
      await engine.unschedule(key)
      const status = await engine.getStatus(workflowRunId)
      expect(status).toMatchObject({ status: "completed", version: "2", result: "by two" })
      // the tick's nominal instant
      expect(status?.scheduledFor?.getMilliseconds()).toBe(0)
      expect(status?.scheduledFor?.getTime()).toBeLessThanOrEqual(status?.createdAt.getTime() ?? 0)
    })

    it("two definitions of one version are refused, and so is one that is not registered", async () => {
      const { none, one, two } = versions()
      const twice = defineWorkflow(one.name, () => "again", { version: "1" })
      expect(thrown(() => rig.engine([none, one, twice]))).toMatchObject({
        code: "DuplicateWorkflow",
        message: expect.stringContaining('version "1"'),
        details: { workflow: one.name, version: "1" },
      })
      const engine = rig.engine([none, one])
      const refused = await refusal(engine.trigger(two))
      expect(refused).toMatchObject({ code: "UnknownWorkflow", details: { version: "2" } })
      expect(refused.message).toContain(`"${one.name}" in version "1"`)
      const another = await refusal(engine.trigger(twice))
      expect(another.message).toContain("another definition")
    })
  })
}
