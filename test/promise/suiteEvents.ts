/** Events and tokens: what others tell a run. */
import { describe, expect, it } from "vitest"
import { z } from "zod"
import { defineWorkflow, type EventReceived, type EventTimedOut } from "../../src/index.ts"
import { type Backend, makeGate, refusal, untilStatus, useRig } from "./rig.ts"

const nowhere = "01990000-0000-7000-8000-000000000000"

export const eventsSuite = (backend: Backend): void => {
  const rig = useRig(backend)

  describe("an event", () => {
    it("wakes the run that waits for it", async () => {
      const waits = defineWorkflow(rig.name("waits"), (ctx) =>
        ctx.waitForEvent<{ by: string }>("approved"),
      )
      const engine = await rig.started([waits])
      const handle = await engine.trigger(waits)
      await untilStatus(engine, handle.workflowRunId, "waiting")
      expect(await handle.sendEvent("approved", { by: "Ada" })).toBe("sent")
      expect(await handle.result()).toEqual({ timedOut: false, payload: { by: "Ada" } })
    })

    it("that comes early is kept, and events of a name come in order", async () => {
      const waits = defineWorkflow(rig.name("early"), async (ctx) => {
        const seen: Array<unknown> = []
        for (let i = 0; i < 3; i++) seen.push((await ctx.waitForEvent("n")).payload)
        return [...seen, (await ctx.waitForEvent("m")).payload]
      })
      const early = rig.engine([waits])
      const { workflowRunId } = await early.trigger(waits)
      await early.sendEvent(workflowRunId, "m", "m")
      for (const n of [1, 2, 3]) await early.sendEvent(workflowRunId, "n", n)
      const engine = await rig.started([waits])
      expect(await engine.handle(waits, workflowRunId).result()).toEqual([1, 2, 3, "m"])
    })

    it("with an id is taken once, whatever is sent with that id again", async () => {
      const waits = defineWorkflow(rig.name("ids"), async (ctx) => [
        (await ctx.waitForEvent("a")).payload,
        (await ctx.waitForEvent("b")).payload,
      ])
      const engine = await rig.started([waits])
      const handle = await engine.trigger(waits)
      expect(await handle.sendEvent("a", 1, { id: "x" })).toBe("sent")
      expect(await handle.sendEvent("a", 2, { id: "x" })).toBe("duplicate")
      expect(await handle.sendEvent("b", 3, { id: "x" })).toBe("duplicate")
      expect(await handle.sendEvent("b", 4, { id: "y" })).toBe("sent")
      expect(await handle.result()).toEqual([1, 4])
      expect(await handle.sendEvent("b", 4, { id: "y" })).toBe("duplicate")
      const late = await refusal(handle.sendEvent("b", 5))
      expect([late.code, late.details["workflowRunId"]]).toEqual([
        "RunStateConflict",
        handle.workflowRunId,
      ])
    })

    it("beyond the limit of those that wait is refused, until the run has taken one", async () => {
      const gate = makeGate()
      const waits = defineWorkflow(rig.name("full"), async (ctx) => {
        const token = await ctx.token("answer")
        ctx.setStatus(token)
        const first = await ctx.waitForEvent("n")
        await ctx.step("gate", gate.step)
        return [first.payload, (await ctx.waitForToken(token)).payload]
      })
      const limits = { maxPendingEvents: 2 }
      const engine = await rig.started([waits], { limits, worker: { shutdownTimeoutMs: 20 } })
      const handle = await engine.trigger(waits)
      await handle.sendEvent("m", 1)
      await handle.sendEvent("n", 2)
      await gate.reached
      expect(await handle.sendEvent("m", 3, { id: "three" })).toBe("sent")
      const error = await refusal(handle.sendEvent("m", 4))
      expect(error).toMatchObject({ code: "EventBacklogFull", retryable: true })
      expect(error.details).toEqual({ workflowRunId: handle.workflowRunId, maxPendingEvents: 2 })
      expect(error.message).toContain("2 events that it has not taken, which is the limit")
      expect(await handle.sendEvent("m", 3, { id: "three" })).toBe("duplicate")
      const { statusText } = (await handle.status()) ?? {}
      expect(await engine.resolveToken(statusText ?? "", "answer")).toBe("resolved")
      await engine.stop()
      const second = await rig.started([waits], { limits })
      expect(await second.handle(waits, handle.workflowRunId).result()).toEqual([2, "answer"])
    })

    it("carries values as steps do, undefined too", async () => {
      const waits = defineWorkflow(rig.name("values"), async (ctx) => {
        const rich = await ctx.waitForEvent<{ at: Date; of: Map<string, bigint> }>("rich")
        const nothing = await ctx.waitForEvent("nothing", { timeout: "1 hour" })
        return { rich: rich.payload, nothing }
      })
      const engine = await rig.started([waits])
      const handle = await engine.trigger(waits)
      const payload = { at: new Date(0), of: new Map([["a", 1n]]) }
      await handle.sendEvent("rich", payload)
      await handle.sendEvent("nothing")
      const { rich, nothing } = await handle.result()
      expect(rich).toEqual(payload)
      expect(nothing.timedOut).toBe(false)
      const refused = await refusal(handle.sendEvent("rich", () => 1))
      expect(refused.code).toBe("SerializationError")
    })

    it("that does not come in time is an answer, also on replay, and the next one may come", async () => {
      const gate = makeGate()
      const waits = defineWorkflow(rig.name("vain"), async (ctx) => {
        const answers: Array<EventReceived<unknown> | EventTimedOut> = []
        answers.push(await ctx.waitForEvent("go", { timeout: 20 }))
        await ctx.step("gate", gate.step)
        answers.push(await ctx.waitForEvent("go", { timeout: "1 hour" }))
        return answers
      })
      const { engine, handle } = await rig.replay(waits, gate, {})
      await engine.sendEvent(handle.workflowRunId, "go", 1)
      expect(await handle.result()).toEqual([{ timedOut: true }, { timedOut: false, payload: 1 }])
    })

    it("is checked by the wait's schema; one that it refuses pauses the run", async () => {
      rig.allowWarnings()
      const schema = z.object({ amount: z.coerce.number() })
      const waits = defineWorkflow(rig.name("schema"), async (ctx) => {
        const first = await ctx.waitForEvent("pay", { schema })
        const second = await ctx.waitForEvent("pay", { schema })
        return first.payload.amount + second.payload.amount
      })
      const engine = await rig.started([waits])
      const handle = await engine.trigger(waits)
      await handle.sendEvent("pay", { amount: "5" })
      await handle.sendEvent("pay", { amount: "many" })
      const paused = await untilStatus(engine, handle.workflowRunId, "paused")
      expect(String(paused.error)).toContain('payload of event "pay"')
      expect(String(paused.error)).toContain("$.amount")
    })

    it("of a reserved, empty or overlong name, or for no run, is refused", async () => {
      const any = defineWorkflow(rig.name("any"), (ctx) => ctx.waitForEvent("x"))
      const bad = defineWorkflow(rig.name("bad"), async (ctx) => {
        const codes: Array<string> = []
        const refused = async (wait: Promise<unknown>) => {
          codes.push(await wait.then(String, (error: Error) => error.message))
        }
        await refused(ctx.waitForEvent("flowly:token:x"))
        await refused(ctx.waitForEvent(""))
        await refused(ctx.waitForEvent("x", { timeout: -1 }))
        await refused(ctx.waitForEvent("x", { schema: {} as never }))
        await refused(ctx.waitForToken("not a token"))
        return codes
      })
      const engine = await rig.started([any, bad])
      const { workflowRunId } = await engine.trigger(any)
      for (const name of ["flowly:token:x", "", "x".repeat(256), 5 as never]) {
        expect((await refusal(engine.sendEvent(workflowRunId, name))).code).toBe("InvalidInput")
      }
      const id = await refusal(engine.sendEvent(workflowRunId, "x", 1, { id: "flowly:token:x" }))
      expect(id.code).toBe("InvalidInput")
      for (const run of [nowhere, "no id"]) {
        expect((await refusal(engine.sendEvent(run, "x"))).code).toBe("RunNotFound")
      }
      const codes = await (await engine.trigger(bad)).result()
      expect(codes).toEqual([
        'event name: must not begin with "flowly:"',
        "event name: must not be empty",
        expect.stringContaining('timeout of the wait for event "x"'),
        expect.stringContaining('schema of event "x"'),
        "token: is not one that this run has made with `token`",
      ])
    })
  })

  describe("a token", () => {
    it("is the same on replay, and resolves the wait for it, once", async () => {
      const gate = makeGate()
      const seen: Array<string> = []
      const asks = defineWorkflow(rig.name("asks"), async (ctx) => {
        const token = await ctx.token("approval")
        seen.push(token)
        await ctx.step("gate", gate.step)
        return ctx.waitForToken<string>(token)
      })
      const { engine, handle } = await rig.replay(asks, gate, {})
      const [token = ""] = seen
      await untilStatus(engine, handle.workflowRunId, "waiting")
      expect(new Set(seen).size).toBe(1)
      expect(token).toMatch(/^[\w.-]{76}$/)
      expect(await engine.resolveToken(token, "yes")).toBe("resolved")
      expect(await engine.resolveToken(token, "no")).toBe("already-resolved")
      expect(await handle.result()).toEqual({ timedOut: false, payload: "yes" })
      expect(await engine.resolveToken(token, "no")).toBe("already-resolved")
    })

    it("has an answer that the wait's schema checks; one that it refuses pauses the run", async () => {
      rig.allowWarnings()
      const schema = z.object({ amount: z.coerce.number() })
      const asks = defineWorkflow(rig.name("asks by schema"), async (ctx) => {
        const token = await ctx.token("payment")
        await ctx.step("hand out", () => opened.resolve(token))
        return (await ctx.waitForToken(token, { schema })).payload
      })
      const engine = await rig.started([asks])
      let opened = Promise.withResolvers<string>()
      const paid = await engine.trigger(asks)
      await engine.resolveToken(await opened.promise, { amount: "5" })
      expect(await paid.result()).toEqual({ amount: 5 })
      opened = Promise.withResolvers<string>()
      const { workflowRunId } = await engine.trigger(asks)
      await engine.resolveToken(await opened.promise, { amount: "many" })
      const paused = await untilStatus(engine, workflowRunId, "paused")
      expect(String(paused.error)).toContain('payload of token "payment"')
      expect(String(paused.error)).toContain("$.amount")
    })

    it("resolved early, or by ten at once, has one answer", async () => {
      const opened = Promise.withResolvers<string>()
      const gate = makeGate()
      const asks = defineWorkflow(rig.name("asks early"), async (ctx) => {
        const token = await ctx.token("approval")
        opened.resolve(token)
        await ctx.step("gate", gate.step)
        const answer = await ctx.waitForToken<number>(token, { timeout: "1 hour" })
        return [answer, await ctx.waitForToken(token).catch((error: Error) => error.message)]
      })
      const first = await rig.started([asks], { worker: { shutdownTimeoutMs: 20 } })
      const { workflowRunId } = await first.trigger(asks)
      const token = await opened.promise
      const answers = await Promise.all(
        Array.from({ length: 10 }, (_, n) => first.resolveToken(token, n)),
      )
      expect(answers.filter((one) => one === "resolved").length).toBe(1)
      await gate.reached
      await first.stop()
      const second = await rig.started([asks])
      expect(await second.handle(asks, workflowRunId).result()).toEqual([
        { timedOut: false, payload: answers.indexOf("resolved") },
        expect.stringContaining("its answer was given already"),
      ])
    })

    it("that no run has issued is told so, and leaves nothing behind", async () => {
      const opened = Promise.withResolvers<string>()
      const asks = defineWorkflow(rig.name("forged"), async (ctx) => {
        const token = await ctx.token("approval")
        opened.resolve(token)
        return ctx.waitForToken(token, { timeout: 100 })
      })
      const engine = await rig.started([asks])
      const handle = await engine.trigger(asks)
      const token = await opened.promise
      const other = token.endsWith("A") ? "B" : "A"
      for (const forged of [
        "",
        "x",
        5 as never,
        token.slice(0, -1) + other,
        token.slice(0, 33) + "A".repeat(43),
        `${"0".repeat(32)}${token.slice(32)}`,
        ` ${token}`,
      ]) {
        const error = await refusal(engine.resolveToken(forged, "yes"))
        expect([error.code, error.retryable, error.message.includes("AAAA")]).toEqual([
          "TokenNotFound",
          false,
          false,
        ])
      }
      expect(await handle.result()).toEqual({ timedOut: true })
      expect((await refusal(engine.resolveToken(token))).code).toBe("RunStateConflict")
    })

    it("of another run is no token of this one", async () => {
      const gives = defineWorkflow(rig.name("gives"), (ctx) => ctx.token("t"))
      const takes = defineWorkflow(rig.name("takes"), (ctx, token: string) =>
        ctx.waitForToken(token).catch((error: Error) => error.message),
      )
      const engine = await rig.started([gives, takes])
      const token = await (await engine.trigger(gives)).result()
      const answer = await (await engine.trigger(takes, { input: token })).result()
      expect(answer).toBe("token: is not one that this run has made with `token`")
    })
  })
}
