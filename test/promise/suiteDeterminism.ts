/** What a body may know of time and chance, and how its code may change under running runs. */
import { describe, expect, it } from "vitest"
import { defineWorkflow } from "../../src/index.ts"
import { type Backend, makeGate, useRig } from "./rig.ts"

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
}
