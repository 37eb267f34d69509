import { inspect } from "node:util"
import * as Result from "effect/Result"
import fc from "fast-check"
import { assert, describe, it } from "vitest"
import { decode, encode, type Encoded, sameValue } from "../src/Payload.ts"
import { createDatabase, withClient } from "./support/database.ts"

const text = fc.string({ unit: "binary" })
const number = fc.double({ noNaN: true, noDefaultInfinity: true })
const value = fc.oneof(
  fc.jsonValue({ stringUnit: "binary" }),
  fc.dictionary(text, fc.oneof(text, number), { noNullPrototype: true }),
  fc.array(number),
  fc.anything({ key: text, withBigInt: true, withDate: true, withMap: true, withSet: true }),
)

/** The texts as a jsonb column gives them back, in one query. */
const throughJsonb = async (texts: ReadonlyArray<string>): Promise<ReadonlyArray<string>> => {
  const database = await createDatabase()
  const { rows } = await withClient(database.url, (client) =>
    client.query<{ text: string }>(
      `select value::jsonb::text as text
       from unnest($1::text[]) with ordinality as sent (value, position)
       order by position`,
      [texts],
    ),
  )
  await database.drop()
  return rows.map((row) => row.text)
}

/** Without the blanks between tokens, and with each string escaped as JSON.stringify does. */
const tokens = (json: string): string =>
  json.replace(/("(?:[^"\\]|\\.)*")| /gs, (_, quoted?: string) =>
    quoted === undefined ? "" : JSON.stringify(JSON.parse(quoted)),
  )

describe("a value in a jsonb column", () => {
  it("is the text that was written, but for blanks", { timeout: 280_000 }, async () => {
    const count = Number(process.env["FLOWLY_VALUES"] ?? 2000)
    const encoded = fc
      .sample(value, count)
      .map((sample) => encode(sample, { field: "input" }))
      .filter(Result.isSuccess)
      .map((result) => result.success)
    const texts = await throughJsonb(encoded.map(({ json }) => json))
    assert.isAbove(texts.length, count / 2)
    for (const [i, written] of encoded.entries()) {
      const read: Encoded = { codec: written.codec, json: texts[i]! }
      assert.strictEqual(tokens(read.json), written.json)
      assert.strictEqual(inspect(decode(read)), inspect(decode(written)))
      assert.isTrue(sameValue(read, written))
    }
  })
})
