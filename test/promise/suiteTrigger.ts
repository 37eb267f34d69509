/** Starting runs and asking for them: keys, schedules, status, results, several engines. */
import { describe, expect, it } from "vitest"
import { defineWorkflow } from "../../src/index.ts"
import { type Backend, makeGate, refusal, sleep, untilStatus, useRig } from "./rig.ts"

const unknownId = "019a0000-0000-7000-8000-000000000000"

export const triggerSuite = (backend: Backend): void => {
  const rig = useRig(backend)

  describe("an idempotency key", () => {
    it("finds its run again, whatever the order of the input's keys", async () => {
      let ran = 0
      const workflow = defineWorkflow(
        rig.name("keyed"),
        async (ctx, input: { a: number; b: Date }) => {
          await ctx.step("count", () => void ran++)
          return input.a
        },
      )
      const engine = await rig.started([workflow])
      const b = new Date(5)
      const first = await engine.trigger(workflow, { input: { a: 1, b }, idempotencyKey: "k" })
      const second = await engine.trigger(workflow, { input: { b, a: 1 }, idempotencyKey: "k" })
      expect([first.existing, second.existing]).toEqual([false, true])
      expect(second.workflowRunId).toBe(first.workflowRunId)
      expect([await first.result(), await second.result()]).toEqual([1, 1])
      const third = await engine.trigger(workflow, { input: { a: 1, b }, idempotencyKey: "k" })
      expect(await third.result()).toBe(1)
      expect(ran).toBe(1)
    })

    it("with a different input is a conflict that does not tell the other input", async () => {
      const workflow = defineWorkflow(rig.name("conflict"), (_, input: string) => input)
      const engine = await rig.started([workflow])
      const first = await engine.trigger(workflow, { input: "secret", idempotencyKey: "k" })
      const error = await refusal(engine.trigger(workflow, { input: "other", idempotencyKey: "k" }))
      expect(error).toMatchObject({
        code: "IdempotencyConflict",
        retryable: false,
        details: { idempotencyKey: "k", workflowRunId: first.workflowRunId },
      })
      expect(error.message).not.toContain("secret")
      await first.result()
      const later = await refusal(engine.trigger(workflow, { input: "other", idempotencyKey: "k" }))
      expect(later.code).toBe("IdempotencyConflict")
    })

    it("belongs to one workflow", async () => {
      const one = defineWorkflow(rig.name("one"), () => 1)
      const two = defineWorkflow(rig.name("two"), () => 2)
      const engine = await rig.started([one, two])
      const [a, b] = [
        await engine.trigger(one, { idempotencyKey: "k" }),
        await engine.trigger(two, { idempotencyKey: "k" }),
      ]
      expect(a.workflowRunId).not.toBe(b.workflowRunId)
    })

    it("makes one run of fifty triggers at once, from two engines", async () => {
      let ran = 0
      const workflow = defineWorkflow(rig.name("fifty"), async (ctx) => {
        await ctx.step("count", () => void ran++)
      })
      const engines = [await rig.started([workflow]), await rig.started([workflow])] as const
      const handles = await Promise.all(
        Array.from({ length: 50 }, (_, i) =>
          engines[i % 2 === 0 ? 0 : 1].trigger(workflow, { idempotencyKey: "same" }),
        ),
      )
      expect(new Set(handles.map((one) => one.workflowRunId)).size).toBe(1)
      expect(handles.filter((one) => !one.existing)).toHaveLength(1)
      await Promise.all(handles.map((one) => one.result()))
      expect(ran).toBe(1)
    })
  })

  describe("a concurrency key", () => {
    it("is refused while a run of it is active, and free when that has ended", async () => {
      const gate = Promise.withResolvers<void>()
      const workflow = defineWorkflow(rig.name("exclusive"), async (ctx) => {
        await ctx.step("wait", () => gate.promise)
      })
      const engine = await rig.started([workflow])
      const first = await engine.trigger(workflow, { concurrencyKey: "customer" })
      const error = await refusal(engine.trigger(workflow, { concurrencyKey: "customer" }))
      expect(error).toMatchObject({
        code: "ConcurrencyConflict",
        retryable: true,
        details: { workflowRunId: first.workflowRunId },
      })
      const other = await engine.trigger(workflow, { concurrencyKey: "other customer" })
      gate.resolve()
      await Promise.all([first.result(), other.result()])
      await (await engine.trigger(workflow, { concurrencyKey: "customer" })).result()
    })

    it("is held while the run sleeps or is paused, and free after a cancel", async () => {
      const workflow = defineWorkflow(rig.name("sleeper"), (ctx) => ctx.sleep("long", "1 day"))
      const engine = await rig.started([workflow])
      const first = await engine.trigger(workflow, { concurrencyKey: "k" })
      await untilStatus(engine, first.workflowRunId, "sleeping")
      expect((await refusal(engine.trigger(workflow, { concurrencyKey: "k" }))).code).toBe(
        "ConcurrencyConflict",
      )
      await engine.cancel(first.workflowRunId)
      await untilStatus(engine, first.workflowRunId, "cancelled")
      const second = await engine.trigger(workflow, { concurrencyKey: "k" })
      await engine.cancel(second.workflowRunId)
      await untilStatus(engine, second.workflowRunId, "cancelled")
    })

    it("starts one run of twenty triggers at once", async () => {
      const gate = Promise.withResolvers<void>()
      const workflow = defineWorkflow(rig.name("twenty"), async (ctx) => {
        await ctx.step("wait", () => gate.promise)
      })
      const engine = await rig.started([workflow])
      const answers = await Promise.allSettled(
        Array.from({ length: 20 }, () => engine.trigger(workflow, { concurrencyKey: "k" })),
      )
      gate.resolve()
      const started = answers.filter((one) => one.status === "fulfilled")
      expect(started).toHaveLength(1)
      await started[0]?.value.result()
    })
  })

  describe("scheduledFor", () => {
    it("in the future waits until then", async () => {
      const workflow = defineWorkflow(rig.name("later"), () => Date.now())
      const engine = await rig.started([workflow])
      const scheduledFor = new Date(Date.now() + 250)
      const handle = await engine.trigger(workflow, { scheduledFor })
      expect(await handle.status()).toMatchObject({ status: "pending", scheduledFor })
      expect(await handle.result()).toBeGreaterThanOrEqual(scheduledFor.getTime() - 1)
    })

    it("in the past, however far, starts at once", async () => {
      const workflow = defineWorkflow(rig.name("past"), () => 1)
      const engine = await rig.started([workflow])
      for (const scheduledFor of [new Date(Date.now() - 1000), new Date(-8.64e15)]) {
        expect(await (await engine.trigger(workflow, { scheduledFor })).result()).toBe(1)
      }
    })
  })

  describe("getStatus", () => {
    it("tells a run's life, with dates as dates", async () => {
      const gate = Promise.withResolvers<void>()
      const workflow = defineWorkflow(rig.name("life"), async (ctx, input: { n: number }) => {
        await ctx.step("wait", () => gate.promise)
        return input.n
      })
      const client = rig.engine([workflow])
      const handle = await client.trigger(workflow, { input: { n: 7 } })
      const pending = await client.getStatus(handle.workflowRunId)
      expect(pending).toEqual({
        workflowRunId: handle.workflowRunId,
        workflow: workflow.name,
        status: "pending",
        input: { n: 7 },
        attempt: 1,
        scheduledFor: null,
        createdAt: expect.any(Date),
      })
      const engine = await rig.started([workflow])
      const running = await untilStatus(engine, handle.workflowRunId, "running")
      expect(running.startedAt).toBeInstanceOf(Date)
      gate.resolve()
      expect(await handle.result()).toBe(7)
      expect(await handle.status()).toEqual({
        ...pending,
        status: "completed",
        result: 7,
        startedAt: expect.any(Date),
        completedAt: expect.any(Date),
      })
    })

    it("names the step that is tried again", async () => {
      const workflow = defineWorkflow(rig.name("backoff"), (ctx) =>
        ctx.step("flaky", {
          run: () => {
            throw new Error("again")
          },
          retry: { maxAttempts: 2, backoff: "fixed", initialDelayMs: 30_000 },
        }),
      )
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      const status = await untilStatus(engine, handle.workflowRunId, "sleeping")
      expect(status.currentStep).toBe("flaky")
      await engine.cancel(handle.workflowRunId)
      await untilStatus(engine, handle.workflowRunId, "cancelled")
    })

    it("of an id that nobody has, or that is none, is null", async () => {
      const engine = rig.engine([])
      expect(await engine.getStatus(unknownId)).toBeNull()
      for (const id of ["", "nobody", "'; drop table", "x".repeat(10_000), undefined, 7]) {
        expect(await engine.getStatus(id as string)).toBeNull()
      }
    })

    it("keeps an input of any kind", async () => {
      const workflow = defineWorkflow(rig.name("input"), (_, input: unknown) => typeof input)
      const engine = rig.engine([workflow])
      for (const input of [undefined, null, 0, "", [], new Map([["a", 1n]])]) {
        const handle = await engine.trigger(workflow, { input })
        expect((await handle.status())?.input).toEqual(input)
        await engine.cancel(handle.workflowRunId)
      }
    })
  })

  describe("a result", () => {
    it("reaches a caller in the process of the worker, and in another, and later", async () => {
      const workflow = defineWorkflow(rig.name("result"), async (ctx) => ctx.step("one", () => 1))
      const client = rig.engine([workflow])
      const handle = await client.trigger(workflow)
      const waiting = handle.result()
      const worker = await rig.started([workflow])
      expect(await waiting).toBe(1)
      expect(await worker.handle(workflow, handle.workflowRunId).result()).toBe(1)
      expect(await rig.engine([workflow]).handle(workflow, handle.workflowRunId).result()).toBe(1)
    })

    it("of an id that nobody has is RunNotFound", async () => {
      const workflow = defineWorkflow(rig.name("nobody"), () => 1)
      const engine = rig.engine([workflow])
      for (const id of [unknownId, "no id"]) {
        expect(await refusal(engine.handle(workflow, id).result())).toMatchObject({
          code: "RunNotFound",
        })
      }
    })

    it("that is waited for by many arrives at all of them", async () => {
      const workflow = defineWorkflow(rig.name("many"), async (ctx) => ctx.step("x", () => "x"))
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      const all = await Promise.all(Array.from({ length: 20 }, () => handle.result()))
      expect(new Set(all)).toEqual(new Set(["x"]))
    })
  })

  describe("several engines", () => {
    it("share the work of one store", async () => {
      const ran = [0, 0]
      const name = rig.name("shared")
      const both = Promise.withResolvers<void>()
      const definitions = [0, 1].map((i) =>
        defineWorkflow(name, async (ctx) => {
          await ctx.step("count", async () => {
            ran[i]!++
            if (ran.every((count) => count > 0)) both.resolve()
            await both.promise
          })
        }),
      )
      const client = rig.engine([definitions[0]!])
      const handles = await Promise.all(
        Array.from({ length: 8 }, () => client.trigger(definitions[0]!)),
      )
      for (const one of definitions) await rig.started([one], { worker: { maxConcurrent: 4 } })
      await Promise.all(handles.map((one) => one.result()))
      expect(ran[0]! + ran[1]!).toBe(8)
    })

    it("take only what they know", async () => {
      const known = defineWorkflow(rig.name("known"), () => "known")
      const foreign = defineWorkflow(rig.name("foreign"), () => "foreign")
      const client = rig.engine([known, foreign])
      const handles = [await client.trigger(foreign), await client.trigger(known)] as const
      await rig.started([known])
      expect(await handles[1].result()).toBe("known")
      expect(await handles[0].status()).toMatchObject({ status: "pending" })
      await rig.started([foreign])
      expect(await handles[0].result()).toBe("foreign")
    })

    it("hand runs over when one stops, and no run fails of it", async () => {
      const workflow = defineWorkflow(rig.name("handed"), async (ctx, input: number) => {
        await ctx.step("a", () => sleep(5))
        await ctx.sleep("b", 5)
        await ctx.step("c", () => sleep(5))
        return input
      })
      const first = await rig.started([workflow])
      const handles = await Promise.all(
        Array.from({ length: 20 }, (_, input) => first.trigger(workflow, { input })),
      )
      const ids = handles.map((one) => one.workflowRunId)
      await first.stop()
      const second = await rig.started([workflow])
      const results = await Promise.all(ids.map((id) => second.handle(workflow, id).result()))
      expect(results).toEqual(Array.from({ length: 20 }, (_, i) => i))
    })
  })

  describe("a paused run", () => {
    it("says why, keeps its history, and goes on with the right code", async () => {
      const name = rig.name("changed")
      const gate = makeGate()
      const ran: Array<string> = []
      const note = (step: string) => () => void ran.push(step)
      const old = defineWorkflow(name, async (ctx) => {
        await ctx.step("reserve", note("reserve"))
        await ctx.step("charge", note("charge"))
        await ctx.step("gate", gate.step)
        return "done"
      })
      const edited = defineWorkflow(name, async (ctx) => {
        await ctx.step("reserve", note("reserve"))
        await ctx.step("bill", note("bill"))
        await ctx.step("gate", gate.step)
        return "done"
      })
      const first = await rig.started([old], { worker: { shutdownTimeoutMs: 20 } })
      const handle = await first.trigger(old)
      await gate.reached
      await first.stop()

      const second = await rig.started([edited])
      const paused = await untilStatus(second, handle.workflowRunId, "paused")
      expect(paused.error).toMatchObject({ code: "StepMismatch" })
      expect((paused.error as Error).message).toMatch(/"charge".*"bill".*changed.*not do the same/)
      expect(ran).toEqual(["reserve", "charge"])
      await second.stop()

      const third = await rig.started([old])
      await third.resume(handle.workflowRunId)
      expect(await third.handle(old, handle.workflowRunId).result()).toBe("done")
      expect(ran).toEqual(["reserve", "charge"])
    })

    it("is the only kind that can be resumed", async () => {
      const workflow = defineWorkflow(rig.name("not paused"), () => 1)
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      await handle.result()
      expect(await refusal(engine.resume(handle.workflowRunId))).toMatchObject({
        code: "RunStateConflict",
        message: expect.stringContaining("not paused"),
      })
      expect((await refusal(engine.resume(unknownId))).code).toBe("RunNotFound")
    })

    it("can be cancelled", async () => {
      const name = rig.name("paused for good")
      const gate = makeGate()
      const old = defineWorkflow(name, async (ctx) => {
        await ctx.step("a", () => 1)
        await ctx.step("gate", gate.step)
      })
      const edited = defineWorkflow(name, async (ctx) => {
        await ctx.step("b", () => 1)
      })
      const first = await rig.started([old], { worker: { shutdownTimeoutMs: 20 } })
      const handle = await first.trigger(old)
      await gate.reached
      await first.stop()
      const second = await rig.started([edited])
      await untilStatus(second, handle.workflowRunId, "paused")
      await second.cancel(handle.workflowRunId)
      await untilStatus(second, handle.workflowRunId, "cancelled")
    })
  })
}
