/**
 * The database of an example: `DATABASE_URL` if it is set, else a server out of npm that ends with
 * the example. An application has a database already, and needs nothing of this.
 */
import { startEmbeddedPostgres } from "flowly/embedded"

export interface ExampleDatabase {
  readonly url: string
  readonly close: () => Promise<void>
}

export async function openDatabase(): Promise<ExampleDatabase> {
  const given = process.env["DATABASE_URL"]
  if (given) return { url: given, close: async () => {} }
  console.log("(no DATABASE_URL: starting a Postgres server out of npm)")
  const server = await startEmbeddedPostgres({ settings: { fsync: "off" } })
  return { url: server.url, close: () => server.stop() }
}
