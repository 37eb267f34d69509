/** What only a database can do to an engine: be down, silent, not migrated, too new, too small. */
import pg from "pg"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import {
  defineWorkflow,
  DurableEngine,
  type DurableEngineOptions,
  type PoolLike,
} from "../../src/index.ts"
import { createDatabase, type TestDatabase, withClient } from "../support/database.ts"
import { makeProxy, type Proxy } from "./proxy.ts"
import { refusal, sleep, until } from "./rig.ts"

const ignore = () => undefined
const silent = { debug: ignore, info: ignore, warn: ignore, error: ignore }

const workflow = defineWorkflow("database", async (ctx, input: string) => {
  await ctx.emit("hello", input)
  return ctx.step("echo", () => input)
})

let database: TestDatabase
let proxy: Proxy
const ends: Array<() => Promise<unknown>> = []

beforeAll(async () => {
  database = await createDatabase()
  proxy = await makeProxy(database.url)
})

afterEach(async () => {
  for (const end of ends.splice(0)) await end()
  await proxy.set("closed")
})

afterAll(async () => {
  await proxy.stop()
  await database.drop()
})

const makePool = (url: string, max = 10) => {
  const pool = new pg.Pool({ connectionString: url, max })
  ends.push(() => pool.end())
  return pool
}

const make = (options: Partial<DurableEngineOptions>) => {
  const engine = new DurableEngine({
    workflows: [workflow],
    logger: silent,
    ...options,
    worker: { pollIntervalMs: 50, ...options.worker },
  })
  ends.unshift(() => engine.stop())
  return engine
}

const listeningSessions = () =>
  withClient(database.url, async (client) => {
    const { rows } = await client.query(
      "select 1 from pg_stat_activity where datname = current_database() and query ilike 'listen %'",
    )
    return rows.length
  })

/** Its own tables, so that each test begins where it says. */
let schemas = 0
const freshSchema = () => `schema_${++schemas}`

describe.each(["pool", "url"] as const)("with a %s", (driver) => {
  const through = (url: string): Partial<DurableEngineOptions> =>
    driver === "pool" ? { pool: makePool(url) } : { url }

  it("an engine without a worker listens while somebody waits, and hears at once", async () => {
    const schema = freshSchema()
    const engine = make({ ...through(database.url), schema, worker: { pollIntervalMs: 60_000 } })
    await engine.migrate()
    const heard: Array<string> = []
    engine.onAny((event) => heard.push(event.event))
    const handle = await engine.trigger(workflow, { input: "x" })
    await until(async () => (await listeningSessions()) === 1, "it to listen")
    const worker = make({ url: database.url, schema, worker: { useNotify: false } })
    await worker.start()
    expect(await handle.result()).toBe("x")
    // no poll comes so soon
    await until(() => heard.length === 1, "the event")
    await engine.stop()
    await until(async () => (await listeningSessions()) === 0, "the session to end")
  })

  it("a database that is down is told at the first call; later the same engine works", async () => {
    const engine = make({ ...through(proxy.url), schema: freshSchema() })
    for (const call of [
      () => engine.migrate(),
      () => engine.start(),
      () => engine.trigger(workflow, { input: "x" }),
    ]) {
      const error = await refusal(call())
      expect(error).toMatchObject({
        code: "StoreUnavailable",
        retryable: true,
        details: { outcome: "not-applied" },
      })
      expect(error.message).toContain("ECONNREFUSED")
    }
    expect(await engine.healthCheck()).toMatchObject({
      healthy: false,
      store: { ok: false, error: expect.stringContaining("ECONNREFUSED") },
    })
    await proxy.set("pass")
    await engine.migrate()
    await engine.start()
    const handle = await engine.trigger(workflow, { input: "up" })
    expect(await handle.result()).toBe("up")
  })

  it("tables that are not there are told by name, by every call", async () => {
    const schema = freshSchema()
    const engine = make({ ...through(database.url), schema })
    const id = "019a0000-0000-7000-8000-000000000000"
    const calls: ReadonlyArray<() => Promise<unknown>> = [
      () => engine.start(),
      () => engine.trigger(workflow, { input: "x" }),
      () => engine.schedule(workflow, { cron: "@daily", input: "x" }),
      () => engine.unschedule("x"),
      () => engine.getStatus(id),
      () => engine.cancel(id),
      () => engine.resume(id),
      () => engine.getEvents(id),
      () => engine.getDeadLetterRuns(),
      () => engine.retryDeadLetter(id),
      () => engine.handle(workflow, id).result(),
    ]
    for (const call of calls) {
      const error = await refusal(call())
      expect(error.code).toBe("SchemaNotMigrated")
      expect(error.message).toContain(schema)
      expect(error.message).toContain("call engine.migrate()")
    }
    // a listener set up before the tables are there is not forgotten
    const heard: Array<string> = []
    engine.on("hello", (event) => heard.push(String(event.data)))
    const other = make({ ...through(database.url), schema })
    await other.migrate()
    await other.migrate()
    await engine.start()
    expect(await (await engine.trigger(workflow, { input: "now" })).result()).toBe("now")
    await until(() => heard.length === 1)
  })

  it("tables of a newer version are refused", async () => {
    const schema = freshSchema()
    await make({ ...through(database.url), schema }).migrate()
    await withClient(database.url, async (client) => {
      await client.query(
        `insert into ${schema}.flowly_migrations select (r).* from (
           select jsonb_populate_record(m, '{"version": 999, "migration_id": 999, "id": 999}') as r
           from ${schema}.flowly_migrations m limit 1) x`,
      )
    })
    const engine = make({ ...through(database.url), schema })
    for (const call of [() => engine.start(), () => engine.trigger(workflow, { input: "x" })]) {
      const error = await refusal(call())
      expect(error.code).toBe("SchemaTooNew")
      expect(error.message).toContain("upgrade flowly")
    }
  })

  it("a question that meets a cut connection is asked again, and answered", async () => {
    await proxy.set("pass")
    const engine = make({ ...through(proxy.url), schema: freshSchema() })
    await engine.migrate()
    const { workflowRunId } = await engine.trigger(workflow, { input: "x" })
    expect(await engine.getEvents(workflowRunId)).toEqual([])
    await proxy.set("closed")
    const answers = Promise.all([
      engine.getStatus(workflowRunId),
      engine.getEvents(workflowRunId),
      engine.getDeadLetterRuns(),
    ])
    const early = await Promise.race([answers.catch((error: unknown) => error), sleep(150)])
    expect(early).toBeUndefined()
    await proxy.set("pass")
    const [status, events, dead] = await answers
    expect([status?.status, events, dead]).toEqual(["pending", [], []])
  })

  it("prepare: false leaves no prepared statement on any connection", async () => {
    const schema = freshSchema()
    const pool = makePool(database.url, 3)
    const engine = make(
      driver === "pool"
        ? { pool, schema, prepare: false }
        : { url: database.url, schema, prepare: false },
    )
    await engine.migrate()
    await engine.start()
    expect(await (await engine.trigger(workflow, { input: "x" })).result()).toBe("x")
    await engine.stop()
    const clients = await Promise.all([pool.connect(), pool.connect(), pool.connect()])
    for (const client of clients) {
      const { rows } = await client.query("select name from pg_prepared_statements")
      expect(rows).toEqual([])
      client.release()
    }
  })

  it("a database that does not answer holds a trigger no longer than its deadline", async () => {
    await proxy.set("pass")
    const schema = freshSchema()
    const engine = make({ ...through(proxy.url), schema })
    await engine.migrate()
    await (await engine.trigger(workflow, { input: "warm" })).status()
    await proxy.set("hang")
    const before = performance.now()
    const error = await refusal(engine.trigger(workflow, { input: "x", deadline: 300 }))
    expect(performance.now() - before).toBeLessThan(5000)
    expect(error).toMatchObject({
      code: "TriggerTimeout",
      retryable: true,
      details: { outcome: "unknown" },
    })
    expect(error.message).toContain("whether it was started is unknown")
    // cut what hangs, so that stopping need not wait for it
    await proxy.set("closed")
    await proxy.set("pass")
    const id = error.details["workflowRunId"] as string
    const status = await until(() =>
      engine.getStatus(id).then(
        (found) => found?.status ?? "never started",
        () => false as const,
      ),
    )
    expect(["never started", "pending"]).toContain(status)
  })

  it("a first trigger that cannot even connect says that nothing was started", async () => {
    await proxy.set("hang")
    const engine = make({ ...through(proxy.url), schema: freshSchema() })
    const error = await refusal(engine.trigger(workflow, { input: "x", deadline: 200 }))
    expect(error).toMatchObject({ code: "TriggerTimeout", details: { outcome: "not-applied" } })
    await proxy.set("closed")
  })

  it("a worker whose database goes away and comes back finishes its runs", async () => {
    await proxy.set("pass")
    const schema = freshSchema()
    const engine = make({ ...through(proxy.url), schema, worker: { leaseMs: 5000 } })
    await engine.migrate()
    await engine.start()
    const cut = Promise.withResolvers<void>()
    const mended = Promise.withResolvers<void>()
    let ran = 0
    const patient = defineWorkflow("patient", async (ctx) => {
      await ctx.step("over the cut", async () => {
        ran++
        cut.resolve()
        await mended.promise
      })
      return "survived"
    })
    const second = make({ ...through(proxy.url), schema, workflows: [patient] })
    await second.start()
    const handle = await second.trigger(patient)
    await cut.promise
    await proxy.set("closed")
    mended.resolve()
    await until(async () => {
      const health = await second.healthCheck()
      return !health.healthy && (health.worker?.unhealthy.length ?? 0) > 0
    }, "an unhealthy worker")
    await proxy.set("pass")
    expect(await handle.result()).toBe("survived")
    expect(ran).toBe(1)
    await until(async () => (await second.healthCheck()).healthy, "a healthy worker")
  })
})

describe("a user's pool", () => {
  it("gets every client back, unsubscribed, with its own listeners only, and stays open", async () => {
    const pool = makePool(database.url)
    const schema = freshSchema()
    const own = () => undefined
    pool.on("error", own)
    const engines = [make({ pool, schema }), make({ pool, schema })] as const
    await engines[0].migrate()
    await Promise.all(engines.map((engine) => engine.start()))
    const handles = await Promise.all(
      Array.from({ length: 30 }, (_, i) =>
        engines[i % 2 ? 0 : 1].trigger(workflow, { input: "x" }),
      ),
    )
    await Promise.all(handles.map((handle) => handle.result()))
    await Promise.all(engines.map((engine) => engine.stop()))
    expect(pool.ended).toBe(false)
    await until(() => pool.idleCount === pool.totalCount, "every client to come back")
    expect(pool.waitingCount).toBe(0)
    expect(pool.listeners("error")).toEqual([own])
    const clients = await Promise.all(Array.from({ length: pool.totalCount }, () => pool.connect()))
    for (const client of clients) {
      expect((await client.query("select pg_listening_channels()")).rows).toEqual([])
      expect((await client.query("select now()")).rows).toHaveLength(1)
      client.release()
    }
  })

  it.each([
    [1, true, "one for LISTEN"],
    [2, true, "one for LISTEN"],
    [1, false, "one for the heartbeat"],
  ])("of %i is too small (useNotify: %s), and start says what for", async (max, useNotify, why) => {
    const schema = freshSchema()
    await make({ pool: makePool(database.url), schema }).migrate()
    const engine = make({ pool: makePool(database.url, max), schema, worker: { useNotify } })
    const error = await refusal(engine.start())
    expect(error).toMatchObject({ code: "PoolTooSmall", details: { max } })
    expect(error.message).toContain(why)
  })

  it("of the smallest size is enough, with and without LISTEN", async () => {
    const schema = freshSchema()
    await make({ pool: makePool(database.url), schema }).migrate()
    for (const [max, useNotify] of [
      [3, true],
      [2, false],
    ] as const) {
      const engine = make({ pool: makePool(database.url, max), schema, worker: { useNotify } })
      engine.onAny(() => undefined)
      await engine.start()
      const handles = await Promise.all(
        Array.from({ length: 10 }, () => engine.trigger(workflow, { input: "x" })),
      )
      await Promise.all(handles.map((handle) => handle.result()))
      await engine.stop()
    }
  })

  it("can be ended soon after the last wait, by an application that forgets its engine", async () => {
    const schema = freshSchema()
    const pool = new pg.Pool({ connectionString: database.url })
    const engine = make({ pool, schema })
    await engine.migrate()
    const handle = await engine.trigger(workflow, { input: "x" })
    const result = handle.result()
    await until(async () => (await listeningSessions()) === 1, "it to listen")
    await make({ url: database.url, schema, worker: { useNotify: false } }).start()
    await result
    await pool.end()
  })

  it.each([
    ["of three has none to spare", 3, true],
    ["of any size has none where it must not LISTEN", 10, false],
  ])("%s: who waits without a worker is looked for", async (_, max, useNotify) => {
    const schema = freshSchema()
    const engine = make({ pool: makePool(database.url, max), schema, worker: { useNotify } })
    await engine.migrate()
    const handle = await engine.trigger(workflow, { input: "x" })
    const result = handle.result()
    await sleep(300)
    expect(await listeningSessions()).toBe(0)
    await make({ url: database.url, schema, worker: { useNotify: false } }).start()
    expect(await result).toBe("x")
  })

  it("of one connection is enough to trigger and to ask", async () => {
    const schema = freshSchema()
    const engine = make({ pool: makePool(database.url, 1), schema })
    await engine.migrate()
    const heard: Array<string> = []
    engine.onAny((event) => heard.push(event.event))
    const handle = await engine.trigger(workflow, { input: "x" })
    const worker = make({ url: database.url, schema })
    await worker.start()
    expect(await handle.result()).toBe("x")
    await until(() => heard.length === 1)
  })
})

it("a trigger waits until listeners are set up, however long that takes", async () => {
  const schema = freshSchema()
  const worker = make({ url: database.url, schema })
  await worker.migrate()
  await worker.start()
  // the reading that fixes where a listener's present begins comes late
  const inner = makePool(database.url)
  const release = Promise.withResolvers<void>()
  const slow: PoolLike = {
    options: { max: 10 },
    on: (event, listener) => inner.on(event, listener),
    removeListener: (event, listener) => inner.removeListener(event, listener),
    connect: async () => {
      const client = await inner.connect()
      const query: Awaited<ReturnType<PoolLike["connect"]>>["query"] = async (config) => {
        if (config.text.includes("pg_current_snapshot()")) await release.promise
        return client.query(config as pg.QueryConfig)
      }
      return {
        query,
        release: (destroy) => client.release(destroy),
        on: (event, listener) => client.on(event as "error", listener),
        removeListener: (event, listener) => client.removeListener(event, listener),
      }
    },
  }
  const engine = make({ pool: slow, schema })
  const heard: Array<unknown> = []
  engine.on("hello", (event) => heard.push(event.data))
  const triggering = engine.trigger(workflow, { input: "heard" })
  let early = "waits"
  void triggering.then(() => (early = "early"))
  // far more work than a trigger, whatever the machine's load
  for (let i = 0; i < 10; i++) await (await worker.trigger(workflow, { input: "other" })).result()
  release.resolve()
  expect(early).toBe("waits")
  await (await triggering).result()
  await until(() => heard.includes("heard"))
})

describe("an engine's own connections", () => {
  it("end with it", async () => {
    const schema = freshSchema()
    const sessions = () =>
      withClient(database.url, async (client) => {
        const { rows } = await client.query<{ n: number }>(
          `select count(*)::int as n from pg_stat_activity
           where datname = current_database() and application_name = 'flowly'`,
        )
        return rows[0]?.n ?? -1
      })
    await until(async () => (await sessions()) === 0, "earlier engines' sessions to end")
    const engine = make({ url: database.url, schema })
    await engine.migrate()
    await engine.start()
    await (await engine.trigger(workflow, { input: "x" })).result()
    expect(await sessions()).toBeGreaterThan(0)
    await engine.stop()
    await until(async () => (await sessions()) === 0, "its sessions to end")
  })

  it("and its tables are in the schema that was asked for, and nowhere else", async () => {
    const schema = freshSchema()
    const engine = make({ url: database.url, schema })
    await engine.migrate()
    await engine.trigger(workflow, { input: "x" })
    await withClient(database.url, async (client) => {
      const { rows } = await client.query<{ table_schema: string }>(
        `select distinct table_schema from information_schema.tables
         where table_name = 'workflow_runs'`,
      )
      const found = rows.map((row) => row.table_schema)
      expect(found).toContain(schema)
      expect(found).not.toContain("durable_workflow")
      expect(found).not.toContain("public")
      const runs = await client.query(`select 1 from ${schema}.workflow_runs`)
      expect(runs.rowCount).toBe(1)
    })
  })
})

it("a cron tick that was missed for hours is made up for once", async () => {
  const schema = freshSchema()
  const runs = new Set<string>()
  const ticking = defineWorkflow("ticking", async (ctx) => {
    await ctx.step("note", () => void runs.add(ctx.workflowRunId))
  })
  const client = make({ url: database.url, schema, workflows: [ticking] })
  await client.migrate()
  await client.schedule(ticking, { cron: "*/10 * * * *" })
  const nextTick = () =>
    withClient(database.url, async (one) => {
      const { rows } = await one.query<{ next: Date; future: boolean }>(
        `select next_tick as next, next_tick > now() as future from ${schema}.cron_schedules`,
      )
      return rows[0]
    })
  await withClient(database.url, (one) =>
    one.query(`update ${schema}.cron_schedules set next_tick = next_tick - interval '6 hours'`),
  )
  const engines = [1, 2, 3].map(() => make({ url: database.url, schema, workflows: [ticking] }))
  await Promise.all(engines.map((engine) => engine.start()))
  await until(async () => (await nextTick())?.future === true, "the schedule to be current")
  await until(() => runs.size > 0, "the catch-up run")
  await withClient(database.url, async (one) => {
    const { rows } = await one.query(`select 1 from ${schema}.workflow_runs`)
    expect(rows).toHaveLength(1)
  })
})
