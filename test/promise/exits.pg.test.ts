import { afterAll, beforeAll, expect, it } from "vitest"
import { createDatabase, type TestDatabase } from "../support/database.ts"
import { runProgram } from "./runProgram.ts"

let database: TestDatabase

beforeAll(async () => {
  database = await createDatabase()
})

afterAll(() => database.drop())

it.each(["pool", "url"])("a program with a %s prints nothing, and ends by itself", async (kind) => {
  expect(await runProgram(kind, database.url)).toEqual({ code: 0, output: "" })
})
