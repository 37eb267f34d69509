/**
 * Payload codecs on a store: values and errors come back, and are not stored as they are; keys may
 * change; who has the wrong one pauses a run, and loses nothing.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { describe, expect, it } from "vitest"
import { Engine, Event, PayloadCodec, Step, Worker, Workflow } from "../../src/effect.ts"
import {
  type AnyWorkflow,
  defineWorkflow,
  type PayloadCodecs,
  type WorkflowDefinition,
} from "../../src/index.ts"
import { makeGate, refusal, until, untilStatus } from "../promise/rig.ts"
import { canaries, leaksIn } from "../security/canaries.ts"
import { aes } from "./aes.ts"
import { enginesOf, type Place } from "./place.ts"

const k1 = aes("k1")
const k2 = aes("k2")

/** What the store searches, compares or only shows: it is stored as it is. */
const inTheOpen: ReadonlySet<string> = new Set(["attribute", "status", "key"])

let names = 0
const fresh = (base: string) => `${base}-${++names}`

const failing = defineWorkflow("codec-child", (ctx, secret: string) =>
  ctx.step("fails", () => {
    throw Object.assign(new Error(canaries.error), { card: secret, cause: canaries.error })
  }),
)

/** All that a run can hold, with a wait amid of it. */
const everything = () => {
  const gate = makeGate()
  let tries = 0
  const workflow = defineWorkflow(fresh("everything"), async (ctx, input: { secret: string }) => {
    ctx.setAttributes({ of: canaries.attribute })
    ctx.setStatus(canaries.status)
    const step = await ctx.step("rich", {
      run: ({ heartbeat }) => {
        heartbeat({ at: canaries.heartbeat })
        return new Map([[canaries.step, new Date(0)]])
      },
      compensate: () => {
        throw new Error(canaries.error)
      },
    })
    await ctx.step("tries again", {
      retry: { maxAttempts: 2, initialDelayMs: 1500 },
      run: ({ heartbeat, lastHeartbeat }) => {
        if (++tries > 1) return lastHeartbeat
        heartbeat({ at: canaries.heartbeat })
        throw new Error(canaries.error)
      },
    })
    await ctx.emit("tells", { secret: canaries.emitted })
    const token = await ctx.token("token")
    const child = await ctx
      .workflow(failing, input.secret, { name: "child" })
      .catch((error: Error) => error)
    const heard = await ctx.waitForEvent<string>("hears")
    await ctx.step("gate", gate.step)
    const told = await ctx.waitForToken<string>(token)
    return { secret: canaries.result, step, input, child, heard, told, token }
  })
  return { workflow, gate }
}

export const codecSuite = (place: Place): void => {
  describe(`payload codecs, ${place.name}`, () => {
    const engineOf = enginesOf(place)
    const leaks = async () => new Set((await place.stored()).flatMap(leaksIn))
    const hidden = async () => {
      expect([...(await leaks())].filter((name) => !inTheOpen.has(name))).toEqual([])
    }

    const playAll = async (codecs: PayloadCodecs | undefined) => {
      const { workflow, gate } = everything()
      const first = await engineOf([workflow, failing], codecs)
      const heard: Array<unknown> = []
      first.on("tells", (event) => void heard.push(event.data))
      const input = { secret: canaries.input }
      const run = await first.trigger(workflow, {
        input,
        idempotencyKey: `${canaries.key}-${names}`,
        attributes: { by: canaries.attribute },
      })
      const id = run.workflowRunId
      await first.schedule(workflow, { cron: "@yearly", input, key: `${canaries.key}-${names}` })
      await run.sendEvent("hears", canaries.event)
      await untilStatus(first, id, "sleeping")
      expect((await place.stored()).join()).toContain(id)
      const during = await leaks()
      await first.wake(id)
      await gate.reached
      await first.stop()
      const second = await engineOf([workflow, failing], codecs)
      const steps = await second.getSteps(id)
      const { result } = (steps.find((one) => one.stepKey === "token") ?? {}) as { result?: string }
      await second.resolveToken(result!, canaries.event)
      const end = (await second.handle(workflow, id).result()) as Record<string, any>
      return { second, run, steps, end, heard, during }
    }

    it("give back all that a run holds, on every replay, and leave none of it readable", async () => {
      const { second, run, steps, end, heard, during } = await playAll({ write: k1 })
      const id = run.workflowRunId
      expect(end).toMatchObject({
        secret: canaries.result,
        step: new Map([[canaries.step, new Date(0)]]),
        input: { secret: canaries.input },
        child: { code: "ChildFailed" },
        heard: { payload: canaries.event },
        told: { payload: canaries.event },
      })
      expect(steps.find((one) => one.stepKey === "tries again")).toMatchObject({
        result: { at: canaries.heartbeat },
      })
      expect(heard).toEqual([{ secret: canaries.emitted }])
      expect(await second.getEvents(id)).toMatchObject([{ data: { secret: canaries.emitted } }])
      expect(await second.getStatus(id)).toMatchObject({ result: { secret: canaries.result } })
      const children = await second.listRuns({ parentRunId: id })
      expect(children.runs[0]?.error).toMatchObject({
        message: canaries.error,
        card: canaries.input,
        cause: canaries.error,
      })
      const fork = await second.fork(id, { from: "gate" })
      await second.terminate(fork.workflowRunId)
      await second.unschedule(`${canaries.key}-${names}`)
      expect(during).toEqual(inTheOpen)
      expect(await leaks()).toEqual(inTheOpen)
    })

    it("hide errors of undos, of attempts, of ends", async () => {
      const name = fresh("fails")
      const workflow = defineWorkflow(name, async (ctx) => {
        await ctx.step("undone", {
          run: () => 1,
          compensate: () => {
            throw new Error(canaries.error)
          },
        })
        await ctx.step("fails", () => {
          throw new Error(canaries.error)
        })
      })
      const engine = await engineOf([workflow], { write: k1 })
      const run = await engine.trigger(workflow)
      expect((await refusal(run.result())).cause).toMatchObject({ message: canaries.error })
      const status = await engine.getStatus(run.workflowRunId)
      expect(status).toMatchObject({
        status: "failed",
        compensations: [{ stepKey: "undone", error: { message: canaries.error } }],
      })
      const twice = defineWorkflow(`${name}-twice`, () => {
        throw new Error(canaries.error)
      })
      const other = await engineOf([twice], { write: k1 })
      const dead = await other.trigger(twice, { maxAttempts: 2 })
      const error = await refusal(dead.result())
      expect(error.cause).toMatchObject({ message: canaries.error })
      await hidden()
    })

    it("let an error's cause be put under it by the store", async () => {
      const name = fresh("retries")
      const workflow = defineWorkflow(name, () => {
        throw new Error(canaries.error)
      })
      const engine = await engineOf([workflow], { write: k1 })
      const { workflowRunId } = await engine.trigger(workflow, { maxAttempts: 99 })
      await until(async () => ((await engine.getStatus(workflowRunId))?.attempt ?? 0) > 1)
      await engine.terminate(workflowRunId)
      expect(await engine.getStatus(workflowRunId)).toMatchObject({
        status: "cancelled",
        error: { cause: { message: canaries.error } },
      })
      await hidden()
    })

    describe("whose key is the wrong one", () => {
      const parts: Readonly<Record<string, (name: string) => ReadonlyArray<AnyWorkflow>>> = {
        "a result": (name) => [
          defineWorkflow(name, async (ctx) => {
            const n = await ctx.step("one", () => 1)
            await ctx.waitForEvent("go")
            return n
          }),
        ],
        "a caught error": (name) => [
          defineWorkflow(name, async (ctx) => {
            const error = await ctx
              .step("one", () => {
                throw new Error("for itself")
              })
              .catch((one: Error) => one.message)
            await ctx.waitForEvent("go")
            return error
          }),
        ],
        "a caught error, of a step with a schema": (name) => [
          defineWorkflow(name, async (ctx) => {
            const error = await ctx
              .step("one", {
                schema: {
                  "~standard": { version: 1, vendor: "t", validate: (value) => ({ value }) },
                },
                run: () => {
                  throw new Error("for itself")
                },
              })
              .catch((one: Error) => one.message)
            await ctx.waitForEvent("go")
            return error
          }),
        ],
        "the result of a child": (name) => {
          const child = defineWorkflow(`${name}-child`, () => 1)
          return [
            defineWorkflow(name, async (ctx) => {
              const n = await ctx.workflow(child, undefined)
              await ctx.waitForEvent("go")
              return n
            }),
            child,
          ]
        },
      }
      it.each(Object.keys(parts))(
        "pause a run at %s, and the right key resumes it",
        async (what) => {
          const workflows = parts[what]!(fresh("wrong"))
          const workflow = workflows[0] as WorkflowDefinition<void, unknown>
          const first = await engineOf(workflows, { write: k1, read: [k2] })
          const client = await engineOf(workflows, { write: k2 }, { start: false })
          const { workflowRunId: id } = await client.trigger(workflow)
          await untilStatus(first, id, "waiting")
          await first.stop()

          const wrong = aes("k1", "another secret")
          const second = await engineOf(workflows, { write: k2, read: [wrong] })
          await second.sendEvent(id, "go")
          const paused = await untilStatus(second, id, "paused")
          expect(paused.error).toMatchObject({ code: "UnreadableValue" })
          expect(String(paused.error)).toContain('payload codec "k1"')
          await second.stop()

          const none = await engineOf(workflows, undefined)
          await none.resume(id)
          const again = await untilStatus(none, id, "paused")
          expect(String(again.error)).toContain("k2")
          await none.stop()

          const third = await engineOf(workflows, { write: k2, read: [k1] })
          await third.resume(id)
          const result = await third.handle(workflow, id).result()
          expect(result).toBe(what.includes("error") ? "for itself" : 1)
        },
      )

      it("gives the next try of a step no heartbeat", async () => {
        const workflow = defineWorkflow(fresh("beats"), (ctx) =>
          ctx.step("beats", {
            retry: { maxAttempts: 2, initialDelayMs: 3_600_000 },
            run: ({ attempt, heartbeat, lastHeartbeat }) => {
              heartbeat({ at: 1 })
              if (attempt === 1) throw new Error("for itself")
              return [lastHeartbeat]
            },
          }),
        )
        const first = await engineOf([workflow], { write: k1, read: [k2] })
        const client = await engineOf([workflow], { write: k2 }, { start: false })
        const { workflowRunId: id } = await client.trigger(workflow)
        await untilStatus(first, id, "sleeping")
        await first.stop()
        const second = await engineOf([workflow], {
          write: k2,
          read: [aes("k1", "another secret")],
        })
        await second.wake(id)
        expect(await second.handle(workflow, id).result()).toEqual([undefined])
      })

      it("is told as such to who asks for a result", async () => {
        const workflow = defineWorkflow(fresh("asked"), () => 1)
        const first = await engineOf([workflow], { write: k1 })
        const run = await first.trigger(workflow)
        expect(await run.result()).toBe(1)
        const second = await engineOf([workflow], { write: k2 })
        const error = await refusal(second.handle(workflow, run.workflowRunId).result())
        expect(error.code).toBe("UnreadableValue")
        expect(error.message).toContain('payload codec "k1"')
      })

      it.each(["error", "result"])(
        "pause a parent at its child's %s, and lose it not",
        async (end) => {
          const name = fresh("parent")
          const child = defineWorkflow(`${name}-child`, async (ctx) => {
            await ctx.waitForEvent("go")
            if (end === "error") throw new Error("of the child")
            return "of the child"
          })
          const parent = defineWorkflow(name, (ctx) =>
            ctx
              .workflow(child, undefined)
              .catch((error: Error & { cause: Error }) => error.cause.message),
          )
          const first = await engineOf([parent, child], { write: k1, read: [k2] })
          const { workflowRunId: id } = await first.trigger(parent)
          await untilStatus(first, id, "waiting")
          await first.stop()

          const second = await engineOf([child], { write: k2, read: [k1] })
          const found = await second.listRuns({ parentRunId: id })
          const childId = found.runs[0]!.workflowRunId
          await second.sendEvent(childId, "go")
          await untilStatus(second, childId, end === "error" ? "failed" : "completed")
          await second.stop()

          const third = await engineOf([parent], { write: k1 })
          expect((await untilStatus(third, id, "paused")).error).toMatchObject({
            code: "UnreadableValue",
          })
          await third.stop()

          // what the third one took without reading it is not coded once more
          const fourth = await engineOf([parent], { read: [k1, k2] })
          await fourth.resume(id)
          expect(await fourth.handle(parent, id).result()).toBe("of the child")
          expect((await place.stored()).filter((text) => text.includes("k1:k2:"))).toEqual([])
        },
      )

      it("is a conflict for a trigger with a key that is taken, and says that it cannot tell", async () => {
        const workflow = defineWorkflow(fresh("keyed"), (_ctx, n: number) => n)
        const idempotencyKey = "key"
        const first = await engineOf([workflow], { write: k1 }, { start: false })
        const run = await first.trigger(workflow, { input: 1, idempotencyKey })
        const again = await first.trigger(workflow, { input: 1, idempotencyKey })
        expect(again).toMatchObject({ workflowRunId: run.workflowRunId, existing: true })
        const other = await refusal(first.trigger(workflow, { input: 2, idempotencyKey }))
        expect(other).toMatchObject({ code: "IdempotencyConflict", details: { fields: ["$"] } })
        const second = await engineOf([workflow], { write: k2 }, { start: false })
        const unsure = await refusal(second.trigger(workflow, { input: 1, idempotencyKey }))
        expect(unsure.code).toBe("IdempotencyConflict")
        expect(String(unsure.details["fields"])).toContain('payload codec "k1"')
      })
    })

    it("may change: each value is read by the codec that wrote it, and by none", async () => {
      const gate = makeGate()
      const workflow = defineWorkflow(fresh("rotated"), async (ctx, n: number) => {
        const one = await ctx.step("one", () => n + 1)
        await ctx.waitForEvent("two")
        const two = await ctx.step("two", () => one + 1)
        await ctx.waitForEvent("three")
        const three = await ctx.step("three", () => two + 1)
        await ctx.step("gate", gate.step)
        return three
      })
      const stored = async () => (await place.stored()).filter((text) => text.includes(id))
      const written = async () => {
        const found = (await stored()).flatMap((text) => text.match(/\bk[12]:json\b/g) ?? [])
        return new Set(found)
      }
      const plain = await engineOf([workflow], undefined, { start: false })
      const { workflowRunId: id } = await plain.trigger(workflow, { input: 1 })
      await plain.stop()
      const first = await engineOf([workflow], { write: k1 })
      await untilStatus(first, id, "waiting")
      await first.stop()
      expect(await written()).toEqual(new Set(["k1:json"]))
      const second = await engineOf([workflow], { write: k2, read: [k1] })
      await second.sendEvent(id, "two", "event")
      await until(async () => (await second.getSteps(id)).some((one) => one.stepKey === "two"))
      await second.stop()
      expect(await written()).toEqual(new Set(["k1:json", "k2:json"]))
      const third = await engineOf([workflow], { read: [k1, k2] })
      await third.sendEvent(id, "three", "event in the open")
      await gate.reached
      await third.stop()
      const fourth = await engineOf([workflow], { write: k2, read: [k1] })
      expect(await fourth.handle(workflow, id).result()).toBe(4)
      expect((await stored()).join()).toContain("event in the open")
    })

    it("that fail pause the run, store nothing in its place, and hold up no other", async () => {
      const broken = { on: false }
      const codec = {
        ...k1,
        encode: (bytes: Uint8Array) => {
          if (broken.on && Buffer.from(bytes).includes("trap"))
            throw new Error(`no key today${" ".repeat(1000)}`)
          return k1.encode(bytes)
        },
      }
      let bodies = 0
      const workflow = defineWorkflow(fresh("broken"), (ctx, text: string) =>
        ctx.step("makes", () => {
          bodies++
          return `${text} ${canaries.step}`
        }),
      )
      const engine = await engineOf([workflow], { write: codec })
      broken.on = true
      const refused = await refusal(engine.trigger(workflow, { input: "trap" }))
      expect(refused).toMatchObject({ code: "PayloadCodecFailed", details: { codec: "k1" } })
      expect(refused.message).toContain("no key today")
      expect(refused.message.length).toBeLessThan(400)
      broken.on = false
      const waits = await engineOf([workflow], { write: codec }, { start: false })
      const scheduledFor = new Date(Date.now() + 300)
      const run = await waits.trigger(workflow, { input: "trap", scheduledFor })
      broken.on = true
      const paused = await untilStatus(engine, run.workflowRunId, "paused")
      expect(String(paused.error)).toContain("no key today")
      const others = await Promise.all(
        ["a", "b", "c"].map((input) => engine.trigger(workflow, { input })),
      )
      expect(await Promise.all(others.map((one) => one.result()))).toHaveLength(3)
      expect(await engine.getSteps(run.workflowRunId)).toEqual([])
      broken.on = false
      const before = bodies
      await engine.resume(run.workflowRunId)
      expect(await run.result()).toBe(`trap ${canaries.step}`)
      expect(bodies).toBe(before + 1)
      await hidden()
    })

    it("may make at most 8 MiB of a value, at once, and of bytes", async () => {
      const workflow = defineWorkflow(fresh("large"), (_ctx, input: string) => input)
      const makes: ReadonlyArray<readonly [unknown, string]> = [
        [new Uint8Array(7_000_000), "more than the limit of 8388608"],
        [Promise.resolve(new Uint8Array(1)), "and at once"],
        ["text", "Uint8Array"],
      ]
      for (const [made, reason] of makes) {
        const write = { ...k1, encode: () => made as Uint8Array }
        const engine = await engineOf([workflow], { write }, { start: false })
        const error = await refusal(engine.trigger(workflow, { input: "x" }))
        expect(error.code).toBe("PayloadCodecFailed")
        expect(error.message).toContain(reason)
      }
    })

    it("are the same in the Effect API, with Schemas and typed failures", async () => {
      class Declined extends Schema.TaggedError<Declined>()("Declined", { card: Schema.String }) {}
      const Pay = Workflow.make(fresh("pay"), {
        payload: { card: Schema.String, at: Schema.Date },
        success: Schema.Struct({ card: Schema.String, heard: Schema.String }),
        error: Declined,
      })
      const PayLive = Pay.toLayer(
        Effect.fnUntraced(function* ({ card }) {
          const tried = yield* Step.make("charge", {
            error: Declined,
            run: Effect.fail(new Declined({ card: `${card} ${canaries.error}` })),
          }).pipe(Effect.flip)
          const heard = yield* Event.wait("hears", { schema: Schema.String })
          if (Option.contains(heard, "fail")) return yield* tried
          return { card: tried.card, heard: Option.getOrElse(heard, () => "nothing") }
        }),
      )
      const runtimeOf = (codecs: PayloadCodecs) =>
        ManagedRuntime.make(
          Layer.mergeAll(PayLive, Worker.layer({ pollIntervalMs: 20, useNotify: false })).pipe(
            Layer.provideMerge(Engine.layer()),
            Layer.provide(PayloadCodec.withCodecs(codecs)(place.layer())),
          ),
        )
      const statusOf = (id: string) => Effect.flatMap(Engine.Engine, (engine) => engine.getRun(id))
      const first = runtimeOf({ write: k1 })
      const payload = { card: canaries.input, at: new Date(0) }
      const [paid, declined] = await Promise.all(
        [1, 2].map(() => first.runPromise(Workflow.trigger(Pay, payload))),
      )
      const ids = [paid!.workflowRunId, declined!.workflowRunId]
      for (const id of ids) {
        await until(async () => (await first.runPromise(statusOf(id)))?.status === "waiting")
      }
      await first.dispose()

      const wrong = runtimeOf({ write: k2, read: [aes("k1", "another secret")] })
      await wrong.runPromise(Event.send(ids[0]!, "hears", canaries.event))
      const row = await until(async () => {
        const found = await wrong.runPromise(statusOf(ids[0]!))
        return found?.status === "paused" && found
      })
      expect(row.pauseReason).toMatchObject({ tag: "UnreadableValue" })
      expect(row.pauseReason?.message).toContain('payload codec "k1"')
      await wrong.dispose()

      const second = runtimeOf({ write: k2, read: [k1] })
      await second.runPromise(Effect.flatMap(Engine.Engine, (engine) => engine.resume(ids[0]!)))
      await second.runPromise(Event.send(ids[1]!, "hears", "fail"))
      const card = `${canaries.input} ${canaries.error}`
      const handle = (id: string) => second.runPromise(Workflow.handle(Pay, id))
      const good = await handle(ids[0]!)
      expect(await second.runPromise(good.result)).toEqual({ card, heard: canaries.event })
      const bad = await handle(ids[1]!)
      const failure = await second.runPromise(Effect.flip(bad.result))
      expect(failure).toBeInstanceOf(Declined)
      expect(failure).toMatchObject({ card })
      await second.dispose()

      const late = runtimeOf({ write: k1 })
      for (const one of [good, bad]) {
        const unread = await late.runPromise(
          Effect.flip(
            Effect.flatMap(Workflow.handle(Pay, one.workflowRunId), ({ result }) => result),
          ),
        )
        expect(unread).toMatchObject({ _tag: "UnreadableValue" })
      }
      await late.dispose()
      await hidden()
    })

    it("would be missed: without one, all of it is found", async () => {
      const { during } = await playAll(undefined)
      const all = new Set([...during, ...(await leaks())])
      const stored = Object.keys(canaries).filter((name) => name !== "password")
      expect([...all].toSorted()).toEqual(stored.toSorted())
    })

    it("are refused with words where they are none", async () => {
      const bad: ReadonlyArray<readonly [unknown, string]> = [
        [1, "payloadCodecs"],
        [{ read: k1 }, "payloadCodecs"],
        [{ write: { ...k1, name: "K 1" } }, "payloadCodecs.write"],
        [{ write: { ...k1, name: "a:b" } }, "payloadCodecs.write"],
        [{ write: { name: "k1", encode: k1.encode } }, "payloadCodecs.write"],
        [{ write: k1, read: [k2, aes("k1", "other")] }, "payloadCodecs.read[1]"],
        [{ write: null }, "payloadCodecs.write"],
      ]
      for (const [payloadCodecs, field] of bad) {
        const error = await engineOf([], payloadCodecs as PayloadCodecs).then(
          () => null,
          (reason: unknown) => reason,
        )
        expect(error).toMatchObject({ code: "InvalidInput", details: { field } })
      }
      const layer = PayloadCodec.withCodecs({ write: { ...k1, name: "" } })(place.layer())
      const failure = await Effect.runPromise(Effect.flip(Effect.scoped(Layer.build(layer))))
      expect(failure).toMatchObject({ _tag: "InvalidInput", field: "payloadCodecs.write" })
    })
  })
}
