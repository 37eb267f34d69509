/**
 * An operator's word on undos: tried again, or skipped. Like every request it takes no claim; unlike
 * the others it writes records, and so it is for runs that nobody holds.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { StoreError, WorkflowStore } from "../WorkflowStore.ts"
import type { Database } from "./database.ts"
import { clock, text } from "./rows.ts"
import { isUuid } from "./uuids.ts"

type Revise = WorkflowStore["Service"]["reviseCompensation"]
type Answer = Effect.Success<ReturnType<Revise>>

export const reviseCompensation = (database: Database): Revise => {
  const n = database.names
  const statement = `
    with locked as materialized (
      select r.workflow_run_id, r.workflow, r.status, r.concurrency_key, r.completed_at,
        -- under this lock nobody claims the run, and so nobody writes its records
        r.compensating and r.worker_id is null and (
          r.status in ('failed', 'dead_letter')
          or ($4::text = 'skip' and r.status in ('paused', 'compensating'))
        ) as revisable
      from ${n.runs} r
      where r.workflow_run_id = $2::uuid
      for no key update of r
    ),
    meant as materialized (
      select l.workflow_run_id, s.step_key
      from locked l
      join ${n.steps} s on s.workflow_run_id = l.workflow_run_id
      where l.revisable
        and ($3::text is not null or l.completed_at is not null)
        and ($3::text is null or s.step_key = $3::text)
        -- of a run that failed all undos have ended; of others, also those that have not
        and case when l.status = 'failed' then s.compensation_status = 'failed'
          else s.has_compensate
            and (s.compensation_status is null or s.compensation_status in ('failed', 'retrying'))
        end
        and (l.completed_at is null or l.concurrency_key is null or not exists (
          select 1 from ${n.runs} o
          where o.workflow = l.workflow and o.concurrency_key = l.concurrency_key
            and o.completed_at is null
        ))
    ),
    revised as (
      update ${n.steps} s
      set compensation_status = case when $4::text = 'skip' then 'skipped' else 'retrying' end,
        compensation_attempts = case when $4::text = 'skip'
          then coalesce(s.compensation_attempts, 0) else 0 end,
        compensation_retry_at = null
      from meant m
      where s.workflow_run_id = m.workflow_run_id and s.step_key = m.step_key
      returning 1
    ),
    released as (
      update ${n.runs} r
      set status = 'compensating',
        ready = true,
        due_at = ${clock("$1")},
        completed_at = null,
        pause_reason = null,
        crash_count = 0,
        crashed_by = '{}'
      from locked l
      where r.workflow_run_id = l.workflow_run_id and exists (select 1 from meant)
      returning 1
    )
    select case
        when exists (select 1 from released) then 'revised'
        when not l.revisable then 'refused'
        when $3::text is null and l.completed_at is null then 'which'
        when l.completed_at is not null and l.concurrency_key is not null and exists (
          select 1 from ${n.runs} o
          where o.workflow = l.workflow and o.concurrency_key = l.concurrency_key
            and o.completed_at is null
        ) then 'refused'
        else 'nothing'
      end as answer
    from locked l`
  return Effect.fnUntraced(function* ({
    workflowRunId,
    stepKey,
    verb,
  }): Effect.fn.Return<Answer, StoreError> {
    if (!isUuid(workflowRunId)) return "unknown"
    const now = yield* database.now
    const rows = yield* database
      .write("reviseCompensation", statement, [now, workflowRunId, stepKey, verb])
      .pipe(
        // another run has taken the concurrency key at this very moment
        Effect.catchTag("StoreRejected", (error) =>
          error.sqlState === "23505" ? Effect.succeed([{ answer: "refused" }]) : Effect.fail(error),
        ),
      )
    return rows[0] === undefined ? "unknown" : (text(rows[0]["answer"]) as Answer)
  })
}
