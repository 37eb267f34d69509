/**
 * What others ask of a run: cancel, resume, retry. None takes a claim: of a claimed run they change
 * the request and the wake counter, and the holder acts.
 *
 * These statements wait for row locks (the journal's never do). Where one locks several rows it does
 * so in ascending order of id, as every waiting statement here does: no cycle, no deadlock.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../WorkflowStore.ts"
import { logControl } from "./controlLog.ts"
import type { Database } from "./database.ts"
import { clock, interval, text } from "./rows.ts"
import { isUuid } from "./uuids.ts"
import { wakeAssignments } from "./wakes.ts"

type CancelAnswer = "cancelled" | "requested" | "terminal" | "compensating" | "unknown"

/** Requests a cancel; a run that never started is cancelled on the spot. */
export const requestCancel = (
  database: Database,
): ((options: {
  readonly workflowRunId: string
  readonly compensate: boolean | null
  readonly reason: string | null
}) => Effect.Effect<CancelAnswer, StoreError>) => {
  const n = database.names
  const statement = `
    with locked as materialized (
      select r.*
      from ${n.runs} r
      where r.workflow_run_id = $2::uuid
        -- Settling wakes the parent. A run that has started does not become one that has not.
        or r.workflow_run_id = (
          select c.parent_run_id from ${n.runs} c
          where c.workflow_run_id = $2::uuid and c.started_at is null
        )
      order by r.workflow_run_id
      for no key update of r
    ),
    verdict as materialized (
      select l.workflow_run_id, l.workflow_run_id as id, l.parent_run_id, l.worker_id,
        case
          when l.completed_at is not null then 'terminal'
          when l.compensating then 'compensating'
          when l.started_at is null then 'cancelled'
          else 'requested'
        end as answer,
        ${clock("$1")} as at
      from locked l
      where l.workflow_run_id = $2::uuid
    ),
    requested as (
      update ${n.runs} r
      set wake_counter = r.wake_counter + case when v.answer = 'requested' then 1 else 0 end,
        -- the first request stands
        cancel_compensate = case when r.cancel_requested_at is null
          then $3::boolean else r.cancel_compensate end,
        cancel_reason = case when r.cancel_requested_at is null
          then $4::text else r.cancel_reason end,
        cancel_requested_at = coalesce(r.cancel_requested_at, v.at),
        -- cancel wins
        pause_request = null,
        status = case
          when v.answer = 'cancelled' then 'cancelled'
          when v.worker_id is null then 'pending'
          else r.status
        end,
        -- an unclaimed run is due now: also from a backoff, and from a pause
        ready = v.answer = 'requested' and v.worker_id is null,
        due_at = case when v.answer = 'requested' and v.worker_id is null
          then least(r.due_at, v.at) end,
        pause_reason = case when v.worker_id is null then null else r.pause_reason end,
        completed_at = case when v.answer = 'cancelled' then v.at end,
        crash_count = case when v.answer = 'cancelled' then 0 else r.crash_count end,
        crashed_by = case when v.answer = 'cancelled' then '{}' else r.crashed_by end
      from verdict v
      where r.workflow_run_id = v.workflow_run_id and v.answer in ('cancelled', 'requested')
      returning 1
    ),
    woken as (
      update ${n.runs} p
      set ${wakeAssignments("p", "1", "v.at")}
      from verdict v, locked l
      where v.answer = 'cancelled' and l.workflow_run_id = v.parent_run_id
        and p.workflow_run_id = l.workflow_run_id and p.completed_at is null
      returning 1
    ),
    logged as (${logControl(n, {
      verb: "cancel",
      from: "verdict x where x.answer in ('cancelled', 'requested')",
      reason: "$4::text",
      detail: `jsonb_strip_nulls(pg_catalog.jsonb_build_object('compensate', $3::boolean))`,
    })}
    )
    select v.answer from verdict v`
  return Effect.fnUntraced(function* (options) {
    if (!isUuid(options.workflowRunId)) return "unknown"
    const rows = yield* database.write("requestCancel", statement, [
      yield* database.now,
      options.workflowRunId,
      options.compensate === null ? null : String(options.compensate),
      options.reason,
    ])
    return rows[0] === undefined ? "unknown" : (text(rows[0]["answer"]) as CancelAnswer)
  })
}

/** `paused` → claimable again; a request to pause is withdrawn. */
export const resumeRun = (
  database: Database,
): ((
  workflowRunId: string,
  reason?: string | null,
) => Effect.Effect<"resumed" | "not-paused" | "unknown", StoreError>) => {
  const n = database.names
  const statement = `
    with locked as materialized (
      select r.workflow_run_id as id, r.status, ${clock("$1")} as at,
        r.status = 'paused' or r.pause_request is not null as resumes
      from ${n.runs} r
      where r.workflow_run_id = $2::uuid
      for no key update of r
    ),
    resumed as (
      update ${n.runs} r
      set status = case
          when l.status <> 'paused' then r.status
          when r.compensating then 'compensating'
          else 'pending'
        end,
        ready = case when l.status <> 'paused' then r.ready
          else r.started_at is not null or coalesce(r.scheduled_for <= l.at, true) end,
        due_at = case
          when l.status <> 'paused' then r.due_at
          -- one that never started keeps its time
          when r.started_at is null then greatest(r.scheduled_for, l.at)
          else l.at
        end,
        -- the holder looks again, and goes on
        wake_counter = r.wake_counter + case when l.status = 'paused' then 0 else 1 end,
        pause_reason = null,
        pause_request = null
      from locked l
      where r.workflow_run_id = l.id and l.resumes
      returning 1
    ),
    logged as (${logControl(n, {
      verb: "resume",
      from: "locked x where x.resumes",
      reason: "$3::text",
    })}
    )
    select case when l.resumes then 'resumed' else 'not-paused' end as answer
    from locked l`
  return Effect.fnUntraced(function* (workflowRunId, reason = null) {
    if (!isUuid(workflowRunId)) return "unknown"
    const now = yield* database.now
    const rows = yield* database.write("resumeRun", statement, [now, workflowRunId, reason])
    return rows[0] === undefined ? "unknown" : (text(rows[0]["answer"]) as "resumed" | "not-paused")
  })
}

/** Explicit retry of a run that failed: its next attempt, from the position it settled with. */
export const retryRun = (
  database: Database,
): ((
  workflowRunId: string,
  reason?: string | null,
) => Effect.Effect<"retried" | "not-retryable" | "unknown", StoreError>) => {
  const n = database.names
  const statement = `
    with locked as materialized (
      select r.*
      from ${n.runs} r
      where r.workflow_run_id = $2::uuid
      for no key update of r
    ),
    eligible as materialized (
      select l.workflow_run_id,
        coalesce(l.failed_position, (
          select max(s.position) from ${n.steps} s
          where s.workflow_run_id = l.workflow_run_id and s.status = 'failed'
        )) as position,
        ${clock("$1")} as at
      from locked l
      where l.status in ('failed', 'dead_letter') and not l.compensating
        -- Another active run has the key by now. One that takes it at this very moment makes the
        -- update fail on the unique index, which is the same answer.
        and (l.concurrency_key is null or not exists (
          select 1 from ${n.runs} o
          where o.workflow = l.workflow and o.concurrency_key = l.concurrency_key
            and o.completed_at is null
        ))
    ),
    removed as (
      delete from ${n.steps} s
      using eligible e
      where s.workflow_run_id = e.workflow_run_id
        and (s.status = 'retrying' or (s.status = 'failed' and s.position >= e.position))
      returning s.workflow_run_id, s.step_key
    ),
    unfixed as (
      delete from ${n.timers} t
      using removed x
      where t.workflow_run_id = x.workflow_run_id and t.step_key = x.step_key
    ),
    carried as (
      update ${n.steps} s
      set carried = true
      from eligible e
      where s.workflow_run_id = e.workflow_run_id and s.status = 'completed'
        and s.position > e.position and not s.carried
    ),
    retried as (
      update ${n.runs} r
      set status = 'pending',
        attempt = r.attempt + 1,
        ready = true,
        due_at = e.at,
        completed_at = null,
        error = null,
        failed_position = null,
        cancel_requested_at = null,
        cancel_compensate = null,
        cancel_reason = null,
        crash_count = 0,
        crashed_by = '{}',
        deadline_at = e.at + ${interval("r.timeout_ms")}
      from eligible e
      where r.workflow_run_id = e.workflow_run_id
      returning r.workflow_run_id as id, e.at
    ),
    logged as (${logControl(n, { verb: "retry", from: "retried x", reason: "$3::text" })}
    )
    select case when exists (select 1 from retried) then 'retried' else 'not-retryable' end as answer
    from locked`
  return Effect.fnUntraced(function* (workflowRunId, reason = null) {
    if (!isUuid(workflowRunId)) return "unknown"
    const now = yield* database.now
    const rows = yield* database
      .write("retryRun", statement, [now, workflowRunId, reason])
      .pipe(
        Effect.catchTag("StoreRejected", (error) =>
          error.sqlState === "23505"
            ? Effect.succeed([{ answer: "not-retryable" }])
            : Effect.fail(error),
        ),
      )
    return rows[0] === undefined
      ? "unknown"
      : (text(rows[0]["answer"]) as "retried" | "not-retryable")
  })
}
