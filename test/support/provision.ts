/**
 * Fresh databases on a server, and their end. Names tell the run that made them
 * (`flowly_test_<run's pid>_<own pid>_<random>`), so that a run can drop what its files forgot.
 */
import { randomBytes } from "node:crypto"
import pg from "pg"

export interface TestDatabase {
  readonly url: string
  /** Drops it, also while sessions are open in it. */
  drop(): Promise<void>
}

/** A fresh database on the server at `url`. */
export async function createDatabaseOn(url: string, run = process.pid): Promise<TestDatabase> {
  const name = `${prefix(run)}${process.pid}_${randomBytes(5).toString("hex")}`
  await withClient(url, (client) => client.query(`create database ${name}`))
  const own = new URL(url)
  own.pathname = `/${name}`
  return {
    url: own.href,
    drop: async () => {
      await withClient(url, (client) =>
        client.query(`drop database if exists ${name} with (force)`),
      )
    },
  }
}

/** Drops the databases that a run has left. */
export async function dropLeftovers(url: string, run: number): Promise<void> {
  await withClient(url, async (client) => {
    const { rows } = await client.query<{ datname: string }>(
      "select datname from pg_database where starts_with(datname, $1)",
      [prefix(run)],
    )
    for (const { datname } of rows) {
      await client.query(`drop database if exists "${datname}" with (force)`)
    }
  })
}

const prefix = (run: number) => `flowly_test_${run}_`

/** Runs `use` on a connection of its own. */
export async function withClient<A>(
  url: string,
  use: (client: pg.Client) => Promise<A>,
): Promise<A> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 })
  // A connection that breaks while idle must not end the process; the next query tells.
  client.on("error", () => {})
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.end()
  }
}
