/**
 * The same tests on Postgres: the test's clock is what the database compares times with
 * (`EngineClock.layerEffect`).
 */
import { defineWorkflow } from "flowly"
import { PostgresStore } from "flowly/effect"
import * as Testing from "flowly/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import pg from "pg"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { createDatabase, type TestDatabase } from "../support/database.ts"
import { testingSuite } from "./suite.ts"

let database: TestDatabase

beforeAll(async () => {
  database = await createDatabase()
})
afterAll(() => database.drop())

let schemas = 0

const postgres = () =>
  Layer.orDie(
    Testing.layerStore(
      Layer.unwrap(
        Effect.sync(() =>
          PostgresStore.layerUrl({
            url: database.url,
            schema: `test_${schemas++}`,
            maxConnections: 4,
          }),
        ),
      ),
      { startAt: new Date("2030-01-01T00:00:00Z"), patienceMs: 500 },
    ),
  )

testingSuite("on Postgres", postgres, Date.UTC(2030, 0, 1))

describe("createTestEngine on a database", () => {
  const trial = defineWorkflow("trial", async (ctx, input: { readonly email: string }) => {
    const tries = await ctx.step("welcome", {
      run: ({ attempt }) => {
        if (attempt < 3) throw new Error("the mail server is down")
        return attempt
      },
      retry: { maxAttempts: 3, initialDelayMs: 3_600_000, maxDelayMs: 86_400_000 },
    })
    await ctx.sleep("trial period", "30 days")
    return ctx.step("invoice", () => `invoice for ${input.email} after ${tries} tries`)
  })
  const options = { workflows: [trial], startAt: new Date("2030-01-01T00:00:00Z") }

  it("a url: a month passes by the test's clock", async () => {
    await using engine = Testing.createTestEngine({ ...options, url: database.url, schema: "a" })
    await engine.migrate()
    const handle = await engine.trigger(trial, { input: { email: "ada" } })
    expect(await engine.runToEnd(handle)).toMatchObject({
      result: "invoice for ada after 3 tries",
      completedAt: new Date("2030-01-31T03:00:00Z"),
    })
  })

  it("a pool: a month passes by the test's clock", async () => {
    const pool = new pg.Pool({ connectionString: database.url, max: 4 })
    const engine = Testing.createTestEngine({ ...options, pool, schema: "b" })
    await engine.migrate()
    const handle = await engine.trigger(trial, { input: { email: "ada" } })
    await engine.clock.advance("31 days")
    expect(await handle.result()).toBe("invoice for ada after 3 tries")
    await engine.stop()
    await pool.end()
  })
})
