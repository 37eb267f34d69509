/** The server that everything is measured on. */
import { startEmbeddedPostgres } from "../../src/embedded.ts"
import { withClient } from "../support/provision.ts"

export interface Server {
  readonly url: string
  /** Version and durability, as measured with. */
  readonly settings: Readonly<Record<string, string>>
  readonly stop: () => Promise<void>
}

const shown = [
  "server_version",
  "fsync",
  "synchronous_commit",
  "full_page_writes",
  "shared_buffers",
  "max_wal_size",
  "commit_delay",
  "shared_preload_libraries",
]

/** `DATABASE_URL`, or a server of our own, durable as by default, that counts its statements. */
export const openServer = async (): Promise<Server> => {
  const given = process.env["DATABASE_URL"]
  const server =
    given === undefined
      ? await startEmbeddedPostgres({
          settings: { shared_preload_libraries: "pg_stat_statements", max_connections: 200 },
        })
      : { url: given, stop: async () => {} }
  try {
    const settings = await withClient(server.url, async (client) => {
      await client.query("create extension if not exists pg_stat_statements").catch(() => undefined)
      const { rows } = await client.query<{ readonly name: string; readonly value: string }>(
        "select x as name, current_setting(x, true) as value from unnest($1::text[]) x",
        [shown],
      )
      return Object.fromEntries(rows.map(({ name, value }) => [name, value]))
    })
    return { url: server.url, settings, stop: () => server.stop() }
  } catch (error) {
    await server.stop()
    throw error
  }
}
