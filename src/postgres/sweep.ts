/**
 * What happens to the runs of workers that are gone, and to runs that take workers with them.
 *
 * The sweep is level-triggered: "which claimed runs belong to a lapsed worker", never "which worker
 * just lapsed"; so a claim that commits after its worker was swept is found by the next one.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../WorkflowStore.ts"
import type { Database } from "./database.ts"
import { bool, clock, int, steady, text } from "./rows.ts"
import { drainWakes, wakeAssignments } from "./wakes.ts"

/** `failed_position` of a run that no failed record ended: beyond every position. */
export const noPosition = 2_147_483_647

/** Returns runs of lapsed workers. Also applies the wakes that senders left in transactions. */
export const sweep = (
  database: Database,
): ((options: { readonly limit: number }) => Effect.Effect<number, StoreError>) => {
  const n = database.names
  const hasLapsed = `w.lease_expires_at <= ${steady("$1")}
        and exists (select 1 from ${n.runs} r where r.worker_id = w.worker_id)`
  // What is there at nearly every turn, nothing, costs one read.
  const look = `
    select exists (select 1 from ${n.wakes}) as wakes,
      exists (select 1 from ${n.workers} w where ${hasLapsed}) as lapsed`
  const statement = `
    with lapsed as materialized (
      select w.worker_id
      from ${n.workers} w
      where ${hasLapsed}
      -- A heartbeat in flight holds its row: it wins, and is not waited for. One that comes later
      -- waits for this statement, then finds its lease lapsed.
      for update of w skip locked
    ),
    locked as materialized (
      select r.workflow_run_id, r.worker_id, r.claim_token, r.crash_count
      from lapsed w
      join ${n.runs} r on r.worker_id = w.worker_id
      order by r.workflow_run_id
      limit $2::int
      -- A batch that is committing keeps its run; the next sweep sees what became of it. A run that
      -- was settled or handed back meanwhile no longer names the worker, and is let go.
      for no key update of r skip locked
    ),
    judged as materialized (
      select l.*,
        -- Progress is a record or an undo under the swept claim's own token.
        exists (
          select 1 from ${n.steps} s
          where s.workflow_run_id = l.workflow_run_id
            and (s.claim_token = l.claim_token or s.compensation_token = l.claim_token)
        ) as progressed,
        ${clock("$1")} as at
      from locked l
    ),
    swept as (
      update ${n.runs} r
      set worker_id = null,
        -- a fresh token: "unclaimed with my token" must not be true of a run that was taken away
        claim_token = r.claim_token + 1,
        status = case when r.status = 'compensating' then r.status else 'pending' end,
        crash_count = case when j.progressed then 0 else r.crash_count + 1 end,
        crashed_by = case when j.progressed then '{}' else pg_catalog.array_append(r.crashed_by, j.worker_id) end,
        ready = j.progressed,
        -- 1 s, 2 s, 4 s … a run that kills its process must not do so in a tight loop
        due_at = case
          when j.progressed then j.at
          else j.at + interval '1 second' * pg_catalog.power(2, least(r.crash_count, 20))
        end
      from judged j
      where r.workflow_run_id = j.workflow_run_id
      returning 1
    )
    select count(*)::int4 as swept from swept`
  const drain = drainWakes(database)
  return Effect.fnUntraced(function* ({ limit }) {
    const now = yield* database.now
    const [found] = yield* database.read("sweep", look, [now])
    if (bool(found?.["wakes"])) yield* drain(limit)
    if (!bool(found?.["lapsed"])) return 0
    const rows = yield* database.write("sweep", statement, [now, String(limit)])
    return int(rows[0]?.["swept"])
  })
}

/** Gives back the crash counts that sweeping this worker had added. */
export const refundCrashes = (
  database: Database,
): ((workerId: string) => Effect.Effect<number, StoreError>) => {
  const n = database.names
  const statement = `
    with locked as materialized (
      select r.workflow_run_id
      from ${n.runs} r
      where r.crash_count >= 1 and $1::uuid = any (r.crashed_by) and r.completed_at is null
      -- Called by the heartbeat's loop, which must not wait for a user's open transaction. A count
      -- that is not given back costs a delay, no more.
      for no key update of r skip locked
    ),
    refunded as (
      update ${n.runs} r
      set crashed_by = pg_catalog.array_remove(r.crashed_by, $1::uuid),
        crash_count = greatest(0,
          r.crash_count - pg_catalog.cardinality(pg_catalog.array_positions(r.crashed_by, $1::uuid)))
      from locked l
      where r.workflow_run_id = l.workflow_run_id
      returning 1
    )
    select count(*)::int4 as refunded from refunded`
  return Effect.fnUntraced(function* (workerId) {
    const rows = yield* database.write("refundCrashes", statement, [workerId])
    return int(rows[0]?.["refunded"])
  })
}

/** Dead-letters unclaimed runs that crashed too often, and wakes their parents. */
export const deadLetterPoison = (
  database: Database,
): ((options: {
  readonly maxCrashes: number
  readonly limit: number
}) => Effect.Effect<ReadonlyArray<string>, StoreError>) => {
  const n = database.names
  const statement = `
    with locked as materialized (
      select r.workflow_run_id, r.parent_run_id, r.crash_count
      from ${n.runs} r
      where r.crash_count >= 1 and r.crash_count >= $2::int and r.worker_id is null
        and r.completed_at is null and r.status <> 'paused'
      order by r.workflow_run_id
      limit $3::int
      for no key update of r skip locked
    ),
    parents as materialized (
      select p.workflow_run_id
      from ${n.runs} p
      where p.workflow_run_id in (
          select parent_run_id from locked
          -- two poisoned runs, one the other's parent: one row must not be updated twice
          except select workflow_run_id from locked
        )
      for no key update of p skip locked
    ),
    settling as materialized (
      select l.*
      from locked l
      -- A parent that is locked elsewhere could not be woken in this commit: next time.
      where l.parent_run_id is null
        or l.parent_run_id in (select workflow_run_id from parents)
        or l.parent_run_id in (select workflow_run_id from locked)
        or not exists (select 1 from ${n.runs} p where p.workflow_run_id = l.parent_run_id)
    ),
    woken as (
      update ${n.runs} p
      set ${wakeAssignments("p", "k.children", clock("$1"))}
      from (
        select s.parent_run_id, count(*) as children
        from settling s
        where s.parent_run_id in (select workflow_run_id from parents)
        group by s.parent_run_id
      ) k
      where p.workflow_run_id = k.parent_run_id and p.completed_at is null
      returning 1
    ),
    settled as (
      update ${n.runs} r
      set status = 'dead_letter',
        completed_at = ${clock("$1")},
        ready = false,
        due_at = null,
        crash_count = 0,
        crashed_by = '{}',
        pause_reason = null,
        pause_request = null,
        -- an explicit retry keeps every record: none of them failed the run
        failed_position = ${noPosition},
        error = pg_catalog.jsonb_build_object(
          'name', 'PoisonRun',
          'tag', 'PoisonRun',
          'message', s.crash_count::text || ' claims in a row ended with their worker''s death, '
            || 'without recording anything'
        ) || case when r.error is null then '{}' else pg_catalog.jsonb_build_object('cause', r.error) end
      from settling s
      where r.workflow_run_id = s.workflow_run_id
      returning r.workflow_run_id
    )
    select workflow_run_id::text as workflow_run_id from settled`
  return Effect.fnUntraced(function* ({ maxCrashes, limit }) {
    const rows = yield* database.write("deadLetterPoison", statement, [
      yield* database.now,
      String(maxCrashes),
      String(limit),
    ])
    return rows.map((row) => text(row["workflow_run_id"]))
  })
}
