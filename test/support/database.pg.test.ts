import pg from "pg"
import { describe, expect, it } from "vitest"
import { createDatabase, withClient } from "./database.ts"

const count = (url: string) =>
  withClient(url, async (client) => {
    const { rows } = await client.query<{ n: number }>(
      "select count(*)::int as n from information_schema.tables where table_name = 'mine'",
    )
    return rows[0]?.n
  })

describe("createDatabase", () => {
  it("gives each caller a database of its own, and takes it away again", async () => {
    const [one, two] = await Promise.all([createDatabase(), createDatabase()])
    await withClient(one.url, (client) => client.query("create table mine (n int)"))
    expect(await count(one.url)).toBe(1)
    expect(await count(two.url)).toBe(0)
    await Promise.all([one.drop(), two.drop()])
    await expect(count(one.url)).rejects.toThrow(/does not exist/)
  })

  it("drops a database that somebody is still connected to", async () => {
    const database = await createDatabase()
    const client = new pg.Client(database.url)
    client.on("error", () => {}) // the server ends this session
    await client.connect()
    await database.drop()
    await expect(client.query("select 1")).rejects.toThrow(/connection|terminat/i)
    await expect(count(database.url)).rejects.toThrow(/does not exist/)
    await client.end()
  })
})
