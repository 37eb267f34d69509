/** Clients on which applications open transactions, by their shape: what is sent, and how errors come. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { describe, expect, it } from "vitest"
import { connectionOfCaller } from "../../src/postgres/callersClient.ts"

const on = (client: unknown) => Result.getOrThrow(connectionOfCaller(client))
const rows = [{ a: 1, b: 2 }]

/** A pg client that notes what it is asked, itself being asked. */
class Client {
  readonly asked: Array<readonly [string, Array<unknown>]> = []
  readonly fails: unknown
  constructor(fails?: unknown) {
    this.fails = fails
  }
  query(text: string, values: Array<unknown>) {
    this.asked.push([text, values])
    return this.fails === undefined ? Promise.resolve({ rows }) : Promise.reject(this.fails)
  }
}

/** As Kysely shows itself, with a plugin that renames what is read. */
const kysely = (client: Client) => {
  const plain = {
    isTransaction: true,
    withoutPlugins: () => plain,
    executeQuery: ({ sql, parameters }: { sql: string; parameters: Array<unknown> }) =>
      client.query(sql, parameters),
  }
  const renaming = () => Promise.resolve({ rows: [{ renamed: true }] })
  return { ...plain, executeQuery: renaming }
}

describe("a statement in a caller's transaction", () => {
  it.each([
    ["pg", (client: Client) => client],
    ["Drizzle", (client: Client) => ({ session: { client } })],
    ["Kysely", kysely],
  ] as const)("goes to the client of %s, unprepared, and past its plugins", async (_, wrap) => {
    const client = new Client()
    const given = ["x"] as const
    const connection = on(wrap(client))
    const found = await Effect.runPromise(connection.execute("select $1", given, undefined))
    expect(found).toEqual(rows)
    const values = await Effect.runPromise(connection.executeValues("select 2", []))
    expect(values).toEqual([[1, 2]])
    expect(client.asked).toEqual([
      ["select $1", ["x"]],
      ["select 2", []],
    ])
    expect(client.asked[0]?.[1]).not.toBe(given)
  })

  const taken = Object.assign(new Error("duplicate key"), { code: "23505", constraint: "once" })
  it.each([
    ["as the driver has it", taken, "UniqueViolation"],
    ["as a query builder wraps it", new Error("Failed query", { cause: taken }), "UniqueViolation"],
    ["of a lost connection", new Error("Connection terminated"), "ConnectionError"],
    [
      "of a lost connection, wrapped",
      new Error("Failed query", { cause: Object.assign(new Error("gone"), { code: "57P01" }) }),
      "ConnectionError",
    ],
    ["that is none", null, "ConnectionError"],
  ])("fails with the error %s", async (_, fails, tag) => {
    const asked = on(new Client(fails)).execute("select 1", [], undefined)
    const error = await Effect.runPromise(Effect.flip(asked))
    expect(error.reason._tag).toBe(tag)
  })
})
