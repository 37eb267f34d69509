/** What is too much is refused where it comes in, by an error that names field and limit; soon. */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import {
  defineWorkflow,
  DurableEngine,
  MemoryWorkflowStore,
  type WorkflowContext,
} from "../../src/index.ts"
import * as Result from "effect/Result"
import { leastDistance, parse } from "../../src/Cron.ts"
import { createTestEngine } from "../../src/testing.ts"
import { refusal, thrown } from "../promise/rig.ts"

const mib = 1_048_576
const long = "x".repeat(256)
const huge = "x".repeat(mib)
const id = crypto.randomUUID()

/** Asks for one thing too much, inside of a body. */
let ask: (ctx: WorkflowContext) => unknown = () => undefined
const asks = defineWorkflow("asks", async (ctx, _input: unknown) => {
  await ask(ctx)
})

let engine: DurableEngine

beforeAll(async () => {
  engine = new DurableEngine({ workflows: [asks] })
  engine.setStore(new MemoryWorkflowStore())
  await engine.start()
})
afterAll(() => engine.stop())

const attributes = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`a${i}`, i]))

describe("a call", () => {
  const calls: Readonly<Record<string, readonly [() => Promise<unknown>, RegExp]>> = {
    "an input": [() => engine.trigger(asks, { input: huge }), /input is \d+ bytes.*1048576/],
    "an input of many": [
      () => engine.triggerMany(asks, [{ input: 1 }, { input: huge }]),
      /input of item 1 is \d+ bytes.*1048576/,
    ],
    "an idempotency key": [
      () => engine.trigger(asks, { input: 1, idempotencyKey: long }),
      /idempotencyKey: is 256 characters.*255/,
    ],
    "a concurrency key": [
      () => engine.trigger(asks, { input: 1, concurrencyKey: long }),
      /concurrencyKey: is 256 characters.*255/,
    ],
    attributes: [
      () => engine.trigger(asks, { input: 1, attributes: attributes(65) }),
      /attributes: has 65 attributes.*64/,
    ],
    "an attribute's name": [
      () => engine.trigger(asks, { input: 1, attributes: { [long]: 1 } }),
      /attributes: the name of an attribute is 256 characters.*255/,
    ],
    "an attribute's value": [
      () => engine.trigger(asks, { input: 1, attributes: { a: long } }),
      /attributes\.a: is 256 characters.*255/,
    ],
    attempts: [() => engine.trigger(asks, { input: 1, maxAttempts: 1e9 }), /maxAttempts: .*\d/],
    "a priority": [() => engine.trigger(asks, { input: 1, priority: 1e9 }), /priority: .*1000000/],
    "a deadline": [() => engine.trigger(asks, { input: 1, timeoutMs: 1e15 }), /timeoutMs: .*100/],
    "a schedule's key": [
      () => engine.schedule(asks, { cron: "@daily", input: 1, key: long }),
      /schedule key: is 256 characters.*255/,
    ],
    "a schedule's input": [
      () => engine.schedule(asks, { cron: "@daily", input: huge }),
      /input is \d+ bytes.*1048576/,
    ],
    "a rule": [
      () => engine.schedule(asks, { cron: `${"1,".repeat(200)}1 * * * *`, input: 1 }),
      /cron: 409 characters/,
    ],
    "a zone": [
      () => engine.schedule(asks, { cron: "@daily", input: 1, timeZone: huge }),
      /timeZone: .{1,400}$/,
    ],
    "the key of a schedule to remove": [
      () => engine.unschedule(long),
      /schedule key: is 256 characters.*255/,
    ],
    "an event's payload": [
      () => engine.sendEvent(id, "event", huge),
      /payload of event "event" is \d+ bytes.*1048576/,
    ],
    "an event's name": [() => engine.sendEvent(id, long), /event name: is 256 characters.*255/],
    "an event's id": [
      () => engine.sendEvent(id, "event", 1, { id: long }),
      /id of the event: is 256 characters.*255/,
    ],
    "a token": [() => engine.resolveToken(huge, 1), /.{1,400}/],
    "a token's payload": [() => engine.resolveToken("x", huge), /\d+ bytes.*1048576/],
    "a reason": [() => engine.cancel(id, { reason: huge }), /reason: is \d+ characters.*\d/],
    "a page": [() => engine.listRuns({ limit: 1001 }), /limit: .*1 to 1000/],
    "a page of dead letters": [() => engine.getDeadLetterRuns({ limit: 1001 }), /limit: .*1000/],
    "a workflow of dead letters": [
      () => engine.getDeadLetterRuns({ workflow: long }),
      /workflow: is 256 characters.*255/,
    ],
    "a filter's text": [
      () => engine.count({ workflow: long }),
      /filter\.workflow: is 256 characters.*255/,
    ],
    "a filter's key": [
      () => engine.listRuns({ idempotencyKey: huge }),
      /filter\.idempotencyKey: is \d+ characters.*255/,
    ],
    "a filter's statuses": [
      () => engine.count({ status: Array.from({ length: 1000 }, () => "failed" as const) }),
      /filter\.status: .*11.*1000/,
    ],
    "a filter's attributes": [
      () => engine.count({ attributes: attributes(65) }),
      /filter\.attributes: has 65.*64/,
    ],
  }

  it.each(Object.keys(calls))("with too much of %s", async (name) => {
    const [call, message] = calls[name]!
    const error = await refusal(call())
    expect(["InvalidInput", "PayloadTooLarge", "TokenNotFound"]).toContain(error.code)
    expect(error.retryable).toBe(false)
    expect(error.message).toMatch(message)
    // what was too much is not handed back
    expect(error.message.length).toBeLessThan(1000)
  })
})

describe("a body", () => {
  const bodies: Readonly<Record<string, readonly [typeof ask, RegExp]>> = {
    "a step's name": [(ctx) => ctx.step(long, () => 1), /step name: is 256 characters.*255/],
    "a step's result": [(ctx) => ctx.step("s", () => huge), /result of step "s" is \d+ bytes/],
    "a side effect's result": [(ctx) => ctx.sideEffect("s", () => huge), /is \d+ bytes.*1048576/],
    "a heartbeat": [
      (ctx) => ctx.step("s", ({ heartbeat }) => heartbeat(huge)),
      /heartbeat of step "s" is \d+ bytes.*1048576/,
    ],
    tries: [
      (ctx) => ctx.step("s", { run: () => 1, retry: { maxAttempts: 1e12 } }),
      /maxAttempts.*\d/,
    ],
    "a sleep": [(ctx) => ctx.sleep("s", { days: 40_000 }), /100 years/],
    "a sleep's name": [(ctx) => ctx.sleep(long, 1), /is 256 characters.*255/],
    "an emitted event": [(ctx) => ctx.emit("e", huge), /data of event "e" is \d+ bytes.*1048576/],
    "an emitted event's name": [(ctx) => ctx.emit(long), /event name: is 256 characters.*255/],
    "an awaited event's name": [(ctx) => ctx.waitForEvent(long), /event name: is 256 .*255/],
    "a patch's id": [(ctx) => ctx.patched(long), /patch id: is 256 characters.*255/],
    "a status": [(ctx) => ctx.setStatus("x".repeat(1001)), /status text: is 1001 .*1000/],
    attributes: [(ctx) => ctx.setAttributes(attributes(65)), /attributes: has 65.*64/],
    "a child's input": [(ctx) => ctx.workflow(asks, huge), /is \d+ bytes.*1048576/],
    "operations at once": [
      (ctx) => Promise.all(Array.from({ length: 10_001 }, (_, i) => ctx.sleep(`s${i}`, "1 day"))),
      /10001 open operations; the limits are .* 10000 at once/,
    ],
    "children at once": [
      (ctx) =>
        ctx.map(
          Array.from({ length: 10_001 }, (_, i) => i),
          (_, i) => ctx.workflow(asks, i),
        ),
      /open operations; the limits are/,
    ],
  }

  it.each(Object.keys(bodies))("with too much of %s", async (name) => {
    const [body, message] = bodies[name]!
    ask = body
    const { cause, code } = await refusal((await engine.trigger(asks, { input: 1 })).result())
    expect(code).toBe("RunFailed")
    expect(cause).toMatchObject({ retryable: false })
    expect((cause as Error).message).toMatch(message)
    expect((cause as Error).message.length).toBeLessThan(1000)
  })

  it("a definition of too long a name", () => {
    const error = thrown(() => defineWorkflow(long, () => 1))
    expect(error.message).toMatch(/name.*255/)
  })
})

describe("a rule that ticks too often", () => {
  const distances: ReadonlyArray<readonly [expression: string, seconds: number]> = [
    ["* * * * * *", 1],
    ["*/20 * * * * *", 20],
    ["59,0 * * * * *", 1],
    ["0 * * * * *", 60],
    ["* * * * *", 60],
    ["*/15 * * * *", 900],
    ["0,59 * * * *", 60],
    ["@hourly", 3600],
    ["59 23 * * *", 86_400],
    ["0,59 0,23 * * *", 60],
    ["0 9-17 * * 1", 3600],
    ["@daily", 86_400],
    ["30 30 4,16 * * *", 43_200],
    ["@yearly", 86_400],
  ]

  it.each(distances)("%s: its least distance is known", (expression, seconds) => {
    const rule = Result.getOrThrow(parse(expression))
    expect(leastDistance(rule)).toBe(seconds * 1000)
  })

  it("is refused by a limit, which is named; others are not", async () => {
    const strict = new DurableEngine({ workflows: [asks], limits: { minTickDistanceMs: 60_000 } })
    strict.setStore(new MemoryWorkflowStore())
    for (const [cron] of distances.filter(([, seconds]) => seconds >= 60)) {
      await strict.schedule(asks, { cron, input: 1 })
    }
    for (const [cron, seconds] of distances.filter(([, tooFew]) => tooFew < 60)) {
      const error = await refusal(strict.schedule(asks, { cron, input: 1 }))
      expect(error).toMatchObject({ code: "InvalidInput", details: { field: "cron" } })
      expect(error.message).toContain(`ticks every ${seconds * 1000} ms, and 60000 ms is`)
      expect(error.message).toContain("minTickDistanceMs")
    }
    await strict.stop()
  })

  it("fires one run after a long absence, whatever was missed", async () => {
    const ticks = defineWorkflow("ticks", () => 1)
    const late = createTestEngine({ workflows: [ticks], startAt: new Date("2030-01-01") })
    await late.schedule(ticks, { cron: "* * * * * *" })
    const count = async () => (await late.listRuns({ workflow: "ticks", limit: 1000 })).runs.length
    await late.clock.advance(3000)
    expect(await count()).toBe(3)
    await late.stop()
    // the same store, ten years later
    const store = new MemoryWorkflowStore()
    const before = createTestEngine({ workflows: [ticks], startAt: new Date("2030-01-01"), store })
    await before.schedule(ticks, { cron: "* * * * * *" })
    await before.stop()
    const after = createTestEngine({ workflows: [ticks], startAt: new Date("2040-01-01"), store })
    await after.start()
    await after.settle()
    expect((await after.listRuns({ workflow: "ticks" })).runs).toHaveLength(1)
    await after.stop()
  })
})

describe("a rule that is a bomb", () => {
  it.each([
    "* ".repeat(1000),
    `${",".repeat(250)} * * * *`,
    `${"*/".repeat(120)}1 * * * *`,
    `${"1-".repeat(120)}1 * * * *`,
    `0 0 30 2 *`,
    `0 0 31 4,6,9,11 *`,
    `*/1,*/1,*/1,*/1,*/1,*/1,*/1,*/1,*/1,*/1,*/1,*/1,*/1,*/1 * * * *`,
    `59 59 23 29 2 0`,
    `1-99999999999 * * * *`,
    `*/0 * * * *`,
    `*/1e9 * * * *`,
    `${"9".repeat(200)} * * * *`,
    `\t\n ${" ".repeat(100_000)}`,
    `${"a".repeat(100_000)}`,
  ])("%j is read, or refused, at once", (expression) => {
    const before = performance.now()
    parse(expression)
    parse("0 0 * * *", expression)
    expect(performance.now() - before).toBeLessThan(1000)
  })
})
