/**
 * The whole contract of the store, kept by a role with rows alone, with a co-tenant's lookalikes of
 * tables, functions and operators first in its search path, and CREATE revoked on `public`.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import pg from "pg"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import * as EngineClock from "../../src/EngineClock.ts"
import { DurableEngine } from "../../src/index.ts"
import * as PostgresStore from "../../src/PostgresStore.ts"
import { WorkflowStore } from "../../src/WorkflowStore.ts"
import { storeConformance } from "../store/conformance.ts"
import { hostileSchema } from "./hostile.ts"
import { createRoles, type DatabaseWithRoles } from "./roles.ts"

let database: DatabaseWithRoles
let owner: pg.Pool
// one pool for all tests: a fresh session reads thousands of lookalikes
let worker: pg.Pool

beforeAll(async () => {
  database = await createRoles("tenant")
  await database.admin(hostileSchema)
  const name = new URL(database.urlOf("owner")).pathname.slice(1)
  await database.admin(`alter database ${name} set search_path = hostile, "$user", public`)
  await using engine = new DurableEngine({
    url: database.urlOf("owner"),
    schema: "tenant",
    workflows: [],
  })
  await engine.migrate()
  await database.grant()
  owner = new pg.Pool({ connectionString: database.urlOf("owner"), max: 2 })
  worker = new pg.Pool({ connectionString: database.urlOf("worker"), max: 4 })
})

afterAll(async () => {
  await owner.end()
  await worker.end()
  await database.drop()
})

describe("the lookalikes", () => {
  it.each([
    "select unnest(array['a'])",
    "select 1.5 * 2",
    "select row_to_json(1)",
    "select array['a'] || 'b'::text",
    "select '{}'::jsonb -> '{}'",
    "select jsonb_build_object('a', 1, 'b', true)",
    "select * from workflow_runs",
  ])("catch what is not qualified: %s", async (text) => {
    await expect(database.as("worker", text)).rejects.toThrow(
      /hijacked|permission denied for table/,
    )
  })
})

const tables =
  "workflow_runs workflow_steps sleep_timers workflow_events workflow_wakes " +
  "workflow_attributes workflow_workers cron_schedules schedule_ticks"

storeConformance("PostgresStore as a worker among hostile lookalikes", () =>
  Layer.effect(
    WorkflowStore,
    Effect.tap(WorkflowStore, () =>
      Effect.promise(() =>
        owner.query(
          tables
            .split(" ")
            .map((table) => `delete from tenant.${table}`)
            .join("; "),
        ),
      ),
    ),
  ).pipe(
    Layer.provide(
      Layer.unwrap(Effect.sync(() => PostgresStore.layerPool({ pool: worker, schema: "tenant" }))),
    ),
    Layer.provide(EngineClock.layerEffect),
  ),
)
