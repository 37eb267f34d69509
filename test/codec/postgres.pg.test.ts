import * as Layer from "effect/Layer"
import pg from "pg"
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { EngineClock, PostgresStore } from "../../src/effect.ts"
import { defineWorkflow, DurableEngine } from "../../src/index.ts"
import { blocks } from "../readme/blocks.ts"
import { untilStatus } from "../promise/rig.ts"
import { canaries } from "../security/canaries.ts"
import { createDatabase, type TestDatabase, withClient } from "../support/database.ts"
import { aes } from "./aes.ts"
import { enginesOf, type Place } from "./place.ts"
import { codecSuite } from "./suite.ts"

let database: TestDatabase
let pool: pg.Pool
let schema = ""
let schemas = 0

beforeAll(async () => {
  database = await createDatabase()
  pool = new pg.Pool({ connectionString: database.url, max: 20 })
})
afterAll(async () => {
  await pool.end()
  await database.drop()
})
beforeEach(async () => {
  schema = `codec_${++schemas}`
  await using engine = new DurableEngine({ pool, workflows: [], schema })
  await engine.migrate()
})

/** All rows of all tables, as text. */
const rows = () =>
  withClient(database.url, async (client) => {
    const { rows: tables } = await client.query(
      "select tablename from pg_tables where schemaname = $1",
      [schema],
    )
    const texts: Array<string> = []
    for (const { tablename } of tables) {
      const found = await client.query(
        `select to_jsonb(t)::text as text from ${schema}.${tablename} t`,
      )
      for (const { text } of found.rows) texts.push(`${tablename} ${text}`)
    }
    return texts
  })

const place: Place = {
  name: "on Postgres",
  options: () => ({ pool, schema }),
  attach: () => undefined,
  layer: () =>
    PostgresStore.layerPool({ pool, schema }).pipe(
      Layer.provide(EngineClock.layerStore),
      Layer.orDie,
    ),
  stored: rows,
}

codecSuite(place)

describe("payload codecs on Postgres", () => {
  const engineOf = enginesOf(place)
  const codecs = { write: aes("k1") }

  it("code the record of a transaction, and what is started in one", async () => {
    const workflow = defineWorkflow("moves", (ctx, secret: string) =>
      ctx.transaction("move", async (client) => {
        const { rows: found } = await client.query("select $1 as secret", [secret])
        return found[0].secret as string
      }),
    )
    const engine = await engineOf([workflow], codecs)
    const client = await pool.connect()
    await client.query("begin")
    const run = await engine.trigger(workflow, { input: canaries.step, client })
    await client.query("commit")
    client.release()
    expect(await run.result()).toBe(canaries.step)
    const stored = (await rows()).filter((text) => text.includes(run.workflowRunId)).join()
    expect(stored).toContain('"result_codec": "k1:json"')
    expect(stored).not.toContain(canaries.step)
  })

  it("roll a transaction back whose record they fail at, and pause its run", async () => {
    const broken = { on: false }
    const codec = {
      ...codecs.write,
      encode: (bytes: Uint8Array) => {
        if (broken.on && Buffer.from(bytes).includes("trap")) throw new Error("no key today")
        return codecs.write.encode(bytes)
      },
    }
    await pool.query(`create table ${schema}.moved (what text)`)
    const workflow = defineWorkflow("moves back", (ctx) =>
      ctx.transaction("move", async (client) => {
        await client.query(`insert into ${schema}.moved values ('all')`)
        return "trap"
      }),
    )
    const engine = await engineOf([workflow], { write: codec })
    broken.on = true
    const run = await engine.trigger(workflow)
    const paused = await untilStatus(engine, run.workflowRunId, "paused")
    expect(paused.error).toMatchObject({ code: "PayloadCodecFailed" })
    expect((await pool.query(`select from ${schema}.moved`)).rowCount).toBe(0)
    broken.on = false
    await engine.resume(run.workflowRunId)
    expect(await run.result()).toBe("trap")
    expect((await pool.query(`select from ${schema}.moved`)).rowCount).toBe(1)
  })

  it("leave nothing behind when runs are deleted as README.md says", async () => {
    const forget = blocks.find(({ code }) => code.includes("delete from"))!.code
    const workflow = defineWorkflow("forgotten", async (ctx) => {
      await ctx.step("one", () => 1)
      await ctx.emit("told", 1)
      return ctx.waitForEvent("go")
    })
    const engine = await engineOf([workflow], codecs)
    const run = await engine.trigger(workflow)
    await run.sendEvent("go", canaries.event)
    await run.result()
    expect((await rows()).join()).toContain("k1:")
    const statement = forget
      .replace("interval '90 days'", "interval '0 days'")
      .replaceAll("durable_workflow.", `${schema}.`)
    await withClient(database.url, (client) => client.query(statement))
    expect((await rows()).filter((text) => /k1:|workflow_run_id/.test(text))).toEqual([])
  })

  it("take values of the largest size, and make them a third larger", async () => {
    const big = "x".repeat(1_000_000)
    const workflow = defineWorkflow("large", (ctx, input: string) =>
      ctx.step("one", () => `${input.slice(0, 999_999)}y`),
    )
    const engine = await engineOf([workflow], codecs)
    const runs = await Promise.all(
      Array.from({ length: 3 }, () => engine.trigger(workflow, { input: big })),
    )
    for (const run of runs) expect((await run.result()).endsWith("xy")).toBe(true)
  })
})
