/**
 * What statements cost, by EXPLAIN: a claim reads two bounded ranges per known workflow, whatever
 * else is in the table; on a table that was never analyzed, too.
 */
import { assert } from "@effect/vitest"
import * as Result from "effect/Result"
import { afterAll, beforeAll, describe, it } from "vitest"
import { claimStatements } from "../../src/postgres/claimRuns.ts"
import { recordColumns, writesOf } from "../../src/postgres/commitRows.ts"
import { commitStatement, type Shape } from "../../src/postgres/commitStatement.ts"
import { sendStatement } from "../../src/postgres/events.ts"
import { listStatement } from "../../src/postgres/reads.ts"
import { makeNames } from "../../src/postgres/names.ts"
import type { RunSelection } from "../../src/WorkflowStore.ts"
import { id, newRun, workerId, write } from "./conformanceFixture.ts"
import { createDatabase, makeRig, onStore, type Rig } from "./postgresFixture.ts"

let database: Awaited<ReturnType<typeof createDatabase>>
let rig: Rig

beforeAll(async () => {
  database = await createDatabase()
  rig = await makeRig(database)
  await onStore(rig, function* (s) {
    yield* s.worker(1)
    yield* s.insert(...Array.from({ length: 40 }, (_, n) => newRun(n, { workflow: "known" })))
  })
  await rig.query("alter table workflow_runs set (autovacuum_enabled = false)")
  // 20,000 ready runs of other versions of "known", and
  await rig.query(`
    insert into workflow_runs (workflow_run_id, workflow, version, status, ready, due_at,
      input_codec, input, created_at)
    select gen_random_uuid(), 'known', (n % 2 + 1)::text, 'pending', n % 5 > 0, to_timestamp(0),
      'json', '1', now()
    from generate_series(1, 20000) n`)
  // 60,000 rows that no claim of "known" may read: foreign, future, finished, parked for ever
  await rig.query(`
    insert into workflow_runs (workflow_run_id, workflow, status, ready, due_at, input_codec, input,
      created_at, completed_at)
    select gen_random_uuid(), case when n % 4 = 0 then 'foreign' else 'known' end,
      case n % 4 when 0 then 'pending' when 1 then 'sleeping' when 2 then 'completed'
        else 'waiting' end,
      n % 4 = 0,
      case n % 4 when 0 then to_timestamp(0) when 1 then to_timestamp(9e9) end,
      'json', '1', now(), case when n % 4 = 2 then now() end
    from generate_series(1, 60000) n`)
  // events of other runs, half of them consumed, and a few of one of ours
  await rig.query(`
    insert into workflow_events (workflow_run_id, direction, name, payload_codec, payload, created_at)
    select r.workflow_run_id, 'sent', 'go', 'json', '1', now()
    from (select workflow_run_id from workflow_runs limit 3000) r, generate_series(1, 10)`)
  await rig.query(`
    insert into workflow_steps (workflow_run_id, step_key, name, kind, position, issued_after, status,
      attempts, has_compensate, claim_token, event_id)
    select workflow_run_id, event_id::text, 'go', 'event', event_id, 0, 'completed', 1, false, 1, event_id
    from workflow_events where event_id % 2 = 0`)
  await rig.query("alter table workflow_events set (autovacuum_enabled = false)")
  await rig.query("alter table workflow_steps set (autovacuum_enabled = false)")
})
afterAll(async () => {
  await rig.other.end()
  await database.drop()
})

interface Plan {
  readonly "Node Type": string
  readonly "Relation Name"?: string
  readonly "Rows Removed by Filter"?: number
  readonly "Actual Rows"?: number
  readonly "Shared Hit Blocks"?: number
  readonly "Shared Read Blocks"?: number
  readonly Plans?: ReadonlyArray<Plan>
}

const nodes = (plan: Plan): ReadonlyArray<Plan> => [plan, ...(plan.Plans ?? []).flatMap(nodes)]

const explain = async (statement: string, parameters: Array<unknown>): Promise<Plan> => {
  await rig.query("begin")
  try {
    const [row] = await rig.query(
      `explain (analyze, buffers, format json) ${statement}`,
      parameters,
    )
    return row["QUERY PLAN"][0].Plan
  } finally {
    await rig.query("rollback")
  }
}

/** No scan of the runs as a whole, and no more pages than a bounded claim needs. */
const assertBounded = (plan: Plan, maxBlocks: number) => {
  for (const node of nodes(plan)) {
    if (node["Relation Name"] !== "workflow_runs") continue
    assert.notStrictEqual(node["Node Type"], "Seq Scan")
    assert.isBelow(node["Rows Removed by Filter"] ?? 0, 100, node["Node Type"])
  }
  const blocks = (plan["Shared Hit Blocks"] ?? 0) + (plan["Shared Read Blocks"] ?? 0)
  assert.isBelow(blocks, maxBlocks)
}

const explainList = (selection: Partial<RunSelection>): Promise<Plan> => {
  const all = { statuses: null, workflow: null, parentRunId: null }
  const list = listStatement(names(), { ...all, ...selection }, null, 50)
  assert.isNotNull(list)
  return explain(list.text, [...list.parameters])
}

const names = () => Result.getOrThrow(makeNames(rig.schema))

const now = () => String(rig.clock.now)

for (const state of ["never analyzed", "analyzed"]) {
  describe(`on tables that were ${state}`, () => {
    beforeAll(async () => {
      if (state === "analyzed") {
        await rig.query("vacuum analyze workflow_runs, workflow_events, workflow_steps")
      }
    })

    it("a claim reads bounded ranges of indexes", async () => {
      const parameters = [now(), workerId(1), ["known", "absent"], "32", "80", ["", "1"]]
      const plan = await explain(claimStatements(names()).healthy, parameters)
      assertBounded(plan, 4000)
      assert.strictEqual(plan["Actual Rows"], 32)
    })

    it("a claim that finds nothing reads next to nothing", async () => {
      const parameters = [now(), workerId(1), ["absent"], "32", "80", [""]]
      assertBounded(await explain(claimStatements(names()).healthy, parameters), 60)
    })

    it("a claim of suspects reads the index of crashed runs", async () => {
      const parameters = [now(), workerId(1), ["known"], "1", "18", [""]]
      assertBounded(await explain(claimStatements(names()).suspects, parameters), 60)
    })

    it("a page of runs by attribute reads the index of attributes", async () => {
      await rig.query(`insert into workflow_attributes (workflow_run_id, name, value)
        select workflow_run_id, 'customer', to_jsonb('c' || (row_number() over ())::int % 5000)
        from workflow_runs on conflict do nothing`)
      const attributes = { customer: "c7" }
      const plan = await explainList({ attributes })
      assertBounded(plan, 1500)
      assert.isAbove(plan["Actual Rows"] ?? 0, 5)
    })

    it("a page of runs under way reads the index of those", async () => {
      const statuses = ["pending", "running"] as const
      assertBounded(await explainList({ statuses, workflow: "absent" }), 60)
    })

    it("an event is sent by keys, also to a run whose backlog must be counted", async () => {
      await rig.query("update workflow_runs set wake_counter = 20000 where workflow_run_id = $1", [
        id(0),
      ])
      const event = { place: 0, run: id(0), name: "go", codec: "json", payload: 1, id: "once" }
      const parameters = [now(), JSON.stringify([event]), "10000"]
      for (const deferred of [false, true]) {
        const plan = await explain(sendStatement(names(), deferred), parameters)
        assert.deepStrictEqual(
          nodes(plan).flatMap((node) =>
            node["Node Type"] === "Seq Scan" ? [node["Relation Name"]] : [],
          ),
          [],
        )
        assertBounded(plan, 200)
      }
    })

    const batchOf40 = {
      records: true,
      transitions: true,
      extras: false,
      retry: false,
      attributes: false,
      timed: false,
      single: false,
      alone: false,
      plain: false,
      settles: false,
    }
    const shapes: ReadonlyArray<readonly [string, Shape]> = [
      ["a batch of 40", batchOf40],
      [
        "a batch of 40 that records and settles",
        { ...batchOf40, single: true, plain: true, settles: true },
      ],
    ]
    it.each(shapes)("%s reads its rows by key", async (_title, shape) => {
      const writes = Array.from({ length: 40 }, (_, n) => write({ workflowRunId: id(n), token: 1 }))
      const plan = await explain(commitStatement(names(), shape), [
        now(),
        ...writesOf(shape).parameters(writes),
        ...(shape.single ? [] : recordColumns.parameters([])),
      ])
      assertBounded(plan, 2000)
    })
  })
}
