/**
 * A database with the three roles of a careful deployment: the owner migrates, the worker has what
 * `grants` prints, the reader may look. Nobody but the owner may create anything, `public` included.
 */
import { randomBytes } from "node:crypto"
import type pg from "pg"
import { grants } from "../../src/index.ts"
import { createDatabase, type TestDatabase, withClient } from "../support/database.ts"

export type Role = "owner" | "worker" | "reader"

export interface DatabaseWithRoles {
  readonly schema: string
  readonly urlOf: (role: Role) => string
  readonly nameOf: (role: Role) => string
  /** As the superuser of the server. */
  readonly admin: (text: string) => Promise<pg.QueryResult>
  /** As a role. */
  readonly as: (role: Role, text: string) => Promise<pg.QueryResult>
  /** The owner gives the others what `grants` prints: after a migration. */
  readonly grant: () => Promise<void>
  readonly drop: () => Promise<void>
}

const roles: ReadonlyArray<Role> = ["owner", "worker", "reader"]

export const createRoles = async (schema = "durable_workflow"): Promise<DatabaseWithRoles> => {
  const database: TestDatabase = await createDatabase()
  // roles belong to the whole server; a name that must be quoted, on top
  const suffix = randomBytes(5).toString("hex")
  const nameOf = (role: Role): string => `Flowly "${role}" ${suffix}`
  const quoted = (role: Role): string => `"${nameOf(role).replaceAll('"', '""')}"`
  const password = randomBytes(12).toString("hex")
  const urlOf = (role: Role): string => {
    const url = new URL(database.url)
    url.username = encodeURIComponent(nameOf(role))
    url.password = password
    return url.href
  }
  const on = (url: string) => (text: string) => withClient(url, (client) => client.query(text))
  const admin = on(database.url)
  for (const role of roles) await admin(`create role ${quoted(role)} login password '${password}'`)
  const name = new URL(database.url).pathname.slice(1)
  await admin(`
    revoke create, temporary on database ${name} from public;
    revoke create on schema public from public;
    grant create on database ${name} to ${quoted("owner")}`)
  const as: DatabaseWithRoles["as"] = (role, text) => on(urlOf(role))(text)
  return {
    schema,
    urlOf,
    nameOf,
    admin,
    as,
    grant: async () => {
      await as("owner", grants({ schema, worker: nameOf("worker"), reader: nameOf("reader") }))
    },
    drop: async () => {
      const server = new URL(database.url)
      server.pathname = "/postgres"
      await database.drop()
      for (const role of roles) await on(server.href)(`drop role ${quoted(role)}`)
    },
  }
}
