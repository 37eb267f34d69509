/**
 * What keeps an engine from starting is a typed error that says what to do; and many processes may
 * bring the schema up to date at once.
 */
import pg from "pg"
import { describe, expect, it } from "vitest"
import { DurableEngine, type DurableEngineOptions, defineWorkflow } from "../../src/index.ts"
import { createDatabase } from "../support/database.ts"

const noop = defineWorkflow("noop", async () => undefined)

/** An engine on an empty database. */
const onEmpty = async (
  driver: "url" | "pool",
  worker: DurableEngineOptions["worker"] = {},
  max = 5,
) => {
  const database = await createDatabase()
  const pool = new pg.Pool({ connectionString: database.url, max })
  const engine = new DurableEngine({
    ...(driver === "pool" ? { pool } : { url: database.url }),
    workflows: [noop],
    worker,
  })
  return {
    url: database.url,
    engine,
    pool,
    [Symbol.asyncDispose]: async () => {
      await engine.stop()
      await pool.end()
      await database.drop()
    },
  }
}

const drivers = ["url", "pool"] as const

describe.concurrent("an engine", { timeout: 60_000 }, () => {
  it.for(drivers)("on a schema that is not migrated says so, and how to (%s)", async (driver) => {
    await using given = await onEmpty(driver)
    const { engine } = given
    const id = "01890a5d-ac96-774b-bcce-b302099a8057"
    const calls = [
      () => engine.start(),
      () => engine.trigger(noop),
      () => engine.getStatus(id),
      () => engine.schedule(noop, { cron: "@daily" }),
      () => engine.getEvents(id),
      () => engine.getDeadLetterRuns(),
      () => engine.cancel(id),
      () => engine.resume(id),
      () => engine.retryDeadLetter(id),
      () => engine.unschedule("noop"),
    ]
    for (const call of calls) {
      await expect(call()).rejects.toMatchObject({
        code: "SchemaNotMigrated",
        message: expect.stringContaining("engine.migrate()"),
      })
    }
    // the same engine, afterwards
    await engine.migrate()
    await engine.start()
    const handle = await engine.trigger(noop)
    expect(await handle.result()).toBeUndefined()
  })

  it.for(drivers)("on a schema of a newer library says to upgrade (%s)", async (driver) => {
    await using given = await onEmpty(driver)
    const { engine, pool } = given
    await engine.migrate()
    await pool.query("insert into durable_workflow.flowly_migrations values (9999, 'later')")
    for (const call of [() => engine.start(), () => engine.trigger(noop), () => engine.migrate()]) {
      await expect(call()).rejects.toMatchObject({
        code: "SchemaTooNew",
        message: expect.stringMatching(/9999.*upgrade flowly/),
      })
    }
  })

  it("on a pool that is too small says how many connections it needs, and for what", async () => {
    await using given = await onEmpty("pool", {}, 2)
    await given.engine.migrate()
    await expect(given.engine.start()).rejects.toMatchObject({
      code: "PoolTooSmall",
      message: expect.stringMatching(/at most 2 connections, 3 are needed.*useNotify/),
    })
    // one that only triggers needs no more
    await given.engine.trigger(noop)
  })

  it("works on the smallest pool that is enough", async () => {
    await using given = await onEmpty("pool", { useNotify: false }, 2)
    await given.engine.migrate()
    await given.engine.start()
    const handles = await Promise.all(Array.from({ length: 20 }, () => given.engine.trigger(noop)))
    await Promise.all(handles.map((handle) => handle.result()))
    await using listening = await onEmpty("pool", { useNotify: true }, 3)
    await listening.engine.migrate()
    await listening.engine.start()
    expect(await (await listening.engine.trigger(noop)).result()).toBeUndefined()
  })

  // by twenty processes: test/store/postgres-schema.pg.test.ts
  it("of twenty brings an empty database up to date, once, and starts", async () => {
    await using given = await onEmpty("pool")
    const { url } = given
    const engines = Array.from({ length: 20 }, () => new DurableEngine({ url, workflows: [noop] }))
    try {
      await Promise.all(engines.map((engine) => engine.migrate()))
      const { rows } = await given.pool.query("select id from durable_workflow.flowly_migrations")
      expect(rows).toEqual(Array.from({ length: rows.length }, (_, i) => ({ id: i + 1 })))
      await Promise.all(engines.slice(0, 3).map((engine) => engine.start()))
      expect(await (await given.engine.trigger(noop)).result()).toBeUndefined()
    } finally {
      await Promise.all(engines.map((engine) => engine.stop()))
    }
  })
})
