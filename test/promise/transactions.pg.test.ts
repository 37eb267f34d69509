/**
 * Transactional steps on Postgres: exactly once for what they do through their client, whatever
 * happens to the code, the connection, the claim or the answer to the commit.
 */
import pg from "pg"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest"
import {
  type AnyWorkflow,
  defineWorkflow,
  DurableEngine,
  type DurableEngineOptions,
  type TransactionClient,
} from "../../src/index.ts"
import { createDatabase, type TestDatabase } from "../support/database.ts"
import { refusal, until } from "./rig.ts"

let database: TestDatabase
let admin: pg.Pool
const ends: Array<() => Promise<unknown>> = []

beforeAll(async () => {
  database = await createDatabase()
  admin = new pg.Pool({ connectionString: database.url, max: 3 })
  await admin.query("create table accounts (name text primary key, amount int not null)")
  await admin.query("create table log (line text not null)")
})
beforeEach(() => admin.query("truncate accounts, log"))
afterEach(async () => {
  for (const end of ends.splice(0)) await end()
})
afterAll(async () => {
  await admin.end()
  await database.drop()
})

const lines = async () =>
  (await admin.query<{ line: string }>("select line from log order by line")).rows.map(
    (row) => row.line,
  )

const insert = async (client: TransactionClient, line: string) => {
  await client.query("insert into log values ($1)", [line])
}

const ignore = () => undefined
const silent = { debug: ignore, info: ignore, warn: ignore, error: ignore }

const makePool = (max = 10) => {
  const pool = new pg.Pool({ connectionString: database.url, max })
  ends.push(async () => {
    await until(() => pool.idleCount === pool.totalCount, "all clients to be back")
    await pool.end()
  })
  return pool
}

const started = async (
  driver: "pool" | "url",
  workflows: ReadonlyArray<AnyWorkflow>,
  options: Partial<DurableEngineOptions> = {},
) => {
  const engine = new DurableEngine({
    ...(options.pool === undefined && driver === "pool" ? { pool: makePool() } : {}),
    ...(driver === "url" ? { url: database.url } : {}),
    workflows,
    logger: silent,
    ...options,
    worker: { pollIntervalMs: 50, ...options.worker },
  })
  ends.unshift(() => engine.stop())
  await engine.migrate()
  await engine.start()
  return engine
}

describe.each(["pool", "url"] as const)("a transaction on a %s", (driver) => {
  it("commits what it did with its record, and does not run again", async () => {
    const flow = defineWorkflow("commits", async (ctx) => {
      const sum = await ctx.transaction("move", async (client, { attempt }) => {
        await insert(client, `attempt ${attempt}`)
        const { rows, rowCount } = await client.query({
          text: "select 40 + $1::int as n",
          values: [2],
        })
        return { n: rows[0].n as number, rowCount }
      })
      await ctx.sleep("park", "1100 ms")
      return sum
    })
    const engine = await started(driver, [flow])
    const handle = await engine.trigger(flow)
    expect(await handle.result()).toEqual({ n: 42, rowCount: 1 })
    expect(await lines()).toEqual(["attempt 1"])
  })

  it("rolls back what failed; its error is the code's own, and the retry policy counts", async () => {
    const flow = defineWorkflow("fails", (ctx) =>
      ctx.transaction(
        "move",
        async (client, { attempt }) => {
          await insert(client, `attempt ${attempt}`)
          if (attempt < 3) throw Object.assign(new Error("no funds"), { code: "E_FUNDS" })
        },
        { retry: { maxAttempts: 3, initialDelayMs: 1 } },
      ),
    )
    const once = defineWorkflow("fails once", (ctx) =>
      ctx.transaction("move", async (client) => {
        await insert(client, "never")
        throw Object.assign(new Error("no funds"), { code: "E_FUNDS" })
      }),
    )
    const engine = await started(driver, [flow, once])
    await (await engine.trigger(flow)).result()
    const failed = await refusal((await engine.trigger(once)).result())
    expect(failed.cause).toMatchObject({ message: "no funds", code: "E_FUNDS" })
    expect(await lines()).toEqual(["attempt 3"])
  })

  it("whose connection dies keeps the error of the code, and runs again for a lost one", async () => {
    const kill = async (client: TransactionClient) => {
      const { rows } = await client.query("select pg_backend_pid() as pid")
      await admin.query("select pg_terminate_backend($1)", [rows[0].pid])
    }
    const keeps = defineWorkflow("keeps", (ctx) =>
      ctx.transaction("move", async (client) => {
        await insert(client, "never")
        await kill(client)
        throw new Error("business")
      }),
    )
    let tries = 0
    const again = defineWorkflow("again", (ctx) =>
      ctx.transaction("move", async (client, { attempt }) => {
        await insert(client, `attempt ${attempt}`)
        if (++tries === 1) await kill(client)
        await client.query("select 1")
      }),
    )
    const engine = await started(driver, [keeps, again])
    const failed = await refusal((await engine.trigger(keeps)).result())
    expect((failed.cause as Error).message).toBe("business")
    await (await engine.trigger(again)).result()
    expect(tries).toBe(2)
    expect(await lines()).toEqual(["attempt 1"])
  })

  it("that loses its connection behind its last statement runs again, at no try's cost", async () => {
    let runs = 0
    const flow = defineWorkflow("loses", async (ctx) => {
      const attempt = await ctx.transaction("move", async (client, info) => {
        await insert(client, `attempt ${info.attempt}`)
        if (++runs < 3) {
          const { rows } = await client.query("select pg_backend_pid() as pid")
          await admin.query("select pg_terminate_backend($1)", [rows[0].pid])
        }
        return info.attempt
      })
      // what comes behind it is delivered, too
      return ctx.step("after", () => attempt)
    })
    const engine = await started(driver, [flow])
    const handle = await engine.trigger(flow)
    expect(await handle.result()).toBe(1)
    expect(runs).toBe(3)
    expect(await lines()).toEqual(["attempt 1"])
  })

  it("that conflicts with another runs again: no update is lost", { timeout: 60_000 }, async () => {
    await admin.query("insert into accounts values ('a', 0)")
    const flow = defineWorkflow("increment", (ctx) =>
      ctx.transaction(
        "increment",
        async (client) => {
          const { rows } = await client.query("select amount from accounts where name = 'a'")
          await client.query("update accounts set amount = $1 where name = 'a'", [
            Number(rows[0].amount) + 1,
          ])
        },
        { isolation: "serializable", retry: { maxAttempts: 10, initialDelayMs: 5 } },
      ),
    )
    const engine = await started(driver, [flow], { worker: { maxConcurrent: 6 } })
    const handles = await Promise.all(Array.from({ length: 12 }, () => engine.trigger(flow)))
    await Promise.all(handles.map((handle) => handle.result()))
    const { rows } = await admin.query("select amount from accounts")
    expect(rows).toEqual([{ amount: 12 }])
  })

  it("that the code ended, or that has failed, is told so, and records nothing", async () => {
    const ended = defineWorkflow("ended", (ctx) =>
      ctx.transaction("x", async (client) => {
        await client.query("rollback")
      }),
    )
    const caught = defineWorkflow("caught", (ctx) =>
      ctx.transaction("x", async (client) => {
        await insert(client, "never")
        await client.query("select 1 / 0").catch(() => undefined)
      }),
    )
    const engine = await started(driver, [ended, caught])
    for (const flow of [ended, caught]) {
      const failed = await refusal((await engine.trigger(flow)).result())
      expect(failed.cause).toMatchObject({ code: "TransactionBroken" })
    }
    expect(await lines()).toEqual([])
  })

  it.runIf(driver === "pool")(
    "whose code releases its client fails, and lends it to nobody",
    async () => {
      const pool = makePool(4)
      const flow = defineWorkflow("releases", (ctx) =>
        ctx.transaction("x", async (client: pg.PoolClient) => {
          try {
            await insert(client, "never")
          } finally {
            client.release()
          }
        }),
      )
      const more = defineWorkflow("more", (ctx) =>
        ctx.transaction("x", (client) => insert(client, "a")),
      )
      const engine = await started(driver, [flow, more], { pool })
      const failed = await refusal((await engine.trigger(flow)).result())
      expect(failed.cause).toMatchObject({
        code: "TransactionBroken",
        details: { reason: "released" },
      })
      expect(await lines()).toEqual([])
      // and the client is whole again
      for (let i = 0; i < 6; i++) await (await engine.trigger(more)).result()
      expect(await lines()).toHaveLength(6)
      await engine.stop()
      await until(() => pool.idleCount === pool.totalCount, "all clients to be back")
      await Promise.all(
        Array.from({ length: 4 }, async () => {
          const client = await pool.connect()
          client.release()
        }),
      )
    },
  )

  it("that takes too long is rolled back, also while a statement runs", async () => {
    const firstEnded = Promise.withResolvers<void>()
    let tries = 0
    const flow = defineWorkflow("slow", (ctx) =>
      ctx.transaction(
        "x",
        async (client, { attempt }) => {
          await insert(client, `attempt ${attempt}`)
          if (++tries > 1) return
          try {
            // it does not look at its signal, and goes on when nobody waits for it any more
            await client.query("select pg_sleep(2)").catch(() => undefined)
            await insert(client, "late")
          } finally {
            firstEnded.resolve()
          }
        },
        { timeoutMs: 300, retry: { maxAttempts: 2, initialDelayMs: 1 } },
      ),
    )
    const engine = await started(driver, [flow])
    await (await engine.trigger(flow)).result()
    expect(await lines()).toEqual(["attempt 2"])
    // also when all that the first try left behind has come to its end
    await firstEnded.promise
    expect(await lines()).toEqual(["attempt 2"])
    const open = `select from pg_stat_activity
      where datname = current_database() and state like 'idle in transaction%'`
    await until(async () => (await admin.query(open)).rowCount === 0, "no transaction to be left")
  })

  it("of a claim that was lost meanwhile commits nothing; its successor does", async () => {
    const opened = Promise.withResolvers<string>()
    const go = Promise.withResolvers<void>()
    let tries = 0
    const flow = defineWorkflow("overtaken", (ctx) =>
      ctx.transaction("x", async (client, { workflowRunId }) => {
        const mine = ++tries
        await insert(client, `try ${mine}`)
        if (mine > 1) return
        opened.resolve(workflowRunId)
        await go.promise
      }),
    )
    const engine = await started(driver, [flow])
    const handle = await engine.trigger(flow)
    const run = await opened.promise
    await admin.query(
      `update durable_workflow.workflow_runs
        set claim_token = claim_token + 1, worker_id = null, status = 'pending', ready = true,
          due_at = now()
        where workflow_run_id = $1`,
      [run],
    )
    await until(() => tries > 1, "the second try")
    go.resolve()
    await handle.result()
    expect(await lines()).toEqual(["try 2"])
  })

  it("beside other steps is delivered in the order of the commits, also on replay", async () => {
    const seen: Array<string> = []
    const flow = defineWorkflow("beside", async (ctx) => {
      const order: Array<string> = []
      const note = (name: string) => () => void order.push(name)
      await Promise.all([
        ...[1, 2, 3].map((n) =>
          ctx.transaction(`t${n}`, (client) => insert(client, `t${n}`)).then(note(`t${n}`)),
        ),
        ...[1, 2, 3].map((n) => ctx.step(`s${n}`, () => n).then(note(`s${n}`))),
      ])
      seen.push(order.join())
      await ctx.sleep("park", "1100 ms")
    })
    const engine = await started(driver, [flow])
    await (await engine.trigger(flow)).result()
    expect(seen.length).toBe(2)
    expect(seen[1]).toBe(seen[0])
    expect(await lines()).toEqual(["t1", "t2", "t3"])
  })

  it("is undone like any step", async () => {
    const flow = defineWorkflow("saga", async (ctx) => {
      await ctx.transaction("x", (client) => insert(client, "done").then(() => 7), {
        compensate: async (result) =>
          void (await admin.query(`insert into log values ('undo ${result}')`)),
      })
      throw new Error("no")
    })
    const engine = await started(driver, [flow])
    const handle = await engine.trigger(flow)
    await refusal(handle.result())
    expect(await lines()).toEqual(["done", "undo 7"])
  })
})

describe("connections", () => {
  it("for transactions are those that the engine does not need itself", async () => {
    let most = 0
    let open = 0
    const flow = defineWorkflow("crowd", (ctx) =>
      ctx.transaction("x", async (client) => {
        most = Math.max(most, ++open)
        await client.query("select pg_sleep(0.05)")
        open--
      }),
    )
    const pool = makePool(5)
    const engine = await started("pool", [flow], { pool, worker: { maxConcurrent: 20 } })
    const handles = await Promise.all(Array.from({ length: 20 }, () => engine.trigger(flow)))
    await Promise.all(handles.map((handle) => handle.result()))
    expect(most).toBe(2)
  })

  it("that do not suffice for one are told at the first transaction", async () => {
    const flow = defineWorkflow("too small", (ctx) => ctx.transaction("x", () => 1))
    const engine = await started("pool", [flow], { pool: makePool(3) })
    const failed = await refusal((await engine.trigger(flow)).result())
    expect(failed.cause).toMatchObject({ code: "PoolTooSmall", details: { max: 3, needed: 4 } })
  })
})

describe("a commit whose answer is lost", () => {
  /** What becomes of the first COMMIT; its caller is told that the connection ended. */
  const cutting = (cut: (commit: () => Promise<unknown>) => Promise<void>) => {
    const pool = makePool()
    let cuts = 0
    pool.on("connect", (client) => {
      const query = client.query.bind(client) as (...args: ReadonlyArray<unknown>) => Promise<any>
      const end = client.end.bind(client)
      let under: Promise<void> = Promise.resolve()
      Object.assign(client, {
        query: async (...args: [{ readonly text?: string }]) => {
          if (args[0].text !== "COMMIT" || ++cuts > 1) return query(...args)
          under = cut(() => query(...args))
          throw new Error("Connection terminated unexpectedly")
        },
        end: () => under.then(() => end()),
      })
    })
    return { pool, cuts: () => cuts }
  }
  const flow = defineWorkflow("cut", async (ctx) => {
    const n = await ctx.transaction("x", async (client, { attempt }) => {
      await insert(client, `attempt ${attempt}`)
      return attempt
    })
    return [n, await ctx.step("after", () => "after")]
  })

  it("stands where it was applied: the code does not run again", async () => {
    const { pool, cuts } = cutting(async (commit) => void (await commit()))
    const engine = await started("pool", [flow], { pool })
    expect(await (await engine.trigger(flow)).result()).toEqual([1, "after"])
    expect([await lines(), cuts()]).toEqual([["attempt 1"], 1])
  })

  it("stands where it is applied long after its connection was given up", async () => {
    const { pool, cuts } = cutting(async (commit) => {
      await new Promise((resolve) => setTimeout(resolve, 700))
      await commit()
    })
    const engine = await started("pool", [flow], { pool })
    expect(await (await engine.trigger(flow)).result()).toEqual([1, "after"])
    expect([await lines(), cuts()]).toEqual([["attempt 1"], 1])
  })

  it("is done again where it never was, without costing a try", async () => {
    const { pool, cuts } = cutting(async () => undefined)
    const engine = await started("pool", [flow], { pool })
    expect(await (await engine.trigger(flow)).result()).toEqual([1, "after"])
    expect([await lines(), cuts()]).toEqual([["attempt 1"], 2])
  })
})
