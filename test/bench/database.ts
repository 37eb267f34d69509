/** A database for one measurement, and how many transactions it has committed. */
import type pg from "pg"
import { createDatabaseOn, type TestDatabase, withClient } from "../support/provision.ts"

/** A fresh database, and what is written out so far: the measurement pays for itself only. */
export const freshDatabase = async (server: string): Promise<TestDatabase> => {
  const database = await createDatabaseOn(server)
  // needs a privilege; without it the numbers are a little noisier
  await withClient(server, (client) => client.query("checkpoint").catch(() => undefined))
  return database
}

/** Runs `use`; answers how many transactions the database committed meanwhile. */
export const countCommits = async (
  server: string,
  url: string,
  use: () => Promise<void>,
): Promise<number> => {
  const name = new URL(url).pathname.slice(1)
  return withClient(server, async (client) => {
    const before = await commitsOf(client, name)
    await use()
    return (await commitsOf(client, name)) - before
  })
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
