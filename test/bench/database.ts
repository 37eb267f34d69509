/** A database for one measurement, and what the server did for it. */
import type pg from "pg"
import { createDatabaseOn, type TestDatabase, withClient } from "../support/provision.ts"

/** A fresh database, and what is written out so far: the measurement pays for itself only. */
export const freshDatabase = async (server: string): Promise<TestDatabase> => {
  const database = await createDatabaseOn(server)
  await checkpoint(server)
  return database
}

/** Needs a privilege; without it the numbers are a little noisier. */
export const checkpoint = (server: string): Promise<unknown> =>
  withClient(server, (client) => client.query("checkpoint").catch(() => undefined))

/** Runs `use` on a fresh database, and drops it whatever happens. */
export const onFreshDatabase = async <A>(
  server: string,
  use: (url: string) => Promise<A>,
): Promise<A> => {
  const database = await freshDatabase(server)
  try {
    return await use(database.url)
  } finally {
    await database.drop()
  }
}

/** A statement as `pg_stat_statements` counts it. */
export interface Statement {
  readonly query: string
  readonly calls: number
  readonly totalMs: number
  readonly walBytes: number
}

/** What the server did between two moments. */
export interface Work {
  /** Transactions that the database committed. */
  readonly commits: number
  /** Of the whole server. */
  readonly walBytes: number
  /** Empty without `pg_stat_statements`. */
  readonly statements: ReadonlyArray<Statement>
}

/** Runs `use`, whose sessions must have ended with it; answers what the server did meanwhile. */
export const observed = async <A>(
  server: string,
  url: string,
  use: () => Promise<A>,
): Promise<Work & { readonly result: A }> => {
  const name = new URL(url).pathname.slice(1)
  return withClient(server, async (client) => {
    const before = await countersOf(client, name)
    const result = await use()
    const after = await countersOf(client, name)
    return {
      result,
      commits: after.commits - before.commits,
      walBytes: after.walBytes - before.walBytes,
      statements: since(before.statements, after.statements),
    }
  })
}

/** What was executed between two looks. */
export const since = (
  before: ReadonlyArray<Statement>,
  after: ReadonlyArray<Statement>,
): ReadonlyArray<Statement> => {
  const earlier = new Map(before.map((one) => [one.query, one]))
  return after.map((one) => {
    const { calls = 0, totalMs = 0, walBytes = 0 } = earlier.get(one.query) ?? {}
    return {
      query: one.query,
      calls: one.calls - calls,
      totalMs: one.totalMs - totalMs,
      walBytes: one.walBytes - walBytes,
    }
  })
}

const countersOf = async (client: pg.Client, database: string): Promise<Work> => {
  const commits = await commitsOf(client, database)
  const { rows } = await client.query<{ readonly bytes: string }>(
    "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') as bytes",
  )
  return {
    commits,
    walBytes: Number(rows[0]?.bytes),
    statements: await statementsOf(client, database),
  }
}

/** Sessions tell of their commits at their end: waits until none is left, and the count is still. */
const commitsOf = async (client: pg.Client, database: string): Promise<number> => {
  let last = -1
  const deadline = performance.now() + 60_000
  while (performance.now() < deadline) {
    const { rows } = await client.query<{ readonly commits: number; readonly sessions: number }>(
      `select xact_commit::int as commits, numbackends as sessions
       from pg_stat_database where datname = $1`,
      [database],
    )
    const { commits, sessions } = rows[0] ?? { commits: 0, sessions: 0 }
    if (sessions === 0 && commits === last) return commits
    last = commits
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`sessions of ${database} did not end within a minute`)
}

/** What `pg_stat_statements` knows of a database so far; nothing where it is not installed. */
export const statementsOf = async (
  client: pg.Client,
  database: string,
): Promise<ReadonlyArray<Statement>> => {
  if (!(await hasStatements(client))) return []
  const { rows } = await client.query<Statement>(
    `select s.query, sum(s.calls)::int as calls, sum(s.total_exec_time) as "totalMs",
       sum(s.wal_bytes)::float8 as "walBytes"
     from pg_stat_statements s join pg_database d on d.oid = s.dbid
     where d.datname = $1
     group by s.query order by 3 desc`,
    [database],
  )
  return rows
}

const hasStatements = async (client: pg.Client): Promise<boolean> => {
  const { rows } = await client.query<{ readonly found: boolean }>(
    `select current_setting('shared_preload_libraries') like '%pg_stat_statements%'
       and to_regclass('pg_stat_statements') is not null as found`,
  )
  return rows[0]?.found === true
}

/** The heaviest statements of a measurement, one line each. */
export const topStatements = (
  statements: ReadonlyArray<Statement>,
  count = 8,
): ReadonlyArray<string> =>
  statements
    .filter(({ calls }) => calls > 0)
    .toSorted((a, b) => b.totalMs - a.totalMs)
    .slice(0, count)
    .map(
      ({ query, calls, totalMs, walBytes }) =>
        `${String(calls).padStart(8)} x ${(totalMs / calls).toFixed(3).padStart(9)} ms ` +
        `${(walBytes / calls / 1024).toFixed(1).padStart(8)} KB WAL  ` +
        nameOf(query),
    )

/** Statements of flowly by what they are; others by how they begin. */
const nameOf = (query: string): string => {
  const has = (part: string) => query.includes(part)
  if (has("candidates as materialized")) return "claim"
  if (has("writes as materialized")) {
    const parts = [
      ["records", "records as materialized"],
      ["transitions", "folded as materialized"],
      ["extras", "timers as materialized"],
      ["retry", "cut as materialized"],
    ].flatMap(([name = "", part = ""]) => (has(part) ? [name] : []))
    return `commit of ${parts.join(" and ")}`
  }
  if (has("inserted as") && has("lease as materialized")) return "insert of runs"
  return query.replaceAll(/\s+/g, " ").trim().slice(0, 110)
}
