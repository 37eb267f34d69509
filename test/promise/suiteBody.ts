/** What a body can do beside its steps: sleeps, side effects, combinators; and odd bodies. */
import { describe, expect, it } from "vitest"
import { defineWorkflow } from "../../src/index.ts"
import { aborted, type Backend, makeGate, refusal, until, untilStatus, useRig } from "./rig.ts"

export const bodySuite = (backend: Backend): void => {
  const rig = useRig(backend)

  describe("the README's program", () => {
    const services = () => {
      const calls: Array<string> = []
      const inventory = {
        reserve: async (orderId: string) => {
          calls.push(`reserve ${orderId}`)
          return { reservationId: `r-${orderId}` }
        },
        release: async (reservationId: string) => calls.push(`release ${reservationId}`),
      }
      const payments = {
        charge: async (orderId: string, amount: number) => {
          calls.push(`charge ${orderId} ${amount}`)
          return { chargeId: `c-${orderId}` }
        },
        refund: async (chargeId: string) => calls.push(`refund ${chargeId}`),
      }
      const shipping = {
        ship: async (orderId: string) => {
          calls.push(`ship ${orderId}`)
          if (orderId === "bad") throw new Error("no such address")
          return { trackingId: `t-${orderId}` }
        },
      }
      const orderWorkflow = defineWorkflow(
        rig.name("process-order"),
        async (ctx, input: { orderId: string; amount: number }) => {
          const reserved = await ctx.step("reserve-inventory", {
            run: () => inventory.reserve(input.orderId),
            compensate: (result) => inventory.release(result.reservationId),
            retry: { maxAttempts: 3, backoff: "exponential", initialDelayMs: 500 },
          })
          const charged = await ctx.step("charge-payment", {
            run: () => payments.charge(input.orderId, input.amount),
            compensate: (result) => payments.refund(result.chargeId),
          })
          await ctx.sleep("cooling-period", { seconds: 0.05 })
          const shipped = await ctx.step("ship-order", {
            run: () => shipping.ship(input.orderId),
          })
          return { ...reserved, ...charged, ...shipped }
        },
      )
      return { calls, orderWorkflow }
    }

    it("completes", async () => {
      const { calls, orderWorkflow } = services()
      const engine = await rig.started([orderWorkflow])
      const handle = await engine.trigger(orderWorkflow, { input: { orderId: "1", amount: 5 } })
      const result = { reservationId: "r-1", chargeId: "c-1", trackingId: "t-1" }
      expect(await handle.result()).toEqual(result)
      expect(calls).toEqual(["reserve 1", "charge 1 5", "ship 1"])
      expect(await engine.getStatus(handle.workflowRunId)).toMatchObject({
        status: "completed",
        result,
      })
    })

    it("undoes its completed steps in reverse order when a later one fails", async () => {
      const { calls, orderWorkflow } = services()
      const engine = await rig.started([orderWorkflow])
      const handle = await engine.trigger(orderWorkflow, { input: { orderId: "bad", amount: 5 } })
      const error = await refusal(handle.result())
      expect(error).toMatchObject({ code: "RunFailed", details: { status: "compensated" } })
      expect(error.cause).toMatchObject({ message: "no such address" })
      expect(calls.slice(3)).toEqual(["refund c-bad", "release r-bad"])
      expect(await handle.status()).toMatchObject({
        status: "compensated",
        failedStep: "ship-order",
        error: { message: "no such address" },
      })
    })
  })

  describe("sleeps", () => {
    it("take durations in all forms", async () => {
      const workflow = defineWorkflow(rig.name("durations"), async (ctx) => {
        await ctx.sleep("number", 5)
        await ctx.sleep("text", "5ms")
        await ctx.sleep("words", "0.005 seconds")
        await ctx.sleep("parts", { seconds: 0, milliseconds: 5 })
        await ctx.sleep("zero", 0)
        return "awake"
      })
      const engine = await rig.started([workflow])
      const before = performance.now()
      expect(await (await engine.trigger(workflow)).result()).toBe("awake")
      expect(performance.now() - before).toBeGreaterThanOrEqual(20)
    })

    it("never end early, also when the run parks for them", async () => {
      const workflow = defineWorkflow(rig.name("parks"), async (ctx) => {
        await ctx.sleep("a while", 1200)
        return "awake"
      })
      const engine = await rig.started([workflow])
      const before = performance.now()
      const handle = await engine.trigger(workflow)
      const status = await untilStatus(engine, handle.workflowRunId, "sleeping")
      expect(status.currentStep).toBe("a while")
      expect((await engine.healthCheck()).worker?.running).toBe(0)
      expect(await handle.result()).toBe("awake")
      expect(performance.now() - before).toBeGreaterThanOrEqual(1195)
    })

    it("until a date end at that date, or at once when it has passed", async () => {
      const workflow = defineWorkflow(rig.name("until"), async (ctx, input: { at: Date }) => {
        await ctx.sleepUntil("soon", input.at)
        await ctx.sleepUntil("past", new Date(0))
        await ctx.sleepUntil("long past", new Date(-8.64e15))
        return "awake"
      })
      const engine = await rig.started([workflow])
      const at = new Date(Date.now() + 60)
      expect(await (await engine.trigger(workflow, { input: { at } })).result()).toBe("awake")
      expect(Date.now()).toBeGreaterThanOrEqual(at.getTime())
    })

    it("refuse a duration or a date that nobody can mean", async () => {
      const workflow = defineWorkflow(rig.name("bad sleeps"), async (ctx) => {
        const said: Array<string> = []
        const attempts = [
          () => ctx.sleep("negative", -1),
          () => ctx.sleep("infinite", Infinity),
          () => ctx.sleep("nan", NaN),
          () => ctx.sleep("no unit", "5"),
          () => ctx.sleep("months", "1 month"),
          () => ctx.sleep("empty", {}),
          () => ctx.sleepUntil("no date", new Date(NaN)),
          () => ctx.sleepUntil("far", new Date(8.64e15)),
          () => ctx.sleepUntil("nothing", undefined as never),
          () => ctx.sleepUntil("null", null as never),
        ]
        for (const attempt of attempts) {
          await attempt().catch((error: { code: string; message: string }) =>
            said.push(`${error.code} ${/"(.*?)"/.exec(error.message)?.[1]}`),
          )
        }
        return said
      })
      const engine = await rig.started([workflow])
      expect(await (await engine.trigger(workflow)).result()).toEqual(
        "negative,infinite,nan,no unit,months,empty,no date,far,nothing,null"
          .split(",")
          .map((name) => `InvalidInput ${name}`),
      )
    })
  })

  describe("side effects and events", () => {
    it("are made once, and are the same on replay", async () => {
      const gate = makeGate()
      let made = 0
      const workflow = defineWorkflow(rig.name("effects"), async (ctx) => {
        const id = await ctx.sideEffect("id", () => `id-${++made}`)
        await ctx.emit("made", { id })
        await ctx.step("gate", gate.step)
        await ctx.emit("made", { again: id })
        await ctx.emit("ended")
        return id
      })
      const { engine, handle } = await rig.replay(workflow, gate, {})
      expect(await handle.result()).toBe("id-1")
      const events = await engine.getEvents(handle.workflowRunId)
      expect(events.map(({ event, data }) => [event, data])).toEqual([
        ["made", { id: "id-1" }],
        ["made", { again: "id-1" }],
        ["ended", undefined],
      ])
      expect(events.every((event) => event.at instanceof Date)).toBe(true)
      expect(events.every((event) => event.workflowRunId === handle.workflowRunId)).toBe(true)
    })

    it("count also when the body does not wait for the event", async () => {
      const workflow = defineWorkflow(rig.name("hasty"), async (ctx) => {
        void ctx.emit("bye", 1)
        return "gone"
      })
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      expect(await handle.result()).toBe("gone")
      expect(await engine.getEvents(handle.workflowRunId)).toMatchObject([{ event: "bye" }])
    })
  })

  describe("combinators", () => {
    it("Promise.all over steps and sleeps runs them at once", async () => {
      let together = 0
      let most = 0
      const bothIn = Promise.withResolvers<void>()
      const meet = async () => {
        most = Math.max(most, ++together)
        if (together === 2) bothIn.resolve()
        await bothIn.promise
        together--
        return "met"
      }
      const workflow = defineWorkflow(rig.name("all"), async (ctx) =>
        Promise.all([ctx.step("a", meet), ctx.step("b", meet), ctx.sleep("c", 10)]),
      )
      const engine = await rig.started([workflow])
      expect(await (await engine.trigger(workflow)).result()).toEqual(["met", "met", undefined])
      expect(most).toBe(2)
    })

    it("Promise.race decides on replay as it did the first time", async () => {
      const gate = makeGate()
      const slow = Promise.withResolvers<string>()
      const workflow = defineWorkflow(rig.name("race"), async (ctx) => {
        const winner = await Promise.race([
          ctx.step("slow", () => slow.promise),
          ctx.sleep("patience", 15).then(() => "sleep"),
        ])
        slow.resolve("slow")
        await ctx.step("gate", gate.step)
        return winner
      })
      const { handle } = await rig.replay(workflow, gate, {})
      expect(await handle.result()).toBe("sleep")
    })

    it("Promise.allSettled and Promise.any see failures as they were", async () => {
      const workflow = defineWorkflow(rig.name("settled"), async (ctx) => {
        const fail = (name: string) =>
          ctx.step(name, () => {
            throw new Error(name)
          })
        const settled = await Promise.allSettled([fail("a"), ctx.step("b", () => 1)])
        const any = await Promise.any([fail("c"), ctx.step("d", () => 2)])
        const none = await Promise.any([fail("e"), fail("f")]).catch((error: AggregateError) =>
          error.errors.map((one: Error) => one.message),
        )
        return [settled.map((one) => one.status), any, none]
      })
      const engine = await rig.started([workflow])
      expect(await (await engine.trigger(workflow)).result()).toEqual([
        ["rejected", "fulfilled"],
        2,
        ["e", "f"],
      ])
    })

    it("a step that nobody waits for, and that fails, harms nobody", async () => {
      const failed = Promise.withResolvers<void>()
      const workflow = defineWorkflow(rig.name("unawaited"), async (ctx) => {
        void ctx.step("fails alone", () => {
          failed.resolve()
          throw new Error("nobody listens")
        })
        await ctx.step("works", async () => failed.promise)
        await ctx.step("more", () => 1)
        return "fine"
      })
      const engine = await rig.started([workflow])
      expect(await (await engine.trigger(workflow)).result()).toBe("fine")
    })

    it("a body that ends while a step runs completes, and the step hears of it", async () => {
      const started = Promise.withResolvers<AbortSignal>()
      const workflow = defineWorkflow(rig.name("leaves"), async (ctx) => {
        void ctx.step("endless", ({ signal }) => {
          started.resolve(signal)
          return aborted(signal)
        })
        await ctx.step("short", () => started.promise.then(() => undefined))
        return "left"
      })
      const engine = await rig.started([workflow])
      expect(await (await engine.trigger(workflow)).result()).toBe("left")
      const signal = await started.promise
      await until(() => signal.aborted, "the abort")
    })

    it("pure asynchronous work between steps is replayed", async () => {
      const gate = makeGate()
      const workflow = defineWorkflow(rig.name("pure"), async (ctx) => {
        const one = await ctx.step("one", () => 1)
        await new Promise((resolve) => setTimeout(resolve, 30))
        const two = await ctx.step("two", () => one + 1)
        await ctx.step("gate", gate.step)
        return two
      })
      const { handle } = await rig.replay(workflow, gate, {})
      expect(await handle.result()).toBe(2)
    })
  })

  describe("bodies", () => {
    it("may be plain functions that never touch ctx", async () => {
      const sync = defineWorkflow(rig.name("sync"), (_, input: number) => input * 2)
      const nothing = defineWorkflow(rig.name("nothing"), () => undefined)
      const engine = await rig.started([sync, nothing])
      expect(await (await engine.trigger(sync, { input: 21 })).result()).toBe(42)
      expect(await (await engine.trigger(nothing)).result()).toBeUndefined()
    })

    it.each([
      ["a text", "just text"],
      ["undefined", undefined],
      ["null", null],
      ["a number", 7],
      ["an object", { reason: "because" }],
    ])("that throw %s fail with it", async (_, value) => {
      const body = defineWorkflow(rig.name("throws"), () => {
        throw value
      })
      const step = defineWorkflow(rig.name("step throws"), async (ctx) => {
        const caught = await ctx
          .step("throws", () => {
            throw value
          })
          .catch((error: unknown) => ({ error }))
        throw (caught as { error: unknown }).error
      })
      const engine = await rig.started([body, step])
      for (const workflow of [body, step]) {
        const handle = await engine.trigger(workflow)
        const error = await refusal(handle.result())
        expect(error.code).toBe("RunFailed")
        expect(error.cause).toEqual(value)
        const status = await handle.status()
        expect(status).toMatchObject({ status: "failed" })
        expect((status as { error: unknown }).error).toEqual(value)
      }
    })

    it("that throw synchronously, or an error with a cause and a code, keep all of it", async () => {
      const workflow = defineWorkflow(rig.name("rich"), () => {
        const cause = new RangeError("deep")
        throw Object.assign(new TypeError("top", { cause }), { code: "E_TOP", hint: "try b" })
      })
      const engine = await rig.started([workflow])
      const error = await refusal((await engine.trigger(workflow)).result())
      expect(error.message).toContain("TypeError [E_TOP]: top, caused by RangeError: deep")
      expect(error.cause).toMatchObject({
        name: "TypeError",
        code: "E_TOP",
        hint: "try b",
        cause: { name: "RangeError", message: "deep" },
      })
    })

    it("that open more operations at once than the limit fail, and say what to do", async () => {
      const workflow = defineWorkflow(rig.name("fan-out"), async (ctx) => {
        await Promise.all(Array.from({ length: 10_001 }, () => ctx.step("many", () => 1)))
      })
      const engine = await rig.started([workflow])
      const error = await refusal((await engine.trigger(workflow)).result())
      expect(error.cause).toMatchObject({ code: "HistoryTooLong", details: { open: 10_001 } })
      expect(error.message).toContain("split the work into child workflows")
    })
  })
}
