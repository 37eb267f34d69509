/**
 * What the application takes out of the errors of its code is nowhere afterwards: in no row, no log
 * line, no hook, and not in the `catch` of the body either, the first time as on replay.
 */
import pg from "pg"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import {
  type AnyWorkflow,
  defineWorkflow,
  DurableEngine,
  type DurableEngineOptions,
  type StandardSchema,
} from "../../src/index.ts"
import { makeGate, refusal, until, untilStatus } from "../promise/rig.ts"
import { createDatabase, type TestDatabase, withClient } from "../support/database.ts"
import { canaries, leaksIn } from "./canaries.ts"

const secret = canaries.error
let database: TestDatabase
let pool: pg.Pool
/** Everything that was said or told. */
const said: Array<unknown> = []

beforeAll(async () => {
  database = await createDatabase()
  pool = new pg.Pool({ connectionString: database.url, max: 10 })
  await using engine = new DurableEngine({ pool, workflows: [] })
  await engine.migrate()
})
afterAll(async () => {
  await pool.end()
  await database.drop()
})

const engineOf = (
  workflow: AnyWorkflow,
  options: Partial<DurableEngineOptions> = {},
): DurableEngine => {
  const log = (...line: Array<unknown>) => void said.push(line)
  const engine = new DurableEngine({
    pool,
    workflows: [workflow],
    logger: { debug: log, info: log, warn: log, error: log },
    redactErrors: (text) => text.replaceAll(secret, "[card]"),
    ...options,
    worker: { pollIntervalMs: 50, shutdownTimeoutMs: 20 },
  })
  for (const name of ["workflow:failed", "step:failed", "workflow:compensated"] as const) {
    engine.hook(name, (event) => {
      said.push(event)
      throw new Error(`a listener with ${secret}`)
    })
  }
  return engine
}

/** All rows of all tables, as text. */
const rows = () =>
  withClient(database.url, async (client) => {
    const { rows: tables } = await client.query(
      "select tablename from pg_tables where schemaname = 'durable_workflow'",
    )
    const texts: Array<string> = []
    for (const { tablename } of tables) {
      const { rows: found } = await client.query(
        `select t::text as text, to_jsonb(t)::text as json from durable_workflow.${tablename} t`,
      )
      for (const { text, json } of found) texts.push(`${tablename} ${text} ${json}`)
    }
    return texts
  })

const nothingLeft = async (): Promise<void> => {
  // its beginning, too: of a text that was cut
  expect((await rows()).filter((row) => row.includes(secret.slice(0, 8)))).toEqual([])
  expect(said.flatMap(leaksIn)).toEqual([])
}

class Declined extends Error {
  readonly details = { card: secret, tries: [1, secret] }
  readonly code = `E-${secret}`
  constructor() {
    super(`card ${secret}`, { cause: new Error(`cause ${secret}`) })
  }
}

const throwers: Readonly<Record<string, () => unknown>> = {
  "an error with all it can hold": () => new Declined(),
  "many errors": () => new AggregateError([new Declined(), secret], `many with ${secret}`),
  "a text": () => `text with ${secret}`,
  "an object": () => ({ card: secret, deep: [{ [`key`]: secret }] }),
  "a Map": () => new Map([["card", secret]]),
  "a URL": () => new URL(`https://example.com/?card=${secret}`),
  "an object with a method": () => ({ card: secret, pay: () => secret }),
  "a long text, cut amid of the secret": () =>
    new Error(`${"x".repeat(8166)}${secret}${"x".repeat(99)}`),
}

const schemaThatRefuses: { refuses: boolean } & StandardSchema<unknown> = {
  refuses: false,
  "~standard": {
    version: 1,
    vendor: "test",
    validate: (value: unknown) =>
      schemaThatRefuses.refuses ? { issues: [{ message: `got ${secret}` }] } : { value },
  },
} as never

/** An error with what is not enumerable of it. */
const shown = (thrown: unknown): unknown =>
  thrown instanceof Error
    ? { ...thrown, message: thrown.message, stack: thrown.stack, cause: shown(thrown.cause) }
    : thrown

describe("an error that is redacted", () => {
  it.each(Object.keys(throwers))(
    "is %s: of a step, caught, replayed and thrown on",
    async (name) => {
      const gate = makeGate()
      const caught: Array<unknown> = []
      const workflow = defineWorkflow(`throws ${name}`, async (ctx) => {
        const error = await ctx
          .step("throws", () => {
            throw throwers[name]!()
          })
          .catch((one: unknown) => one)
        caught.push(error)
        await ctx.step("gate", gate.step)
        throw error
      })
      const first = engineOf(workflow)
      await first.start()
      const { workflowRunId } = await first.trigger(workflow)
      await gate.reached
      await first.stop()
      const second = engineOf(workflow)
      await second.start()
      const error = await refusal(second.handle(workflow, workflowRunId).result())
      expect(caught).toHaveLength(2)
      expect(leaksIn([caught, error, await second.getStatus(workflowRunId)])).toEqual([])
      expect(shown(caught[1])).toEqual(shown(caught[0]))
      await second.stop()
      await nothingLeft()
    },
  )

  it("keeps everything but the secret", async () => {
    const workflow = defineWorkflow("keeps", (ctx) =>
      ctx.step("throws", () => {
        throw new Declined()
      }),
    )
    const engine = engineOf(workflow)
    await engine.start()
    const { cause } = await refusal((await engine.trigger(workflow)).result())
    expect(cause).toMatchObject({
      message: "card [card]",
      code: "E-[card]",
      details: { card: "[card]", tries: [1, "[card]"] },
      cause: { message: "cause [card]" },
    })
    await engine.stop()
  })

  it("is of a backoff, a transaction, an undo, a child, an attempt", async () => {
    const child = defineWorkflow("child", () => {
      throw new Declined()
    })
    const workflow = defineWorkflow("all", async (ctx) => {
      await ctx.step("undone", {
        run: () => "done",
        compensate: {
          run: () => {
            throw new Declined()
          },
          retry: { maxAttempts: 2, initialDelayMs: 1500 },
        },
      })
      await ctx
        .transaction("transaction", () => {
          throw new Declined()
        })
        .catch(() => "caught")
      await ctx.child(child, undefined).catch(() => "caught")
      await ctx.step("backs off", {
        run: () => {
          throw new Declined()
        },
        retry: { maxAttempts: 2, initialDelayMs: 1500 },
      })
    })
    const engine = engineOf(workflow, { workflows: [workflow, child] })
    await engine.start()
    const handle = await engine.trigger(workflow, { maxAttempts: 2 })
    // one backoff parks, one undo, one attempt: each leaves the error in a row of its own
    await untilStatus(engine, handle.workflowRunId, "sleeping")
    await until(async () => {
      await engine.wake(handle.workflowRunId).catch(() => undefined)
      expect((await rows()).filter((row) => row.includes(secret))).toEqual([])
      return (await engine.getStatus(handle.workflowRunId))?.status === "failed"
    }, "the end")
    expect(leaksIn(await engine.getSteps(handle.workflowRunId))).toEqual([])
    await engine.stop()
    await nothingLeft()
  })

  it("is what a schema says of a value that it refuses", async () => {
    const workflow = defineWorkflow("refuses", () => 1, { input: schemaThatRefuses })
    const engine = engineOf(workflow)
    const { workflowRunId } = await engine.trigger(workflow, { input: 1 })
    schemaThatRefuses.refuses = true
    await engine.start()
    await untilStatus(engine, workflowRunId, "paused")
    await engine.stop()
    await nothingLeft()
  })

  it("is what a payload codec says of a transaction's result", async () => {
    const workflow = defineWorkflow("unstorable", (ctx) => ctx.transaction("pay", () => "too rich"))
    const encode = (bytes: Uint8Array) => {
      if (Buffer.from(bytes).includes("too rich")) throw new Error(`with ${secret}`)
      return bytes
    }
    const write = { name: "open", encode, decode: (bytes: Uint8Array) => bytes }
    const engine = engineOf(workflow, { payloadCodecs: { write } })
    await engine.start()
    const { workflowRunId } = await engine.trigger(workflow)
    const { error } = await untilStatus(engine, workflowRunId, "paused")
    expect(String(error)).toContain("with [card]")
    expect(leaksIn(error)).toEqual([])
    await engine.stop()
    await nothingLeft()
  })

  it("leaves the rest of the error as it is, and nothing where the redaction fails", async () => {
    const workflow = defineWorkflow("fails to redact", (ctx) =>
      ctx.step("throws", () => {
        throw Object.assign(new TypeError("message"), { status: 402, note: "note" })
      }),
    )
    const engine = engineOf(workflow, {
      redactErrors: (text, field) => {
        if (field === "message") throw new Error(secret)
        return field === "note" ? (undefined as never) : text
      },
    })
    await engine.start()
    const { cause } = await refusal((await engine.trigger(workflow)).result())
    expect(cause).toMatchObject({
      name: "TypeError",
      message: "[redaction failed]",
      status: 402,
      note: "[redaction failed]",
    })
    await engine.stop()
    await nothingLeft()
  })

  it("would be found if nobody redacted it", async () => {
    const workflow = defineWorkflow("not redacted", (ctx) =>
      ctx.step("throws", () => {
        throw new Declined()
      }),
    )
    const engine = engineOf(workflow, { redactErrors: undefined })
    await engine.start()
    await refusal((await engine.trigger(workflow)).result())
    await engine.stop()
    expect((await rows()).some((row) => row.includes(secret))).toBe(true)
    expect(said.flatMap(leaksIn)).toContain("error")
  })
})
