/** The suite on a fresh database, with one kind of connection. */
import pg from "pg"
import { afterAll, beforeAll, expect } from "vitest"
import { DurableEngine } from "../../src/index.ts"
import { createDatabase, type TestDatabase } from "../support/database.ts"
import { promiseSuite } from "./suite.ts"

export const postgresSuite = (driver: "pool" | "url"): void => {
  let database: TestDatabase
  let pool: pg.Pool

  beforeAll(async () => {
    database = await createDatabase()
    pool = new pg.Pool({ connectionString: database.url, max: 30 })
    await using engine = new DurableEngine({ pool, workflows: [] })
    await engine.migrate()
  })

  afterAll(async () => {
    // whatever the tests did, the pool is as it was: open, and every client is back
    expect(pool.ended).toBe(false)
    expect(pool.idleCount).toBe(pool.totalCount)
    await pool.end()
    await database.drop()
  })

  promiseSuite({
    name: `Postgres, ${driver}`,
    options: () => (driver === "pool" ? { pool } : { url: database.url }),
    attach: () => undefined,
  })
}
