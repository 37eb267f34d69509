import pg from "pg"
import { afterAll, afterEach, beforeAll, expect } from "vitest"
import { DurableEngine } from "../../src/index.ts"
import { createDatabase, type TestDatabase } from "../support/database.ts"
import { promiseSuite } from "./suite.ts"

let database: TestDatabase
let pool: pg.Pool

beforeAll(async () => {
  database = await createDatabase()
  pool = new pg.Pool({ connectionString: database.url, max: 30 })
  await using engine = new DurableEngine({ pool, workflows: [] })
  await engine.migrate()
})

afterEach(() => {
  // whatever a test did, every client came back
  expect(pool.ended).toBe(false)
})

afterAll(async () => {
  expect(pool.idleCount).toBe(pool.totalCount)
  await pool.end()
  await database.drop()
})

promiseSuite({ name: "Postgres, pool", options: () => ({ pool }), attach: () => undefined })

promiseSuite({
  name: "Postgres, url",
  options: () => ({ url: database.url }),
  attach: () => undefined,
})
