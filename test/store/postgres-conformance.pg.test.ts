/**
 * The shared suite on Postgres, once for each way to reach it: the native driver, and a `pg.Pool`; and
 * once more with the hints of each write given, rightly or wrongly: they must change nothing but the
 * statement. Time is TestClock's, handed to every statement that reads time.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import pg from "pg"
import { afterAll, beforeAll } from "vitest"
import * as EngineClock from "../../src/EngineClock.ts"
import * as PostgresStore from "../../src/PostgresStore.ts"
import { WorkflowStore } from "../../src/WorkflowStore.ts"
import { createDatabase, type TestDatabase } from "../support/database.ts"
import { storeConformance } from "./conformance.ts"
import { withHints } from "./hints.ts"

let database: TestDatabase
let pool: pg.Pool

beforeAll(async () => {
  database = await createDatabase()
  pool = new pg.Pool({ connectionString: database.url, max: 4 })
})

afterAll(async () => {
  await pool.end()
  await database.drop()
})

const tables = [
  "workflow_runs",
  "workflow_steps",
  "sleep_timers",
  "workflow_events",
  "workflow_wakes",
  "workflow_attributes",
  "workflow_workers",
  "cron_schedules",
  "schedule_ticks",
]

/** Migrated, and without a row. */
const emptied = <E>(
  schema: string,
  layer: Layer.Layer<WorkflowStore, E, EngineClock.EngineClock>,
) =>
  Layer.effect(
    WorkflowStore,
    Effect.gen(function* () {
      const store = yield* WorkflowStore
      yield* store.migrate
      // Not `truncate`: new files for eight tables, synced, are most of a test's time.
      const empty = tables.map((table) => `delete from ${schema}.${table}`).join("; ")
      yield* Effect.promise(() => pool.query(`set synchronous_commit = off; ${empty}`))
      return store
    }),
  ).pipe(Layer.provide(layer), Layer.provide(EngineClock.layerEffect))

storeConformance("PostgresStore over @effect/sql-pg", () =>
  Layer.unwrap(
    Effect.sync(() =>
      emptied("native", PostgresStore.layerUrl({ url: database.url, schema: "native" })),
    ),
  ),
)

const hinting = Layer.effect(WorkflowStore, Effect.map(WorkflowStore, withHints))

storeConformance("PostgresStore with hints that may be wrong", () =>
  Layer.unwrap(
    Effect.sync(() =>
      Layer.provide(
        hinting,
        emptied("hinted", PostgresStore.layerUrl({ url: database.url, schema: "hinted" })),
      ),
    ),
  ),
)

storeConformance("PostgresStore over a pg.Pool", () =>
  Layer.unwrap(
    Effect.sync(() => emptied("pooled", PostgresStore.layerPool({ pool, schema: "pooled" }))),
  ),
)
