/** Who a run is: chosen ids, keys and how long they are kept, what a taken one means, many at once. */
import { describe, expect, it } from "vitest"
import { v7 as uuidv7 } from "uuid"
import { z } from "zod"
import { defineWorkflow, type FlowlyError } from "../../src/index.ts"
import { type Backend, makeGate, refusal, sleep, until, untilStatus, useRig } from "./rig.ts"

export const identitySuite = (backend: Backend): void => {
  const rig = useRig(backend)

  const echo = () => {
    let ran = 0
    const flow = defineWorkflow(rig.name("echo"), (ctx, input: unknown) =>
      ctx.step("echo", () => {
        ran++
        return input
      }),
    )
    return { flow, ran: () => ran }
  }

  /** Lasts until it is ended from outside. */
  const endless = () =>
    defineWorkflow(rig.name("endless"), async (ctx, _input: number) => {
      await ctx.waitForEvent("end")
    })

  describe("an id of the caller's choice", () => {
    it("is the run's, and starts one run however often it is triggered", async () => {
      const { flow, ran } = echo()
      const engine = await rig.started([flow])
      const workflowRunId = uuidv7()
      const options = { input: { a: 1 }, workflowRunId }
      const first = await engine.trigger(flow, options)
      const rest = await Promise.all(
        Array.from({ length: 10 }, () =>
          engine.trigger(flow, { ...options, workflowRunId: workflowRunId.toUpperCase() }),
        ),
      )
      expect([first.workflowRunId, first.existing]).toEqual([workflowRunId, false])
      expect(rest.every((one) => one.workflowRunId === workflowRunId && one.existing)).toBe(true)
      expect(await first.result()).toEqual({ a: 1 })
      expect((await engine.trigger(flow, options)).existing).toBe(true)
      expect(ran()).toBe(1)
    })

    it("may be written in capitals wherever a run is asked for, as some languages print it", async () => {
      const flow = endless()
      const engine = await rig.started([flow])
      const capitals = uuidv7().toUpperCase()
      const printed = capitals.toLowerCase()
      await engine.trigger(flow, { input: 1, workflowRunId: capitals })
      const waiting = await untilStatus(engine, printed, "waiting")
      expect(await engine.getStatus(capitals)).toEqual(waiting)
      expect((await engine.getRun(capitals))?.workflowRunId).toBe(printed)
      expect((await engine.explain(capitals))?._tag).toBe("waiting")
      expect(await engine.pause(capitals, { reason: "why" })).toBe("paused")
      await engine.resume(capitals)
      await engine.wake(capitals)
      const log = await engine.getControlLog(capitals)
      expect(log.map(({ verb }) => verb)).toEqual(["pause", "resume", "wake"])
      const newRunId = uuidv7().toUpperCase()
      const fork = await engine.fork(capitals, { newRunId })
      expect(fork.workflowRunId).toBe(newRunId.toLowerCase())
      expect((await engine.listRuns({ workflow: flow.name, before: capitals })).runs).toEqual([])
      expect((await engine.listRuns({ parentRunId: capitals })).runs).toEqual([])
      const ends = [engine.handle(flow, capitals), engine.handle(flow, newRunId)]
      const results = ends.map((handle) => handle.result())
      for (const handle of ends) expect(await handle.sendEvent("end")).toBe("sent")
      await Promise.all(results)
      expect(await engine.getSteps(capitals)).toHaveLength(1)
      const gone = engine.cancel(capitals)
      expect((await refusal(gone)).code).toBe("RunStateConflict")
    })

    it("taken with another input, or by another workflow, is a conflict", async () => {
      const { flow } = echo()
      const other = echo().flow
      const engine = await rig.started([flow, other])
      const workflowRunId = uuidv7()
      await engine.trigger(flow, { input: { a: 1, b: [1, { c: "secret" }] }, workflowRunId })
      for (const onConflict of [undefined, "terminate-existing"] as const) {
        const input = { a: 1, b: [1, { c: "other" }], d: 0 }
        const error = await refusal(engine.trigger(flow, { input, workflowRunId, onConflict }))
        expect(error).toMatchObject({
          code: "IdempotencyConflict",
          details: { workflowRunId, idempotencyKey: null, fields: ["$.b[1].c", "$.d"] },
        })
        expect(error.message).not.toContain("secret")
      }
      const foreign = await refusal(engine.trigger(other, { input: { a: 1 }, workflowRunId }))
      expect(foreign.details["fields"]).toEqual(["workflow", "$"])
      const bad = await refusal(engine.trigger(flow, { input: 1, workflowRunId: "mine" }))
      expect([bad.code, bad.message]).toEqual(["InvalidInput", "workflowRunId: must be a UUID"])
    })

    it("of two starts at once with different inputs is one run, and one conflict", async () => {
      const { flow } = echo()
      const engine = await rig.started([flow])
      for (let i = 0; i < 10; i++) {
        const workflowRunId = uuidv7()
        const both = await Promise.allSettled(
          [1, 2].map((input) => engine.trigger(flow, { input, workflowRunId })),
        )
        const refused = both.filter((one) => one.status === "rejected")
        expect(refused.map(({ reason }) => (reason as FlowlyError).code)).toEqual([
          "IdempotencyConflict",
        ])
      }
    })
  })

  describe("an idempotency key", () => {
    it("is free after its retention, once its run has ended, and not before", async () => {
      const { flow } = echo()
      const lasts = endless()
      const engine = await rig.started([flow, lasts])
      const options = { idempotencyKey: "k", idempotencyRetention: 50 }
      const first = await engine.trigger(flow, { input: 1, ...options })
      expect((await engine.trigger(flow, { input: 1, ...options })).existing).toBe(true)
      await first.result()
      const under = await engine.trigger(lasts, { input: 1, ...options })
      await sleep(60)
      const again = await engine.trigger(flow, { input: 2, ...options })
      expect([again.existing, await again.result()]).toEqual([false, 2])
      expect((await first.status())?.status).toBe("completed")
      const still = await refusal(engine.trigger(lasts, { input: 2, ...options }))
      expect(still).toMatchObject({ code: "IdempotencyConflict", details: { fields: ["$"] } })
      await under.sendEvent("end")
      await under.result()
      expect((await engine.trigger(lasts, { input: 2, ...options })).existing).toBe(false)
    })

    it("without a retention is kept, and a retention needs a key and a length", async () => {
      const { flow } = echo()
      const engine = await rig.started([flow])
      await (await engine.trigger(flow, { input: 1, idempotencyKey: "k" })).result()
      const options = { idempotencyKey: "k", idempotencyRetention: 0 }
      expect((await engine.trigger(flow, { input: 1, ...options })).existing).toBe(true)
      for (const bad of [
        { idempotencyRetention: "7 days" },
        { idempotencyKey: "x", idempotencyRetention: -1 },
        { idempotencyKey: "x", idempotencyRetention: "soon" as never },
        { idempotencyKey: "x", onConflict: "replace" as never },
      ]) {
        expect((await refusal(engine.trigger(flow, { input: 1, ...bad }))).code).toBe(
          "InvalidInput",
        )
      }
    })

    it("may refuse to be joined, or end the run that has it", async () => {
      const lasts = endless()
      const engine = await rig.started([lasts])
      const key = { idempotencyKey: "k" }
      const first = await engine.trigger(lasts, { input: 1, ...key })
      await untilStatus(engine, first.workflowRunId, "waiting")
      const refused = await refusal(
        engine.trigger(lasts, { input: 1, ...key, onConflict: "reject" }),
      )
      expect(refused).toMatchObject({ code: "IdempotencyConflict", details: { fields: [] } })
      const onConflict = "terminate-existing"
      const second = await engine.trigger(lasts, { input: 2, ...key, onConflict })
      expect(second.existing).toBe(false)
      expect((await first.status())?.status).toBe("cancelled")
      const joined = await engine.trigger(lasts, { input: 2, ...key })
      expect(joined.workflowRunId).toBe(second.workflowRunId)
      await second.sendEvent("end")
      await second.result()
      // also of one that has ended
      const third = await engine.trigger(lasts, { input: 3, ...key, onConflict })
      expect(third.existing).toBe(false)
      expect((await second.status())?.status).toBe("completed")
    })
  })

  describe("a concurrency key", () => {
    it("refuses, is joined, or ends the run that holds it", async () => {
      const lasts = endless()
      const engine = await rig.started([lasts])
      const key = { concurrencyKey: "k" }
      const first = await engine.trigger(lasts, { input: 1, ...key })
      const refused = await refusal(engine.trigger(lasts, { input: 2, ...key }))
      expect(refused.code).toBe("ConcurrencyConflict")
      const joined = await engine.trigger(lasts, { input: 2, ...key, onConflict: "join" })
      expect([joined.workflowRunId, joined.existing]).toEqual([first.workflowRunId, true])
      const onConflict = "terminate-existing"
      const second = await engine.trigger(lasts, { input: 2, ...key, onConflict })
      expect(second.existing).toBe(false)
      await until(async () => (await first.status())?.status === "cancelled")
      expect((await second.status())?.status).not.toBe("cancelled")
    })

    it("taken by many at once, each ending the one before, leaves one run alive", async () => {
      const lasts = endless()
      const engine = await rig.started([lasts])
      const options = { concurrencyKey: "k", onConflict: "terminate-existing" } as const
      const handles = await Promise.all(
        Array.from({ length: 5 }, (_, input) => engine.trigger(lasts, { input, ...options })),
      )
      const statuses = await until(async () => {
        const all = await Promise.all(handles.map((handle) => handle.status()))
        const alive = all.filter((one) => one?.status !== "cancelled")
        return alive.length === 1 ? all : false
      })
      expect(statuses.length).toBe(5)
    })
  })

  describe("triggerMany", () => {
    it("starts thousands, each its own run, with handles in their order", async () => {
      const flow = defineWorkflow(rig.name("many"), (_, input: number) => input * 2)
      const engine = await rig.started([flow], { worker: { maxConcurrent: 50 } })
      const items = Array.from({ length: 2500 }, (_, input) => ({ input }))
      const outcomes = await engine.triggerMany(flow, items)
      const handles = outcomes.map((one) => (one.status === "fulfilled" ? one.value : null))
      expect(new Set(handles.map((handle) => handle?.workflowRunId)).size).toBe(2500)
      for (const i of [0, 999, 1000, 2499]) expect(await handles[i]?.result()).toBe(i * 2)
    })

    it("tells each conflict for itself, and starts the others", async () => {
      const { flow } = echo()
      const engine = await rig.started([flow])
      const workflowRunId = uuidv7()
      const [first] = await engine.triggerMany(flow, [{ input: 1, workflowRunId }])
      expect(first?.status).toBe("fulfilled")
      const outcomes = await engine.triggerMany(flow, [
        { input: 1, idempotencyKey: "k" },
        { input: 1, idempotencyKey: "k" },
        { input: 2, idempotencyKey: "k" },
        { input: 1, workflowRunId },
        { input: 2, workflowRunId },
        { input: 1, concurrencyKey: "c", scheduledFor: new Date(Date.now() + 60_000) },
        { input: 1, concurrencyKey: "c" },
        { input: 9 },
      ])
      const told = outcomes.map((one) =>
        one.status === "fulfilled" ? one.value.existing : (one.reason as FlowlyError).code,
      )
      expect(told).toEqual([
        false,
        true,
        "IdempotencyConflict",
        true,
        "IdempotencyConflict",
        false,
        "ConcurrencyConflict",
        false,
      ])
      const last = outcomes.at(-1)
      expect(last?.status === "fulfilled" ? await last.value.result() : null).toBe(9)
      expect(await engine.triggerMany(flow, [])).toEqual([])
    })

    it("with an item that is not valid starts nothing, and names it", async () => {
      const gate = makeGate()
      const flow = defineWorkflow(rig.name("checked"), (ctx) => ctx.step("gate", gate.step), {
        input: z.object({ n: z.number() }),
      })
      const engine = await rig.started([flow])
      const workflowRunId = uuidv7()
      const good = { input: { n: 1 }, workflowRunId }
      for (const [bad, message] of [
        [{ input: { n: "1" } as never }, "of item 1"],
        [{ input: { n: 1 }, workflowRunId: "x" }, "workflowRunId of item 1"],
        [{ input: { n: 1 }, onConflict: "terminate-existing" as const }, "onConflict of item 1"],
      ] as const) {
        const error = await refusal(engine.triggerMany(flow, [good, bad]))
        expect([error.code, error.message]).toEqual([
          "InvalidInput",
          expect.stringContaining(message),
        ])
      }
      expect(await engine.getStatus(workflowRunId)).toBe(null)
      expect((await refusal(engine.triggerMany(flow, 5 as never))).code).toBe("InvalidInput")
    })
  })
}
