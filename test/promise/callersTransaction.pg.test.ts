/**
 * Starting runs and sending events as a part of the application's own transaction: with `pg`, Drizzle
 * and Kysely. Polls come too late for these tests: what happens promptly was told of by the commit.
 */
import { sql as drizzleSql } from "drizzle-orm"
import { drizzle } from "drizzle-orm/node-postgres"
import { CamelCasePlugin, Kysely, PostgresDialect, sql as kyselySql } from "kysely"
import pg from "pg"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import {
  type CallersClient,
  defineWorkflow,
  DurableEngine,
  type DurableEngineOptions,
  MemoryWorkflowStore,
} from "../../src/index.ts"
import { createDatabase, type TestDatabase } from "../support/database.ts"
import { refusal, untilStatus } from "./rig.ts"

let database: TestDatabase
let pool: pg.Pool
const ends: Array<() => Promise<void>> = []

beforeAll(async () => {
  database = await createDatabase()
  pool = new pg.Pool({ connectionString: database.url, max: 20 })
  await pool.query("create table orders (order_id text primary key)")
})
afterEach(async () => {
  for (const end of ends.splice(0)) await end()
})
afterAll(async () => {
  await pool.end()
  await database.drop()
})

const ship = defineWorkflow("ship", (ctx, input: { orderId: string }) =>
  ctx.step("ship", () => `shipped ${input.orderId}`),
)
const waits = defineWorkflow("waits", async (ctx) => (await ctx.waitForEvent("go")).payload)
const asks = defineWorkflow("asks", async (ctx) => {
  const token = await ctx.token("approval")
  return (await ctx.waitForToken(token)).payload
})

const pollIntervalMs = 600_000

it("many events in one transaction are bounded as they are outside", async () => {
  const engine = await started({ limits: { maxPendingEvents: 3 }, workflows: [waits] })
  const { workflowRunId } = await engine.trigger(waits, { scheduledFor: new Date("2200-01-01") })
  const client = await pool.connect()
  try {
    await client.query("begin")
    for (const n of [1, 2, 3]) await engine.sendEvent(workflowRunId, "n", n, { client })
    const error = await refusal(engine.sendEvent(workflowRunId, "n", 4, { client }))
    expect(error).toMatchObject({ code: "EventBacklogFull", details: { maxPendingEvents: 3 } })
    // a refusal is no failure of the transaction
    await client.query("commit")
  } finally {
    client.release()
  }
})

const started = async (options: Partial<DurableEngineOptions> = {}) => {
  const engine = new DurableEngine({
    pool,
    workflows: [ship, waits, asks],
    ...options,
    worker: { pollIntervalMs, ...options.worker },
  })
  ends.push(() => engine.stop())
  await engine.migrate()
  await engine.start()
  return engine
}

/** The application's transaction, by each of the ways to write one. */
type InTransaction = (
  orderId: string,
  work: (client: CallersClient) => Promise<unknown>,
) => Promise<unknown>

const ways: Record<string, InTransaction> = {
  pg: async (orderId, work) => {
    const client = await pool.connect()
    try {
      await client.query("begin")
      await client.query("insert into orders values ($1)", [orderId])
      const result = await work(client)
      await client.query("commit")
      return result
    } catch (error) {
      await client.query("rollback")
      throw error
    } finally {
      client.release()
    }
  },
  drizzle: (orderId, work) =>
    drizzle(pool).transaction(async (tx) => {
      await tx.execute(drizzleSql`insert into orders values (${orderId})`)
      return work(tx)
    }),
  kysely: (orderId, work) =>
    new Kysely<any>({
      dialect: new PostgresDialect({ pool }),
      // renames what it reads
      plugins: [new CamelCasePlugin()],
    })
      .transaction()
      .execute(async (trx) => {
        await kyselySql`insert into orders values (${orderId})`.execute(trx)
        return work(trx)
      }),
}

const orders = async (orderId: string) =>
  (await pool.query("select from orders where order_id = $1", [orderId])).rows.length

const nothing = new Error("changed my mind")

describe.each(Object.entries(ways))("in a transaction of %s", (way, inTransaction) => {
  it("a run is there if and only if it commits, and starts promptly then", async () => {
    const engine = await started()
    const orderId = `${way}-kept`
    const handle = (await inTransaction(orderId, async (client) => {
      const placed = await engine.trigger(ship, { input: { orderId }, client })
      expect(await placed.status()).toBe(null)
      return placed
    })) as Awaited<ReturnType<typeof engine.trigger<{ orderId: string }, string>>>
    expect(await handle.result()).toBe(`shipped ${orderId}`)
    expect(await orders(orderId)).toBe(1)
  })

  it("a run is gone with a rollback, and so is its key", async () => {
    const engine = await started()
    const orderId = `${way}-dropped`
    const options = { input: { orderId }, idempotencyKey: orderId }
    let id = ""
    const failed = inTransaction(orderId, async (client) => {
      id = (await engine.trigger(ship, { ...options, client })).workflowRunId
      throw nothing
    })
    await expect(failed).rejects.toBe(nothing)
    expect([await orders(orderId), await engine.getStatus(id)]).toEqual([0, null])
    const again = await engine.trigger(ship, options)
    expect(again.existing).toBe(false)
    expect(await again.result()).toBe(`shipped ${orderId}`)
  })

  it("an event is sent if and only if it commits, and wakes the run promptly then", async () => {
    const engine = await started()
    const handle = await engine.trigger(waits)
    await untilStatus(engine, handle.workflowRunId, "waiting")
    const failed = inTransaction(`${way}-event`, async (client) => {
      expect(await handle.sendEvent("go", "dropped", { id: "x", client })).toBe("sent")
      throw nothing
    })
    await expect(failed).rejects.toBe(nothing)
    await inTransaction(`${way}-event`, async (client) => {
      expect(await handle.sendEvent("go", "kept", { id: "x", client })).toBe("sent")
      expect(await handle.sendEvent("go", "twice", { id: "x", client })).toBe("duplicate")
    })
    expect(await handle.result()).toBe("kept")
  })

  it("a conflict is told as outside of one", async () => {
    const engine = await started()
    const key = { idempotencyKey: `${way}-conflict` }
    const first = await engine.trigger(ship, { input: { orderId: "a" }, ...key })
    await inTransaction(`${way}-conflict`, async (client) => {
      const same = await engine.trigger(ship, { input: { orderId: "a" }, ...key, client })
      expect(same).toMatchObject({ workflowRunId: first.workflowRunId, existing: true })
      const other = engine.trigger(ship, { input: { orderId: "b" }, ...key, client })
      expect((await refusal(other)).code).toBe("IdempotencyConflict")
    })
    expect(await orders(`${way}-conflict`)).toBe(1)
  })
})

it("an engine on a url, and one that does not work itself, take part in it as well", async () => {
  const worker = await started({ pool: undefined, url: database.url })
  const client = new DurableEngine({ pool, workflows: [ship], worker: { pollIntervalMs } })
  ends.push(() => client.stop())
  for (const [name, engine] of [
    ["url", worker],
    ["client", client],
  ] as const) {
    const handle = (await ways["pg"]?.(`by ${name}`, (tx) =>
      engine.trigger(ship, { input: { orderId: name }, client: tx }),
    )) as { readonly workflowRunId: string }
    expect(await worker.handle(ship, handle.workflowRunId).result()).toBe(`shipped ${name}`)
  }
})

it("a token can be resolved in it", async () => {
  const engine = await started()
  const handle = await engine.trigger(asks)
  await untilStatus(engine, handle.workflowRunId, "waiting")
  const { rows } = await pool.query<{ token: string }>(
    "select result #>> '{}' as token from durable_workflow.workflow_steps where kind = 'token'",
  )
  await ways["drizzle"]?.("token", async (client) => {
    expect(await engine.resolveToken(rows[0]?.token ?? "", "yes", { client })).toBe("resolved")
  })
  expect(await handle.result()).toBe("yes")
})

it("what is no transaction is refused, by name", async () => {
  const engine = await started()
  const idle = await pool.connect()
  const kysely = new Kysely<any>({ dialect: new PostgresDialect({ pool }) })
  try {
    for (const [client, reason] of [
      [pool, "is a pool"],
      [drizzle(pool), "drizzle: is a pool"],
      [kysely, "kysely: must be the trx"],
      [idle, "is in no transaction"],
      [{}, "must be a pg client"],
      ["begin", "must be a client"],
    ] as const) {
      const error = await refusal(
        engine.trigger(ship, { input: { orderId: "no" }, client: client as never }),
      )
      expect([error.code, error.message]).toEqual(["InvalidInput", expect.stringContaining(reason)])
    }
  } finally {
    idle.release()
  }
})

it("a memory store takes part in none, unless it was given a client for that", async () => {
  const made = (store: MemoryWorkflowStore) => {
    const engine = new DurableEngine({ workflows: [ship] })
    engine.setStore(store)
    ends.push(() => engine.stop())
    return engine
  }
  const client = { query: () => undefined }
  const options = { input: { orderId: "x" }, client }
  const refused = await refusal(made(new MemoryWorkflowStore()).trigger(ship, options))
  expect(refused.code).toBe("TransactionUnsupported")
  const handle = await made(new MemoryWorkflowStore({ client })).trigger(ship, options)
  expect((await handle.status())?.status).toBe("pending")
})
