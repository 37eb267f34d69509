/** Values: what round-trips, what is refused and where, and schemas of zod and valibot. */
import * as v from "valibot"
import { describe, expect, it } from "vitest"
import { z } from "zod"
import { defineWorkflow } from "../../src/index.ts"
import { type Backend, makeGate, refusal, untilStatus, useRig } from "./rig.ts"

const rich = () => ({
  date: new Date(1234),
  map: new Map<unknown, unknown>([["a", new Set([1, 2])]]),
  big: 12345678901234567890n,
  nothing: undefined,
  nan: NaN,
  infinite: -Infinity,
  zero: -0,
  bytes: new Uint8Array([1, 2, 3]),
  url: new URL("https://example.org/a?b=c"),
  nested: { list: [1, null, undefined, { deep: new Date(0) }] },
  text: 'quotes " and \\ and ünïcödé 🚀',
})

class Account {
  readonly id = 1
}

const cycle = (): unknown => {
  const value: { self?: unknown } = {}
  value.self = value
  return value
}

export const valuesSuite = (backend: Backend): void => {
  const rig = useRig(backend)

  it("come back as themselves: input, step, side effect, child, event, result", async () => {
    const gate = makeGate()
    const child = defineWorkflow(rig.name("echo"), (_, input: ReturnType<typeof rich>) => input)
    const workflow = defineWorkflow(
      rig.name("values"),
      async (ctx, input: ReturnType<typeof rich>) => {
        const first = await ctx.step("step", () => rich())
        const second = await ctx.sideEffect("effect", () => rich())
        const third = await ctx.workflow(child, rich())
        await ctx.emit("event", rich())
        await ctx.step("gate", gate.step)
        return [input, first, second, third]
      },
    )
    const { engine, handle } = await rig.replay(workflow, gate, { input: rich() }, [child])
    expect(await handle.result()).toEqual([rich(), rich(), rich(), rich()])
    expect((await handle.status())?.input).toEqual(rich())
    expect((await engine.getEvents(handle.workflowRunId))[0]?.data).toEqual(rich())
  })

  it("are on the first run what they will be on replay", async () => {
    const shared = { n: 1 }
    const workflow = defineWorkflow(rig.name("decoded"), async (ctx) => {
      const given = await ctx.step("shared", () => shared)
      return [given === shared, given.n]
    })
    const engine = await rig.started([workflow])
    expect(await (await engine.trigger(workflow)).result()).toEqual([false, 1])
  })

  const bad: ReadonlyArray<readonly [string, () => unknown, string, string]> = [
    ["a function", () => ({ a: [() => 1] }), "SerializationError", "$.a[0]"],
    ["a cycle", cycle, "SerializationError", "$.self"],
    ["a class instance", () => ({ account: new Account() }), "SerializationError", "$.account"],
    ["a symbol", () => Symbol("s"), "SerializationError", "$"],
    ["a promise", () => ({ p: Promise.resolve(1) }), "SerializationError", "$.p"],
    ["NUL as a key", () => ({ "\0": 1 }), "", ""],
    ["17 MiB", () => "x".repeat(17 * 1024 * 1024), "PayloadTooLarge", ""],
    ["1 MiB and a byte", () => "x".repeat(1024 * 1024), "PayloadTooLarge", ""],
  ]

  describe.each(bad.filter(([, , code]) => code !== ""))(
    "that cannot be stored: %s",
    (_, make, code, path) => {
      const expectRefused = (error: unknown, field: string) => {
        expect(error).toMatchObject({ code, retryable: false })
        expect((error as { details: { field: string } }).details.field).toBe(field)
        expect((error as Error).message).toContain(field)
        if (path !== "") {
          expect((error as { details: { path: string } }).details.path).toBe(path)
          expect((error as Error).message).toContain(`at ${path})`)
        }
      }

      it("as input: trigger rejects, and nothing is started", async () => {
        const workflow = defineWorkflow(rig.name("bad input"), (__, ___: unknown) => 1)
        const engine = rig.engine([workflow])
        expectRefused(await refusal(engine.trigger(workflow, { input: make() })), "input")
      })

      it("as a step's result: the step fails, and is not tried again", async () => {
        let tries = 0
        const caught: Array<unknown> = []
        const workflow = defineWorkflow(rig.name("bad result"), async (ctx) => {
          try {
            await ctx.step("makes it", {
              run: () => {
                tries++
                return make()
              },
              retry: { maxAttempts: 3, initialDelayMs: 1 },
            })
          } catch (error) {
            caught.push(error)
            throw error
          }
        })
        const engine = await rig.started([workflow])
        const error = await refusal((await engine.trigger(workflow)).result())
        expectRefused(error.cause, 'result of step "makes it"')
        expectRefused(caught[0], 'result of step "makes it"')
        expect(tries).toBe(1)
      })

      it("as the workflow's result: the run fails", async () => {
        const workflow = defineWorkflow(rig.name("bad end"), () => make())
        const engine = await rig.started([workflow])
        const error = await refusal((await engine.trigger(workflow)).result())
        expectRefused(error.cause, "result of the workflow")
      })
    },
  )

  it("NUL and lone surrogates in text are no trouble for anybody", async () => {
    const texts = { nul: "a\0b", lone: "a\ud800b", ["k\0"]: 1 }
    const workflow = defineWorkflow(rig.name("texts"), async (ctx, input: unknown) => {
      const step = await ctx
        .step("step", () => texts)
        .catch((error: { code: string }) => error.code)
      return [input, step]
    })
    const engine = await rig.started([workflow])
    const answer = await engine.trigger(workflow, { input: texts }).then(
      (handle) => handle.result(),
      (error: { code: string }) => error.code,
    )
    // kept or refused, but the same on all stores, and never in the middle of a run
    expect(answer).toBe("SerializationError")
  })

  it("of many branches, large and at once, fit their journal and their replay", async () => {
    const gate = makeGate()
    const size = 900_000
    const workflow = defineWorkflow(rig.name("large"), async (ctx) => {
      const all = await Promise.all(
        Array.from({ length: 24 }, (_, i) =>
          ctx.step("large", () => String.fromCharCode(65 + i).repeat(size)),
        ),
      )
      await ctx.step("gate", gate.step)
      return all.map((text) => `${text[0]}${text.length}`)
    })
    const { handle } = await rig.replay(workflow, gate, {})
    const result = await handle.result()
    expect(result).toEqual(
      Array.from({ length: 24 }, (_, i) => `${String.fromCharCode(65 + i)}${size}`),
    )
  })

  const kinds = [
    {
      library: "zod",
      order: z.object({ items: z.array(z.object({ price: z.number() })) }),
      strict: z.object({ items: z.array(z.object({ price: z.number().max(5) })) }),
      filling: z.object({
        items: z.array(z.object({ price: z.number() })),
        by: z.string().default("x"),
      }),
    },
    {
      library: "valibot",
      order: v.object({ items: v.array(v.object({ price: v.number() })) }),
      strict: v.object({ items: v.array(v.object({ price: v.pipe(v.number(), v.maxValue(5)) })) }),
      filling: v.object({
        items: v.array(v.object({ price: v.number() })),
        by: v.optional(v.string(), "x"),
      }),
    },
  ] as const

  describe.each(kinds)("schemas of $library", ({ order, strict, filling }) => {
    const input = { items: [{ price: 1 }, { price: 10 }] }

    it("check the input at trigger and name the path", async () => {
      const workflow = defineWorkflow(
        rig.name("input"),
        (_, given: { items: unknown[] }) => given.items.length,
        {
          input: order,
        },
      )
      const engine = await rig.started([workflow])
      const wrong = { items: [{ price: 1 }, { price: "1" }] }
      const error = await refusal(engine.trigger(workflow, { input: wrong as never }))
      expect(error).toMatchObject({ code: "InvalidInput", retryable: false })
      expect(error.message).toContain("$.items[1].price")
      expect(await (await engine.trigger(workflow, { input })).result()).toBe(2)
      const scheduled = refusal(
        engine.schedule(workflow, { cron: "@daily", input: wrong as never }),
      )
      expect((await scheduled).code).toBe("InvalidInput")
    })

    it("check a step's result: a bad one fails the step, with its path, untried again", async () => {
      let tries = 0
      const workflow = defineWorkflow(rig.name("result"), (ctx) =>
        ctx.step("price", {
          run: () => {
            tries++
            return { items: [{ price: "free" }] } as never
          },
          schema: order,
          retry: { maxAttempts: 3, initialDelayMs: 1 },
        }),
      )
      const engine = await rig.started([workflow])
      const error = await refusal((await engine.trigger(workflow)).result())
      expect(error.cause).toMatchObject({
        code: "SerializationError",
        details: { field: 'result of step "price"', path: "$.items[0].price" },
      })
      expect(tries).toBe(1)
    })

    it("that refuse a stored input pause the run with the path; good code resumes it", async () => {
      const name = rig.name("stored input")
      const body = (_: unknown, given: { items: ReadonlyArray<unknown> }) => given.items.length
      const loose = defineWorkflow(name, body, { input: order })
      const tight = defineWorkflow(name, body, { input: strict })
      const handle = await rig.engine([loose]).trigger(loose, { input })
      const second = await rig.started([tight])
      const paused = await untilStatus(second, handle.workflowRunId, "paused")
      expect(paused.error).toMatchObject({ code: "UnreadableValue", details: { field: "input" } })
      expect((paused.error as Error).message).toContain("$.items[1].price")
      await second.stop()
      const third = await rig.started([loose])
      await third.resume(handle.workflowRunId)
      expect(await handle.result()).toBe(2)
    })

    it("that refuse a stored result pause the run with the path; good code resumes it", async () => {
      const name = rig.name("stored result")
      const gate = makeGate()
      let ran = 0
      const make = (schema: typeof order | typeof strict) =>
        defineWorkflow(name, async (ctx) => {
          const priced = await ctx.step("price", {
            run: () => {
              ran++
              return input
            },
            schema,
          })
          await ctx.step("gate", gate.step)
          return priced.items.length
        })
      const loose = make(order)
      const tight = make(strict)
      const first = await rig.started([loose], { worker: { shutdownTimeoutMs: 20 } })
      const handle = await first.trigger(loose)
      await gate.reached
      await first.stop()
      const second = await rig.started([tight])
      const paused = await untilStatus(second, handle.workflowRunId, "paused")
      expect((paused.error as Error).message).toMatch(
        /result of step "price".*\$\.items\[1\]\.price/,
      )
      await second.stop()
      const third = await rig.started([loose])
      await third.resume(handle.workflowRunId)
      expect(await third.handle(loose, handle.workflowRunId).result()).toBe(2)
      expect(ran).toBe(1)
    })

    it("that fill in what is missing do so for body and undo, at each reading", async () => {
      const seen: Array<unknown> = []
      const workflow = defineWorkflow(
        rig.name("filled"),
        async (ctx, given: { by: string }) => {
          seen.push(given.by)
          const result = await ctx.step("fill", {
            run: () => ({ items: [] }) as never,
            schema: filling as typeof filling & {
              "~standard": { types?: { output: { by: string } } }
            },
            compensate: (value: { by: string }) => void seen.push(value.by),
          })
          seen.push((result as { by: string }).by)
          throw new Error("undo")
        },
        { input: filling as never },
      )
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow, { input: { items: [] } as never })
      await refusal(handle.result())
      expect(seen.slice(0, 2)).toEqual(["x", "x"])
      expect(seen.at(-1)).toBe("x")
      expect((await handle.status())?.input).toEqual({ items: [] })
    })
  })
}
