/**
 * The schema: made once whoever asks, refused when it is not ours, safe under any name, and printed
 * (`schema.txt`), so that each migration is a readable difference.
 */
import { type ChildProcess, fork } from "node:child_process"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as fc from "fast-check"
import pg from "pg"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest"
import * as EngineClock from "../../src/EngineClock.ts"
import * as PostgresStore from "../../src/PostgresStore.ts"
import { makeNames } from "../../src/postgres/names.ts"
import { WorkflowStore } from "../../src/WorkflowStore.ts"
import { createDatabase, type TestDatabase } from "../support/database.ts"

let database: TestDatabase
let client: pg.Client

beforeAll(async () => {
  database = await createDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  client = new pg.Client({ connectionString: database.url })
  await client.connect()
})
afterEach(() => client.end())

type Use<A, E> = (store: WorkflowStore["Service"]) => Effect.Effect<A, E>

const onSchema = <A, E>(
  schema: string,
  use: Use<A, E>,
  url = database.url,
  options: Partial<PostgresStore.UrlOptions> = {},
) =>
  Effect.runPromise(
    Effect.result(
      Effect.flatMap(WorkflowStore, use).pipe(
        Effect.provide(
          PostgresStore.layerUrl({ url, schema, maxConnections: 2, ...options }).pipe(
            Layer.provide(EngineClock.layerStore),
          ),
        ),
      ),
    ),
  )

const succeeds = async <A, E>(schema: string, use: Use<A, E>, url?: string): Promise<A> => {
  const result = await onSchema(schema, use, url)
  if (result._tag === "Failure") throw result.failure
  return result.success
}

const versions = async (schema: string) =>
  (await client.query(`select id, name from ${schema}.flowly_migrations order by id`)).rows

describe("migrate", () => {
  it("by twenty processes at once applies everything once, and fails for none", async () => {
    const children: Array<ChildProcess> = []
    const ended: Array<Promise<number | null>> = []
    for (let i = 0; i < 20; i++) {
      const child = fork(new URL("./migrateProcess.ts", import.meta.url), [database.url, "storm"], {
        stdio: ["ignore", "inherit", "inherit", "ipc"],
      })
      children.push(child)
      ended.push(new Promise((resolve) => child.once("exit", resolve)))
    }
    await Promise.all(
      children.map((child) => new Promise((resolve) => child.once("message", resolve))),
    )
    for (const child of children) child.send("go")
    assert.deepStrictEqual(
      await Promise.all(ended),
      children.map(() => 0),
    )
    assert.strictEqual((await versions("storm")).length, 1)
  }, 120_000)

  it("again does nothing, and needs no right to create", async () => {
    await succeeds("twice", (s) => s.migrate)
    const before = await versions("twice")
    // roles belong to the whole server: other test runs have theirs
    const role = `flowly_dml_${process.pid}_${Date.now()}`
    await client.query(`create role ${role} login password 'dml'`)
    try {
      await client.query("revoke create on schema public from public")
      await client.query(`grant usage on schema twice to ${role}`)
      await client.query(
        `grant select, insert, update, delete on all tables in schema twice to ${role}`,
      )
      const url = new URL(database.url)
      url.username = role
      url.password = "dml"
      await succeeds("twice", (s) => Effect.andThen(s.migrate, s.listSchedules), url.href)
    } finally {
      await client.query(`drop owned by ${role}; drop role ${role}`)
    }
    assert.deepStrictEqual(await versions("twice"), before)
  })

  it("uses a schema that is there, and leaves other tables in it alone", async () => {
    await client.query("create schema shared; create table shared.mine (id int)")
    await succeeds("shared", (s) => s.migrate)
    assert.strictEqual((await client.query("select * from shared.mine")).rowCount, 0)
  })

  it("two schemas of one database know nothing of each other", async () => {
    await succeeds("one", (s) => s.migrate)
    const result = await onSchema("other", (s) => s.verify({ worker: false, listen: false }))
    assert.strictEqual(result._tag === "Failure" && result.failure._tag, "SchemaNotMigrated")
  })

  it("leaves nothing behind when it is cut half way", async () => {
    await client.query("create schema halfway; create table halfway.schedule_ticks (wrong int)")
    const result = await onSchema("halfway", (s) => s.migrate)
    assert.strictEqual(result._tag === "Failure" && result.failure._tag, "StoreRejected")
    const { rows } = await client.query(
      "select table_name from information_schema.tables where table_schema = 'halfway'",
    )
    assert.deepStrictEqual(rows, [{ table_name: "schedule_ticks" }])
    await client.query("drop table halfway.schedule_ticks")
    await succeeds("halfway", (s) => s.migrate)
  })

  it("refuses a schema that a newer version migrated, and verify does too", async () => {
    await succeeds("newer", (s) => s.migrate)
    await client.query("insert into newer.flowly_migrations (id, name) values (999, 'future')")
    for (const use of [
      (s: WorkflowStore["Service"]) => s.migrate,
      (s: WorkflowStore["Service"]) => s.verify({ worker: true, listen: false }),
    ]) {
      const result = await onSchema("newer", use as Use<void, { readonly _tag: string }>)
      assert.strictEqual(result._tag === "Failure" && result.failure._tag, "SchemaTooNew")
    }
  })

  /** Begins to migrate while `client` holds the lock of migrations; ends when that waits for it. */
  const waitingToMigrate = async (schema: string) => {
    // FNV-1a, as a signed 32-bit integer
    let hash = 0x811c9dc5
    for (const byte of Buffer.from(schema)) hash = Math.imul(hash ^ byte, 0x01000193)
    const keys = [0x666c6f77, hash | 0]
    await client.query("select pg_advisory_lock($1::int4, $2::int4)", keys)
    const migrating = onSchema(schema, (s) => s.migrate, database.url, { statementTimeoutMs: 1000 })
    for (let waiting = 0; waiting === 0;) {
      const { rows } = await client.query(
        `select count(*)::int as n from pg_locks
         where locktype = 'advisory' and not granted and objid = $1::int4::oid`,
        [hash | 0],
      )
      waiting = rows[0].n
    }
    return {
      migrating,
      release: () => client.query("select pg_advisory_unlock($1::int4, $2::int4)", keys),
    }
  }

  it("waits for another one longer than any other statement may", async () => {
    const { migrating, release } = await waitingToMigrate("patient")
    // beyond the limits for locks and for statements
    await new Promise((resolve) => setTimeout(resolve, 2300))
    await release()
    assert.strictEqual((await migrating)._tag, "Success")
    assert.strictEqual((await versions("patient")).length, 1)
  })

  it("refuses a schema that a newer version migrated while it waited", async () => {
    const { migrating, release } = await waitingToMigrate("overtaken")
    await client.query(
      `create schema overtaken;
       create table overtaken.flowly_migrations (id integer primary key, name text not null);
       insert into overtaken.flowly_migrations values (999, 'future')`,
    )
    await release()
    const result = await migrating
    assert.strictEqual(result._tag === "Failure" && result.failure._tag, "SchemaTooNew")
  })

  it("the application may hold the same advisory lock under one key", async () => {
    await client.query("select pg_advisory_lock(hashtext('held'))")
    await succeeds("held", (s) => s.migrate)
  })
})

describe("a schema's name", () => {
  it("is refused unless it is a plain lower-case identifier", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: "binary", maxLength: 70 }),
          fc.string({ unit: fc.constantFrom(..."ab_\"';. \0-$%Az09\\é"), maxLength: 64 }),
        ),
        (name) => {
          const isAllowed =
            /^[a-z_][a-z0-9_]*$/.test(name) &&
            name.length <= 48 &&
            !name.startsWith("pg_") &&
            name !== "information_schema"
          return (makeNames(name)._tag === "Success") === isAllowed
        },
      ),
      { numRuns: 5000 },
    )
  })

  for (const name of ["", "pg_x", "a.b", 'a"b', "A", "a b", "a;drop", "a\0", "é", "x".repeat(49)]) {
    it(`${JSON.stringify(name).slice(0, 20)} never reaches the database`, async () => {
      const result = await onSchema(name, (s) => s.migrate)
      assert.strictEqual(result._tag === "Failure" && result.failure._tag, "InvalidInput")
    })
  }

  it("may be as long as is allowed, and a reserved word", async () => {
    for (const name of ["s".repeat(48), "select", "_", "user"]) {
      await succeeds(name, (s) =>
        Effect.scoped(
          Effect.gen(function* () {
            yield* s.migrate
            yield* s.listen
            yield* s.notify(["work"])
          }),
        ),
      )
    }
  })

  it("tables of the same names earlier in the search path change nothing", async () => {
    await client.query("create table public.workflow_runs (trap int)")
    await succeeds("trapped", (s) => Effect.andThen(s.migrate, s.getRuns([crypto.randomUUID()])))
  })
})

it("heartbeats and wakes stand in no index, and their tables have room on the page (HOT)", async () => {
  await succeeds("hot", (s) => s.migrate)
  const { rows } = await client.query(
    "select tablename, indexdef from pg_indexes where schemaname = 'hot'",
  )
  const changed = /\b(wake_counter|claim_token|lease_expires_at|heartbeat_at)\b/
  assert.deepStrictEqual(
    rows.filter(({ indexdef }) => changed.test(indexdef)),
    [],
  )
  const options = await client.query(
    `select relname from pg_class c where relnamespace = 'hot'::regnamespace
      and exists (select from unnest(reloptions) o where o ~ '^fillfactor=[5-8]') order by 1`,
  )
  assert.deepStrictEqual(
    options.rows.map(({ relname }) => relname),
    ["workflow_runs", "workflow_workers"],
  )
})

it("the schema is the one in schema.txt", async () => {
  await succeeds("dump", (s) => s.migrate)
  const lines: Array<string> = []
  const columns = await client.query(`
    select table_name, column_name, data_type, is_nullable, column_default, is_identity
    from information_schema.columns where table_schema = 'dump'
    order by table_name, ordinal_position`)
  let table = ""
  for (const c of columns.rows) {
    if (c.table_name !== table) lines.push("", `table ${(table = c.table_name)}`)
    const parts = [c.column_name, c.data_type]
    if (c.is_nullable === "NO") parts.push("not null")
    if (c.column_default !== null) parts.push(`default ${c.column_default}`)
    if (c.is_identity === "YES") parts.push("identity")
    lines.push(`  ${parts.join(" ")}`)
  }
  const indexes = await client.query(
    "select indexdef from pg_indexes where schemaname = 'dump' order by indexname",
  )
  lines.push("", ...indexes.rows.map((row) => row.indexdef as string))
  const checks = await client.query(`
    select c.conrelid::regclass::text as at, c.conname, pg_get_constraintdef(c.oid) as def
    from pg_constraint c join pg_namespace n on n.oid = c.connamespace
    where n.nspname = 'dump' and c.contype in ('c', 'f') order by 1, 2`)
  lines.push("", ...checks.rows.map((row) => `${row.at} ${row.conname} ${row.def}`))
  const options = await client.query(`
    select c.relname, c.reloptions from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'dump' and c.reloptions is not null order by 1`)
  lines.push("", ...options.rows.map((row) => `${row.relname} with (${row.reloptions.join(", ")})`))
  await expect(`${lines.join("\n").trim()}\n`).toMatchFileSnapshot("schema.txt")
})
