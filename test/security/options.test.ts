/** Configuration is checked where it is given, before any connection: field and limit are named. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { layerStore } from "../../src/EngineClock.ts"
import {
  type AnyWorkflow,
  defineWorkflow,
  DurableEngine,
  FlowlyError,
  MemoryWorkflowStore,
  type WorkflowContext,
} from "../../src/index.ts"
import * as PostgresStore from "../../src/PostgresStore.ts"
import { makeNames, quote } from "../../src/postgres/names.ts"
import * as tables from "../../src/postgres/migrations/0001_tables.ts"
import { checkOptions } from "../../src/worker/options.ts"
import { WorkflowStore } from "../../src/WorkflowStore.ts"

const secret = "canary-in-an-option"

/** What no option takes. */
const wrong: ReadonlyArray<unknown> = [
  null,
  Number.NaN,
  -1,
  1.5,
  Infinity,
  -Infinity,
  1e300,
  2 ** 53,
  10n,
  Symbol(secret),
  secret,
  `a\0b`,
  "\uD800",
  "30000",
  [],
  [1],
  new Date(),
  () => 1,
  new Map(),
  Object.create(null),
]

const noop = defineWorkflow("noop", () => undefined)

describe("an engine", () => {
  const options: Readonly<Record<string, (value: unknown) => object>> = {
    ...Object.fromEntries(
      [
        "schema",
        "url",
        "pool",
        "prepare",
        "logger",
        "errors",
        "redactErrors",
        "limits",
        "development",
        "workflows",
      ].map((name) => [name, (value: unknown) => ({ [name]: value })]),
    ),
    ...Object.fromEntries(
      [
        "pollIntervalMs",
        "maxConcurrent",
        "leaseMs",
        "shutdownTimeoutMs",
        "maxCrashes",
        "useNotify",
        "workerId",
        "limits",
      ].map((name) => [`worker.${name}`, (value: unknown) => ({ worker: { [name]: value } })]),
    ),
    worker: (value) => ({ worker: value }),
  }
  /** Of the wrong ones, those that are right somewhere. */
  const fine: Readonly<Record<string, (value: unknown) => boolean>> = {
    schema: () => false,
    errors: (value) => Array.isArray(value) && value.length === 0,
    workflows: (value) => Array.isArray(value) && value.length === 0,
    "worker.workerId": (value) => value === secret || value === "30000",
    redactErrors: (value) => typeof value === "function",
    limits: isRecord,
    "worker.limits": isRecord,
    worker: isRecord,
  }

  it.each(Object.keys(options))("takes no nonsense for %s, and shows none of it", (field) => {
    for (const value of wrong) {
      if (fine[field]?.(value) === true) continue
      const make = () =>
        new DurableEngine({ workflows: [noop], ...options[field]!(value) } as never)
      const error = attempt(make)
      expect(error, `${field} = ${String(typeof value)}`).toBeInstanceOf(FlowlyError)
      const { code, details, message } = error as FlowlyError
      expect(code).toBe("InvalidInput")
      expect(String(details["field"])).toMatch(new RegExp(`^${field.replace(".", "\\.")}`))
      expect(message.length).toBeGreaterThan(field.length + 10)
      expect(message).not.toContain(secret)
    }
  })

  it("takes no limit that it does not know, nor one out of its bounds", () => {
    for (const [limits, field] of [
      [{ maxEvents: 5 }, "limits.maxEvents"],
      [{ maxPendingEvents: 0 }, "limits.maxPendingEvents"],
      [{ maxPendingEvents: null }, "limits.maxPendingEvents"],
      [{ maxPendingEvents: secret }, "limits.maxPendingEvents"],
      [{ minTickDistanceMs: 999 }, "limits.minTickDistanceMs"],
      [{ minTickDistanceMs: 1e12 }, "limits.minTickDistanceMs"],
    ] as ReadonlyArray<readonly [object, string]>) {
      const error = attempt(() => new DurableEngine({ workflows: [noop], limits } as never))
      expect(error).toMatchObject({ code: "InvalidInput", details: { field } })
      expect((error as Error).message).not.toContain(secret)
    }
    expect(
      attempt(() => new DurableEngine({ workflows: [], limits: { maxPendingEvents: undefined } })),
    ).not.toBeInstanceOf(Error)
  })

  it("is not made of nothing", () => {
    for (const value of [undefined, null, 7, "x"]) {
      expect(attempt(() => new DurableEngine(value as never))).toMatchObject({
        code: "InvalidInput",
      })
    }
  })
})

const isRecord = (value: unknown): boolean =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const attempt = (body: () => unknown): unknown => {
  try {
    return body()
  } catch (error) {
    return error
  }
}

describe("a worker", () => {
  const numbers = {
    pollIntervalMs: [10, 1e15],
    maxConcurrent: [1, 100_000],
    leaseMs: [1000, 1e15],
    shutdownTimeoutMs: [0, 1e15],
    maxCrashes: [1, 1_000_000],
  } as const

  it.each(Object.entries(numbers))(
    "takes %s within its bounds alone, and says them",
    (name, at) => {
      const [least, most] = at
      fc.assert(
        fc.property(
          fc.oneof(
            fc.constantFrom<unknown>(...wrong, least, most, least - 1, most + 1),
            fc.integer(),
            fc.double(),
            fc.anything(),
          ),
          (value) => {
            const right =
              value === undefined ||
              (Number.isInteger(value) && Number(value) >= least && Number(value) <= most)
            const result = checkOptions({ [name]: value })
            expect(Result.isSuccess(result)).toBe(right)
            if (Result.isSuccess(result)) return
            expect(result.failure.field).toBe(`worker.${name}`)
            expect(result.failure.reason).toContain(String(least))
            expect(result.failure.reason).toContain(String(most))
          },
        ),
      )
    },
  )

  it("that is told nothing has the defaults that are written down", () => {
    const { label, ...options } = Result.getOrThrow(checkOptions({}))
    expect(label).toBe(`pid-${process.pid}`)
    expect(options).toEqual({
      pollIntervalMs: 1000,
      maxConcurrent: 5,
      leaseMs: 30_000,
      shutdownTimeoutMs: 30_000,
      maxCrashes: 5,
      useNotify: true,
      limits: {
        divergenceGraceMs: 1000,
        parkGraceMs: 20,
        shortWaitMs: 1000,
        maxRecords: 50_000,
        maxFanOut: 10_000,
        maxHistoryBytes: 67_108_864,
        drainMs: 30_000,
      },
    })
  })

  it("takes no limit that it does not know, nor one that is no number", () => {
    for (const [limits, field] of [
      [{ maxRecord: 1 }, "worker.limits.maxRecord"],
      [JSON.parse('{"__proto__": 1}'), "worker.limits.__proto__"],
      [{ maxRecords: "1" }, "worker.limits.maxRecords"],
      [{ drainMs: -1 }, "worker.limits.drainMs"],
    ]) {
      const result = checkOptions({ limits })
      expect(Result.isFailure(result) && result.failure.field).toBe(field)
    }
  })
})

describe("a store", () => {
  /** Nobody listens there: whoever connects first fails with another error. */
  const url = `postgres://user:${secret}@127.0.0.1:1/db`

  const failureOf = (options: object): Promise<unknown> =>
    Effect.runPromise(
      Effect.flip(
        Effect.provide(
          WorkflowStore,
          PostgresStore.layerUrl({ url, ...options } as PostgresStore.UrlOptions).pipe(
            Layer.provide(layerStore),
          ),
        ),
      ) as Effect.Effect<unknown>,
    )

  it.each([
    "schema",
    "url",
    "prepare",
    "maxConnections",
    "statementTimeoutMs",
    "applicationName",
    "startupParameters.jit",
  ])("takes no nonsense for %s, before it connects", async (field) => {
    const [name = "", inner] = field.split(".")
    for (const value of wrong) {
      if (field === "applicationName" && (value === secret || value === "30000")) continue
      if (inner !== undefined && typeof value === "string" && !value.includes("\0")) continue
      const error = await failureOf({ [name]: inner === undefined ? value : { [inner]: value } })
      expect(error).toMatchObject({ _tag: "InvalidInput", field })
      expect(String((error as Error).message)).not.toContain(secret)
    }
  })

  it("takes no parameter of a strange name", async () => {
    for (const name of ["", "a b", "a\0b", "a=b", "é", "__proto__x\n"]) {
      const error = await failureOf({ startupParameters: { [name]: "1" } })
      expect(error).toMatchObject({ _tag: "InvalidInput" })
    }
  })

  it.each([
    "",
    ".",
    "a.b",
    'a"b',
    '"',
    "a'b",
    "a;b",
    "a b",
    "A",
    "é",
    "ﬀ",
    "а",
    "a\0",
    "\0",
    "$1",
    "1a",
    "pg_",
    "pg_toast",
    "pg_temp_1",
    "information_schema",
    "x".repeat(49),
    "x".repeat(64),
    "--",
    "a--",
    "/**/",
    "a\n",
    "\na",
    "a\u2028",
    "\uD800",
    "%s",
    "\\",
    "\u202Ea",
    "a\u0301",
  ])("takes no schema named %j, before it connects", async (schema) => {
    const error = await failureOf({ schema })
    expect(error).toMatchObject({ _tag: "InvalidInput", field: "schema" })
    expect((error as Error).message).toMatch(/\^\[a-z_\]|at most 48|belongs to Postgres/)
  })
})

describe("a schema's name", () => {
  const allowed = fc
    .stringMatching(/^[a-z_][a-z0-9_]{0,47}$/)
    .filter((name) => Result.isSuccess(makeNames(name)))

  /** SQL text without what stands in double quotes. */
  const outside = (text: string): string => text.replaceAll(/"(?:[^"]|"")*"/g, '""')

  it("stands within quotes alone: outside of them, any two schemas have the same SQL", () => {
    const reference = tables.statements(Result.getOrThrow(makeNames("reference"))).map(outside)
    fc.assert(
      fc.property(allowed, (schema) => {
        const names = Result.getOrThrow(makeNames(schema))
        for (const [key, name] of Object.entries(names)) {
          const plain = key === "schema" || key === "channel"
          const shape = plain ? /^[a-z0-9_]{1,63}$/ : /^"[a-z0-9_]{1,48}"(\."[a-z_]{1,63}")?$/
          expect(name).toMatch(shape)
        }
        expect(tables.statements(names).map(outside)).toEqual(reference)
        const printed = PostgresStore.grants({ schema, worker: 'w"; drop' })
        expect(outside(Effect.runSync(printed))).not.toMatch(/drop|[^a-z ,.;\n"]/)
      }),
    )
  })

  it("of any other identifier, quotes let nothing out", () => {
    expect(() => quote("a\0")).toThrow("NUL")
    fc.assert(
      fc.property(
        fc.string({ unit: "binary" }).filter((text) => !text.includes("\0")),
        (text) => void expect(outside(quote(text))).toBe('""'),
      ),
    )
  })
})

describe("an option of a name that none has", () => {
  const engineOf = (...workflows: ReadonlyArray<AnyWorkflow>) => {
    const engine = new DurableEngine({ workflows: [noop, ...workflows] })
    engine.setStore(new MemoryWorkflowStore())
    return engine
  }

  it.each([
    ["an engine's", { concurrency: 5 }, "concurrency"],
    ["a worker's", { worker: { concurrency: 5 } }, "worker.concurrency"],
    ["a codec's", { payloadCodecs: { writes: {} } }, "payloadCodecs.writes"],
  ])("is refused by the constructor: %s", (_, options, field) => {
    const given: object = { workflows: [noop], ...options }
    const make = () => new DurableEngine(given as { workflows: [] })
    expect(make).toThrow(`${field}: is not known: there is `)
  })

  it("is refused by defineWorkflow", () => {
    const options: object = { versoin: "2" }
    expect(() => defineWorkflow("a", () => 1, options)).toThrow(
      'versoin of workflow "a": is not known: there is version, input, compensateOn',
    )
  })

  it.each<readonly [string, string, (engine: DurableEngine, options: object) => unknown]>([
    ["trigger", "trigger", (engine, o) => engine.trigger(noop, o)],
    ["triggerMany", "triggerMany", (engine, o) => engine.triggerMany(noop, [{}], o)],
    ["an item of it", "item 1", (engine, o) => engine.triggerMany(noop, [{}, o])],
    ["schedule", "schedule", (engine, o) => engine.schedule(noop, { cron: "@daily", ...o })],
    ["sendEvent", "sendEvent", (engine, o) => engine.sendEvent("", "a", 1, o)],
    ["resolveToken", "resolveToken", (engine, o) => engine.resolveToken("", 1, o)],
    ["cancel", "cancel", (engine, o) => engine.cancel("", o)],
    ["pauseMany", "pauseMany", (engine, o) => engine.pauseMany({ workflow: "a" }, o)],
    ["fork", "fork", (engine, o) => engine.fork("", o)],
    ["reschedule", "reschedule", (engine, o) => engine.reschedule("", new Date(), o)],
    ["dead letters", "getDeadLetterRuns", (engine, o) => engine.getDeadLetterRuns(o)],
  ])("is refused by %s, and nothing is done", async (_, of, call) => {
    const engine = engineOf()
    const field = `timezone of ${of}`
    const refused = { code: "InvalidInput", details: { field } }
    await expect(call(engine, { timezone: "Europe/Berlin" })).rejects.toMatchObject(refused)
    expect(await engine.count()).toBe(0)
    await engine.stop()
  })

  type Body = (ctx: WorkflowContext, options: any) => Promise<unknown>

  it.each<readonly [string, string, Body]>([
    ["a step", 'step "a"', (ctx, o) => ctx.step("a", { run: () => 1, ...o })],
    ["its retry", 'step "a"', (ctx, o) => ctx.step("a", { run: () => 1, retry: o })],
    [
      "its undo",
      'step "a"',
      (ctx, o) => ctx.step("a", { run: () => 1, compensate: { run: () => 1, ...o } }),
    ],
    [
      "the retry of its undo",
      'compensate of step "a"',
      (ctx, o) => ctx.step("a", { run: () => 1, compensate: { run: () => 1, retry: o } }),
    ],
    ["a transaction", 'step "a"', (ctx, o) => ctx.transaction("a", async () => 1, o)],
    ["a wait", 'the wait for event "a"', (ctx, o) => ctx.waitForEvent("a", o)],
    ["a child", 'child of "body"', (ctx, o) => ctx.child(noop, undefined, o)],
    ["map", "map", (ctx, o) => ctx.map([1], (x) => x, o)],
  ])("is refused by %s", async (_, of, body) => {
    const workflow = defineWorkflow("body", (ctx, o) =>
      body(ctx, o).catch((error) => error.message),
    )
    const engine = engineOf(workflow)
    await engine.start()
    const told = async (input: any) => (await engine.trigger(workflow, { input })).result()
    expect(await told({ timeOut: 5 })).toMatch(`timeOut of ${of}: is not known: there is `)
    await engine.stop()
  })

  it.each([3, "3", true, [], null])("stands for no retry: %j", async (retry) => {
    const workflow = defineWorkflow("body", (ctx) =>
      ctx.step("a", { run: () => 1, retry: retry as object }),
    )
    const engine = engineOf(workflow)
    await engine.start()
    const run = (await engine.trigger(workflow)).result()
    await expect(run).rejects.toThrow('retry of step "a": must be an object: { maxAttempts, … }')
    await engine.stop()
  })

  it("has a third place neither, behind a step's function", async () => {
    const workflow = defineWorkflow("body", (ctx) =>
      (ctx.step as (...parameters: Array<unknown>) => Promise<void>)("a", () => 1, { retry: {} }),
    )
    const engine = engineOf(workflow)
    await engine.start()
    const run = (await engine.trigger(workflow)).result()
    await expect(run).rejects.toThrow('step "a": has its options beside its function')
    await engine.stop()
  })

  it("is as if it were not there where it is undefined", async () => {
    const engine = engineOf()
    const handle = await engine.trigger(noop, { timezone: undefined } as object)
    expect(handle.existing).toBe(false)
    await engine.stop()
  })
})
