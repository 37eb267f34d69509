/** README.md is true, on Postgres: its programs run word for word, and its query finds tables. */
import * as path from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { blocks, fileOf, programs, readme, runProgram } from "./readme/blocks.ts"
import { writePrograms } from "./readme/programFiles.ts"
import { createDatabase, type TestDatabase } from "./support/database.ts"
import { withClient } from "./support/provision.ts"

const { folder, remove } = writePrograms()
const onPostgres = programs.filter(({ info }) => info === "postgres")
const databases: Array<TestDatabase> = []
beforeAll(async () => {
  for (const _ of onPostgres) databases.push(await createDatabase())
})
afterAll(async () => {
  remove()
  for (const database of databases) await database.drop()
})

const expected = [
  // The saga of the promise API. Its cooling-period is real.
  /payment: 'payment-4711',\s+trackingId: 'parcel-4711',\s+reservation: 'reservation-4711'/,
  // Moving money, exactly once.
  /^20$/m,
  // The saga of the Effect API.
  /\{ payment: 'payment-4711', parcel: 'parcel-4711' \}/,
]

describe.concurrent("README.md on Postgres", () => {
  for (const [index, block] of onPostgres.entries()) {
    it(`runs its program of line ${block.line}`, { timeout: 180_000 }, async () => {
      const url = databases[index]?.url ?? ""
      const { code, output } = await runProgram(path.join(folder, fileOf(block)), {
        DATABASE_URL: url,
      })
      expect(output).toMatch(expected[index] ?? /$^/)
      expect(code).toBe(0)
      await withClient(url, async (client) => {
        const runs = "select workflow, status from durable_workflow.workflow_runs"
        const { rows } = await client.query(runs)
        const workflow = index === 1 ? "transfer" : "process-order"
        expect(rows).toEqual([{ workflow, status: "completed" }])
        for (const { code: query } of blocks.filter(({ language }) => language === "sql")) {
          expect((await client.query(query)).rows).toEqual([]) // all has ended
        }
        expect(await tablesOf(client)).toEqual(tablesOfReadme())
      })
    })
  }
})

it("README.md starts a server out of npm", { timeout: 120_000 }, async () => {
  const block = programs.find(({ info }) => info === "embedded")
  if (block === undefined) throw new Error("there is no such program")
  const { code, output } = await runProgram(path.join(folder, fileOf(block)))
  expect(output).toMatch(/^postgresql:\/\/postgres:[\w-]+@127\.0\.0\.1:\d+\/postgres\n$/)
  expect(code).toBe(0)
})

async function tablesOf(client: Parameters<Parameters<typeof withClient>[1]>[0]) {
  const text = "select tablename from pg_tables where schemaname = 'durable_workflow'"
  const { rows } = await client.query<{ tablename: string }>(text)
  return rows.map((row) => row.tablename).toSorted()
}

function tablesOfReadme(): ReadonlyArray<string> {
  const section = readme.split("\n## ").find((part) => part.startsWith("The tables")) ?? ""
  return [...section.matchAll(/^\| `(\w+)` \|/gm)].map((match) => match[1] ?? "").toSorted()
}
