/**
 * Names that mean something to JavaScript mean nothing here: as names of workflows, steps, events,
 * children, attributes, keys and fields of payloads they are data, or refused, and
 * `Object.prototype` is as it was (I18).
 */
import { describe, expect, it } from "vitest"
import { defineWorkflow, DurableEngine, MemoryWorkflowStore } from "../../src/index.ts"
import { refusal, thrown } from "../promise/rig.ts"

const poison = [
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "hasOwnProperty",
  "valueOf",
  "then",
  "__defineGetter__",
]

const shape = (): string =>
  JSON.stringify(
    [Object.prototype, Array.prototype, Function.prototype, Error.prototype].map((one) =>
      Reflect.ownKeys(one).map(String),
    ),
  )
const before = shape()

/** `JSON.parse` makes `__proto__` an own key, as an attacker's request does. */
const parsed = (key: string): unknown =>
  JSON.parse(`{ "${key}": { "polluted": true, "isAdmin": true } }`)

describe.each(poison)("the name %s", (name) => {
  it("names a workflow, its steps, events, children, keys and attributes, and does no harm", async () => {
    const workflow = defineWorkflow(name, async (ctx, depth: number): Promise<unknown> => {
      const step = await ctx.step(name, () => ({ [`${name} `]: depth }))
      await ctx.step(name, {
        retry: { maxAttempts: 2, initialDelayMs: 1 },
        run: ({ attempt }) => {
          if (attempt === 1) throw Object.assign(new Error(name), { code: name, [`x${name}`]: 1 })
        },
      })
      await ctx.sideEffect(name, () => 1)
      await ctx.emit(name, depth)
      await ctx.sleep(name, 1)
      expect(await ctx.patched(name)).toBe(true)
      ctx.setAttributes({ [`${name}.set`]: name })
      if (depth > 0) return step
      await ctx.waitForEvent(name)
      return ctx.workflow(workflow, depth + 1, { name })
    })
    await using engine = new DurableEngine({ workflows: [workflow] })
    engine.setStore(new MemoryWorkflowStore())
    const told: Array<string> = []
    engine.on(name, ({ event }) => told.push(event))
    await engine.start()
    const handle = await engine.trigger(workflow, {
      input: 0,
      idempotencyKey: name,
      concurrencyKey: name,
      attributes: { [`${name}.given`]: name },
    })
    await handle.sendEvent(name, name, { id: name })
    expect(await handle.result()).toEqual({ [`${name} `]: 1 })
    expect(told.length).toBeGreaterThan(0)
    expect(await engine.trigger(workflow, { input: 0, idempotencyKey: name })).toMatchObject({
      existing: true,
    })
    expect((await engine.getSteps(handle.workflowRunId)).map((one) => one.stepKey)).toContain(name)
    const found = await engine.listRuns({ attributes: { [`${name}.given`]: name } })
    expect(found.runs).toHaveLength(1)
    expect(found.runs[0]?.attributes).toEqual({ [`${name}.given`]: name, [`${name}.set`]: name })
    await engine.schedule(workflow, { cron: "@yearly", input: 0, key: name })
    expect(await engine.unschedule(name)).toBe(true)
    expect(shape()).toBe(before)
  })

  it("is a field of a payload as its own data, or is refused; nothing inherits it", async () => {
    const workflow = defineWorkflow("echoes", async (ctx, input: unknown) => {
      const kept = await ctx.step("keep", () => input)
      const event = await ctx.waitForEvent("event")
      return { kept, event: event.payload }
    })
    await using engine = new DurableEngine({ workflows: [workflow] })
    engine.setStore(new MemoryWorkflowStore())
    await engine.start()
    const bad = name === "__proto__"
    const input = parsed(bad ? "fine" : name)
    const handle = await engine.trigger(workflow, { input })
    await handle.sendEvent("event", input)
    expect(await handle.result()).toEqual({ kept: input, event: input })
    for (const call of bad
      ? [
          () => engine.trigger(workflow, { input: parsed(name) }),
          () => handle.sendEvent("event", { deep: [parsed(name)] }),
        ]
      : []) {
      expect((await refusal(call())).code).toBe("SerializationError")
    }
    expect(shape()).toBe(before)
    expect(({} as { isAdmin?: boolean }).isAdmin).toBeUndefined()
  })

  it("is an attribute's name as its own data", async () => {
    const workflow = defineWorkflow("attributes", () => undefined)
    await using engine = new DurableEngine({ workflows: [workflow] })
    engine.setStore(new MemoryWorkflowStore())
    const attributes = JSON.parse(`{ "${name}": "mine" }`) as Record<string, string>
    const { workflowRunId } = await engine.trigger(workflow, { attributes })
    const run = await engine.getRun(workflowRunId)
    expect(Object.entries(run?.attributes ?? {})).toEqual([[name, "mine"]])
    expect(await engine.count({ attributes })).toBe(1)
    expect(shape()).toBe(before)
  })

  it("is no option, policy or hook", async () => {
    const workflow = defineWorkflow("options", () => undefined)
    await using engine = new DurableEngine({ workflows: [workflow] })
    engine.setStore(new MemoryWorkflowStore())
    expect(thrown(() => engine.hook(name as never, () => undefined)).code).toBe("InvalidInput")
    const conflict = { idempotencyKey: "k", onConflict: name as never }
    expect((await refusal(engine.trigger(workflow, conflict))).code).toBe("InvalidInput")
    expect((await refusal(engine.count({ status: name as never }))).code).toBe("InvalidInput")
    expect((await refusal(engine.count(parsed(name) as never))).code).toBe("InvalidInput")
    for (const cron of [name, `@${name}`, `${name} * * * *`]) {
      expect((await refusal(engine.schedule(workflow, { cron }))).code).toBe("InvalidInput")
    }
  })
})

it("an error's fields of such names change no prototype on their way back", async () => {
  const fields = JSON.parse(
    '{ "__proto__": { "polluted": true }, "constructor": { "prototype": { "polluted": true } } }',
  ) as object
  const workflow = defineWorkflow("throws", (ctx) =>
    ctx.step("throws", () => {
      throw Object.defineProperties(new Error("x"), Object.getOwnPropertyDescriptors(fields))
    }),
  )
  await using engine = new DurableEngine({ workflows: [workflow] })
  engine.setStore(new MemoryWorkflowStore())
  await engine.start()
  const { cause } = await refusal((await engine.trigger(workflow)).result())
  expect(cause).toBeInstanceOf(Error)
  expect(Object.getPrototypeOf(cause)).toBe(Error.prototype)
  expect((cause as { polluted?: boolean }).polluted).toBeUndefined()
  expect(({} as { polluted?: boolean }).polluted).toBeUndefined()
  expect(shape()).toBe(before)
})
