/**
 * I18: secrets stay where they were put. One scenario of all that a run can hold, with all that can go
 * wrong; then every log line of every level, every span, every error and every statement's text is
 * searched. Values belong into rows, and nowhere else.
 */
import * as Context from "effect/Context"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import pg from "pg"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest"
import { layerStore } from "../../src/EngineClock.ts"
import { defineWorkflow, DurableEngine, type DurableEngineOptions } from "../../src/index.ts"
import { layUnder } from "../../src/promise/underlay.ts"
import { refusal, thrown, untilStatus } from "../promise/rig.ts"
import { createDatabase, type TestDatabase, withClient } from "../support/database.ts"
import { canaries, leaksIn } from "./canaries.ts"

let database: TestDatabase
const ends: Array<() => Promise<unknown>> = []

/** Everything that left the engine other than as a value, since the test began. */
const said: Array<unknown> = []
const spans: Array<Tracer.NativeSpan> = []
const statements: Array<string> = []

/** What a tracer exports of a span: not the value of a success. */
const exported = (span: Tracer.NativeSpan): ReadonlyArray<unknown> => [
  span.name,
  span.attributes,
  span.events,
  span.status._tag === "Ended" && Exit.isFailure(span.status.exit) ? span.status.exit.cause : null,
]

beforeAll(async () => {
  database = await createDatabase()
  await using engine = new DurableEngine({ url: database.url, workflows: [] })
  await engine.migrate()
})
afterAll(() => database.drop())
beforeEach(() => {
  said.length = 0
  spans.length = 0
  statements.length = 0
  for (const level of ["log", "info", "warn", "error", "debug"] as const) {
    vi.spyOn(console, level).mockImplementation((...line) => void said.push(line))
  }
})
afterEach(async () => {
  for (const end of ends.splice(0)) await end()
  vi.restoreAllMocks()
})

/** Engines whose logs of all levels and whose spans are kept. */
const engineOf = (options: Partial<DurableEngineOptions>): DurableEngine => {
  const log = (...line: Array<unknown>) => void said.push(line)
  const whole: DurableEngineOptions = {
    workflows: [everything, failing, tooLarge, odd, refused, moved],
    logger: { debug: log, info: log, warn: log, error: log },
    ...options,
    worker: { pollIntervalMs: 50, ...options.worker },
  }
  const tracer = Tracer.make({
    span: (given) => {
      const span = new Tracer.NativeSpan(given)
      spans.push(span)
      return span
    },
  })
  layUnder(whole, {
    clock: Layer.mergeAll(
      Layer.succeed(Tracer.Tracer, tracer),
      Layer.succeed(References.MinimumLogLevel, "All"),
    ),
    engineClock: layerStore,
    store: (store) => store,
    worker: whole.worker ?? {},
    onEngine: () => undefined,
    onWorker: () => undefined,
  })
  const engine = new DurableEngine(whole)
  ends.unshift(() => engine.stop())
  return engine
}

const poolOf = (url: string): pg.Pool => {
  const pool = new pg.Pool({ connectionString: url, max: 10 })
  ends.unshift(() => pool.end())
  pool.on("connect", (client) => {
    const query = client.query.bind(client) as (...args: Array<any>) => any
    Object.assign(client, {
      query: (...args: Array<any>) => {
        statements.push(typeof args[0] === "string" ? args[0] : args[0].text)
        return query(...args)
      },
    })
  })
  return pool
}

const everything = defineWorkflow("everything", async (ctx, input: { secret: string }) => {
  ctx.setAttributes({ token: canaries.attribute })
  ctx.setStatus(canaries.status)
  await ctx.step("remembers", ({ heartbeat }) => {
    heartbeat({ at: canaries.heartbeat })
    return { secret: canaries.step }
  })
  await ctx.step("tries twice", {
    retry: { maxAttempts: 2, initialDelayMs: 1 },
    run: ({ attempt }) => {
      if (attempt === 1) throw new Error(canaries.error)
    },
  })
  await ctx.emit("tells", { secret: canaries.emitted })
  const event = await ctx.waitForEvent<string>("hears")
  const child = await ctx.workflow(failing, input, { name: "child" }).catch(() => "failed")
  await ctx.transaction("commits", async (client) => {
    const { rows } = await client.query("select $1 as secret", [canaries.step])
    return rows[0].secret as string
  })
  return { secret: canaries.result, input, event, child }
})

const failing = defineWorkflow("failing", async (ctx, input: { secret: string }) => {
  await ctx.step("undone", {
    run: () => input.secret,
    compensate: () => {
      throw new Error(canaries.error)
    },
  })
  await ctx.step("fails", () => {
    throw Object.assign(new Error(canaries.error), { cause: new Error(canaries.error) })
  })
})

const tooLarge = defineWorkflow("too-large", (ctx, input: { secret: string }) =>
  ctx.step("makes", () => (input.secret + canaries.step).repeat(100_000)),
)

const odd = defineWorkflow("odd", (ctx, input: { secret: string }) =>
  ctx.step("makes", () => ({ secret: input.secret, next: [canaries.step, () => input.secret] })),
)

/** Its step's result is one that a constraint of the database does not let in. */
const refused = defineWorkflow("refused", (ctx, input: { secret: string }) =>
  ctx.step("makes", () => ["refuse me", input.secret, canaries.step]),
)

let moves = 0
const moved = defineWorkflow("moved", async (ctx, input: { secret: string }) => {
  await ctx.step(moves++ === 0 ? "old name" : "new name", () => [input.secret, canaries.step])
  await ctx.sleep("long", "1 day")
})

const input = { secret: canaries.input }

const nothingLeaked = (): void => {
  expect(said.flatMap(leaksIn)).toEqual([])
  expect(spans.flatMap(exported).flatMap(leaksIn)).toEqual([])
  expect(statements.flatMap(leaksIn)).toEqual([])
}

describe.each(["pool", "url"] as const)("with a %s", (driver) => {
  const to = (url: string): Partial<DurableEngineOptions> =>
    driver === "pool" ? { pool: poolOf(url) } : { url }

  it("a run with all that it can hold says none of it", async () => {
    const engine = engineOf(to(database.url))
    engine.onAny(() => undefined)
    engine.hook("step:failed", () => undefined)
    await engine.start()
    const handle = await engine.trigger(everything, {
      input,
      idempotencyKey: `${canaries.key}-${driver}`,
      concurrencyKey: `${canaries.key}-${driver}`,
      attributes: { customer: canaries.attribute },
    })
    await handle.sendEvent("hears", { secret: canaries.event }, { id: canaries.key })
    expect(await handle.result()).toMatchObject({ child: "failed" })
    await engine.schedule(everything, { cron: "@yearly", input, key: canaries.key })
    await engine.unschedule(canaries.key)
    const filter = { attributes: { customer: canaries.attribute } }
    expect(await engine.count(filter)).toBeGreaterThan(0)
    await engine.stop()
    expect(spans.length).toBeGreaterThan(0)
    nothingLeaked()
    expect(statements.length > 20).toBe(driver === "pool")
  })

  it("a failed run tells its error to who asks, and nobody else; of its values nothing", async () => {
    const engine = engineOf(to(database.url))
    await engine.start()
    const error = await refusal((await engine.trigger(failing, { input })).result())
    expect(new Set(leaksIn(error))).toEqual(new Set(["error"]))
    nothingLeaked()
  })

  it("what is too large, or cannot be stored, is not shown", async () => {
    const engine = engineOf(to(database.url))
    await engine.start()
    for (const handle of [
      await engine.trigger(tooLarge, { input }),
      await engine.trigger(odd, { input }),
    ]) {
      expect(leaksIn(await refusal(handle.result()))).toEqual([])
    }
    const huge = { secret: canaries.input.repeat(100_000) }
    expect(leaksIn(await refusal(engine.trigger(everything, { input: huge })))).toEqual([])
    const strange = { secret: canaries.input, not: Symbol(canaries.input) } as { secret: string }
    expect(leaksIn(await refusal(engine.trigger(everything, { input: strange })))).toEqual([])
    nothingLeaked()
  })

  it("a statement that the database refuses shows no row and no parameter", async () => {
    const schema = `refuses_${driver}`
    const engine = engineOf({ ...to(database.url), schema })
    await engine.migrate()
    await withClient(database.url, async (client) => {
      for (const [table, column] of [
        ["workflow_runs", "input"],
        ["workflow_steps", "result"],
        ["workflow_events", "payload"],
      ]) {
        await client.query(
          `alter table ${schema}.${table} add check (${column}::text not like '%refuse me%')`,
        )
      }
    })
    await engine.start()
    const handle = await engine.trigger(refused, { input })
    const told = await refusal(handle.result())
    expect(told.message).toContain("violates check constraint")
    expect(leaksIn(told)).toEqual([])
    const bad = { secret: `refuse me ${canaries.input}` }
    expect(leaksIn(await refusal(engine.trigger(everything, { input: bad })))).toEqual([])
    const open = await engine.trigger(everything, { input })
    const sent = open.sendEvent("other", ["refuse me", canaries.event])
    expect(leaksIn(await refusal(sent))).toEqual([])
    expect(said.length).toBeGreaterThan(0)
    nothingLeaked()
  })

  it("code that does not fit its history is named by its steps alone", async () => {
    moves = 0
    const first = engineOf({ ...to(database.url), schema: `moved_${driver}` })
    await first.migrate()
    await first.start()
    const { workflowRunId } = await first.trigger(moved, { input })
    await untilStatus(first, workflowRunId, "sleeping")
    await first.wake(workflowRunId)
    const paused = await untilStatus(first, workflowRunId, "paused")
    expect(leaksIn(paused.error)).toEqual([])
    expect(leaksIn((await first.explain(workflowRunId))?.summary)).toEqual([])
    nothingLeaked()
  })

  it("a key's conflict tells nothing of the other input but where the own one differs", async () => {
    const engine = engineOf(to(database.url))
    const key = { idempotencyKey: `conflict-${driver}` }
    const dictionary = { secret: "x", [canaries.input]: 1 }
    await engine.trigger(everything, { input: dictionary, ...key })
    const error = await refusal(engine.trigger(everything, { input: { secret: "y" }, ...key }))
    expect(error).toMatchObject({ code: "IdempotencyConflict" })
    expect(leaksIn(error)).toEqual([])
  })

  it("a server that is not there, or does not know the password, is told without it", async () => {
    const proxied = new URL(database.url)
    proxied.password = canaries.password
    const nowhere = new URL(proxied)
    nowhere.port = "1"
    const stranger = new URL(proxied)
    stranger.username = "nobody-here"
    const nodb = new URL(proxied)
    nodb.hostname = "does-not-exist.invalid"
    for (const url of [nowhere, stranger, nodb]) {
      const engine = engineOf(to(url.href))
      for (const call of [
        () => engine.start(),
        () => engine.migrate(),
        () => engine.trigger(everything, { input }),
      ]) {
        const error = await refusal(call())
        expect(leaksIn(error)).toEqual([])
        expect(error.message).not.toContain("null")
      }
      const health = await engine.healthCheck()
      expect(health.healthy).toBe(false)
      expect(leaksIn(health)).toEqual([])
      expect(leaksIn(engine)).toEqual([])
    }
    nothingLeaked()
  })
})

it("a url that is none is refused without being shown", () => {
  for (const url of [
    `http://user:${canaries.password}@host/db`,
    `postgres//user:${canaries.password}@host`,
    `postgres://user:${canaries.password}@host:99999999/db`,
  ]) {
    expect(leaksIn(thrown(() => new DurableEngine({ url, workflows: [] })))).toEqual([])
  }
})

it("the search sees a secret wherever it hides", () => {
  const hidden = new Error("x", { cause: Object.assign(new Error("y"), { detail: canaries.key }) })
  Object.defineProperty(hidden, "deep", { value: new Map([[1, canaries.event]]) })
  const span = new Tracer.NativeSpan({
    name: "s",
    parent: Option.none(),
    annotations: Context.empty(),
    links: [],
    startTime: 0n,
    kind: "internal",
    sampled: true,
  })
  span.attribute("payload", canaries.input)
  expect(new Set([hidden, ...exported(span)].flatMap(leaksIn))).toEqual(
    new Set(["key", "event", "input"]),
  )
})
