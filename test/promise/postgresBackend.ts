/**
 * The suite on a fresh database, with one kind of connection. That with a url works as the worker
 * of `grants`: a role that may create nothing.
 */
import pg from "pg"
import { afterAll, beforeAll, expect } from "vitest"
import { DurableEngine } from "../../src/index.ts"
import { createRoles, type DatabaseWithRoles } from "../security/roles.ts"
import { promiseSuite } from "./suite.ts"

export const postgresSuite = (driver: "pool" | "url"): void => {
  let database: DatabaseWithRoles
  let pool: pg.Pool

  beforeAll(async () => {
    database = await createRoles()
    pool = new pg.Pool({ connectionString: database.urlOf("owner"), max: 30 })
    await using engine = new DurableEngine({ pool, workflows: [] })
    await engine.migrate()
    await database.grant()
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
    options: () => (driver === "pool" ? { pool } : { url: database.urlOf("worker") }),
    attach: () => undefined,
  })
}
