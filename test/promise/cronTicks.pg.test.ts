import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { afterAll, beforeAll, expect, it } from "vitest"
import * as EngineClock from "../../src/EngineClock.ts"
import * as PostgresStore from "../../src/PostgresStore.ts"
import { WorkflowStore } from "../../src/WorkflowStore.ts"
import { createDatabase, type TestDatabase, withClient } from "../support/database.ts"
import { cronTicks } from "./cronTicks.ts"

let database: TestDatabase

beforeAll(async () => {
  database = await createDatabase()
})

afterAll(() => database.drop())

const store = Layer.unwrap(
  Effect.sync(() =>
    Layer.effect(
      WorkflowStore,
      Effect.tap(WorkflowStore, (one) => one.migrate),
    ).pipe(
      Layer.provide(PostgresStore.layerUrl({ url: database.url })),
      Layer.provide(EngineClock.layerEffect),
    ),
  ),
)

cronTicks("ticks on Postgres", store)

it("a tick, its run and the schedule's advance are one transaction", async () => {
  await withClient(database.url, async (client) => {
    // runs that nobody claimed: their rows are as the firing wrote them
    const { rows } = await client.query<{ same: boolean }>(
      `select t.xmin::text = r.xmin::text as same
       from durable_workflow.schedule_ticks t
       join durable_workflow.workflow_runs r on r.workflow = t.schedule_key
        and r.workflow_run_id = t.workflow_run_id`,
    )
    expect(rows.length).toBeGreaterThan(5)
    expect(rows.every((row) => row.same)).toBe(true)
  })
})
