/**
 * Waking: what every statement does to a run that may wait for what just happened, and the wakes
 * that senders left behind because they must not touch the run's row themselves.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../WorkflowStore.ts"
import type { Database } from "./database.ts"
import { clock } from "./rows.ts"

/**
 * SQL: the assignments that wake run `r` (not terminal: the statement's `where` sees to it). The
 * counter tells a run that is claimed, or about to park; a parked one becomes due; a `pending` one
 * keeps its due time. Of the counter alone the update is HOT.
 */
export const wakeAssignments = (r: string, times: string, now: string): string => {
  const parked = `${r}.worker_id is null and ${r}.status in ('sleeping', 'waiting', 'compensating')`
  return `wake_counter = ${r}.wake_counter + ${times},
      status = case when ${r}.worker_id is null and ${r}.status in ('sleeping', 'waiting')
        then 'pending' else ${r}.status end,
      ready = ${r}.ready or (${parked}),
      due_at = case when ${parked} then least(${r}.due_at, ${now}) else ${r}.due_at end`
}

/** Applies the wakes that senders left inside their own transactions. */
export const drainWakes = (
  database: Database,
): ((limit: number) => Effect.Effect<void, StoreError>) => {
  const n = database.names
  const statement = `
    with taken as materialized (
      select k.wake_id, k.workflow_run_id
      from ${n.wakes} k
      order by k.wake_id
      limit $2::int
      for update of k skip locked
    ),
    locked as materialized (
      select r.workflow_run_id
      from ${n.runs} r
      where r.workflow_run_id in (select workflow_run_id from taken)
      for no key update of r skip locked
    ),
    -- A wake whose run is locked elsewhere stays for the next round.
    removed as (
      delete from ${n.wakes} k
      using taken t
      where k.wake_id = t.wake_id
        and (
          t.workflow_run_id in (select workflow_run_id from locked)
          or not exists (select 1 from ${n.runs} r where r.workflow_run_id = t.workflow_run_id)
        )
      returning t.workflow_run_id
    ),
    counted as (
      select workflow_run_id, count(*) as times from removed group by workflow_run_id
    ),
    woken as (
      update ${n.runs} r
      set ${wakeAssignments("r", "c.times", clock("$1"))}
      from counted c
      where r.workflow_run_id = c.workflow_run_id and r.completed_at is null
      returning 1
    )
    select count(*)::int4 as woken from woken`
  return Effect.fnUntraced(function* (limit) {
    yield* database.write("drainWakes", statement, [yield* database.now, String(limit)])
  })
}
