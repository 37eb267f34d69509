/**
 * The part of the journal's batch that moves runs: one folded row per run, one update.
 *
 * What a transition does to the row is decided in `folded` and `moved`, from the rows as the locks
 * yielded them; `changed` only assigns. A retry of the run also takes records away: what it would
 * take from this very batch is not written in the first place (`due_records`).
 *
 * @since 0.1.0
 */
import { payload } from "./batch.ts"
import type { Shape } from "./commitStatement.ts"
import type { Names } from "./names.ts"
import { at, interval } from "./rows.ts"

/** Where a retry of the run starts: the earliest failed record that goes. */
export const cutPart = (n: Names, shape: Shape): string => `
cut as materialized (
  select h.ord, h.run, coalesce(h.failed_position, greatest(
    (select max(s.position) from ${n.steps} s where s.workflow_run_id = h.run
      and s.status = 'failed')${
        shape.records
          ? `,
    (select max(x.position) from records x where x.ord = h.ord and x.status = 'failed'
      -- a final outcome that stands is not replaced: its copy is no later failure
      and not exists (
        select 1 from ${n.steps} s
        where s.workflow_run_id = x.run and s.step_key = x.key and s.status <> 'retrying'
      ))`
          : ""
      }
  )) as position
  from held h
  where h.kind = 'RetryRun'
)`

export const retryPart = (n: Names, shape: Shape): string => `
removed as (
  delete from ${n.steps} s
  using cut k
  where s.workflow_run_id = k.run
    and (s.status = 'retrying' or (s.status = 'failed' and s.position >= k.position))${
      shape.records
        ? `
    -- a backoff that becomes final in this statement is updated, not deleted: one row, one change
    and not exists (
      select 1 from due_records x where x.run = s.workflow_run_id and x.key = s.step_key
    )`
        : ""
    }
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
  from cut k
  where s.workflow_run_id = k.run and s.status = 'completed' and s.position > k.position
    and not s.carried
)`

/** What `changed` makes of a settlement that wakes nobody. */
export const settledPart = (n: Names): string => `
settled as (
  update ${n.runs} r
  set ${settlement({
    status: "h.status",
    at: "c.at",
    codec: "h.codec",
    result: "h.result",
    error: "h.error",
    failedPosition: "h.failed_position",
  })}
  from held h
  cross join clock c
  where r.workflow_run_id = h.run and h.kind is not null
)`

/** SQL: the assignments that settle run `r`, from these expressions. */
export const settlement = (by: {
  readonly status: string
  readonly at: string
  readonly codec: string
  readonly result: string
  readonly error: string
  readonly failedPosition: string
}): string => `status = ${by.status}, worker_id = null, due_at = null, ready = false,
    crash_count = 0, crashed_by = '{}', completed_at = ${by.at},
    result_codec = ${by.codec}, result = ${payload(by.codec, by.result)},
    -- of a compensating run the error that made it undo, unless there is another
    error = coalesce(${by.error}, case when r.compensating then r.error end),
    pause_reason = null, pause_request = null, failed_position = ${by.failedPosition}`

const releases = `('Park', 'HandBack', 'Settle', 'RetryRun', 'Pause')`

export const foldedPart = (n: Names): string => `
wakes as materialized (
  select h.parent_run_id as parent, count(*) as times
  from held h
  where h.kind = 'Settle' and h.parent_run_id is not null
  group by h.parent_run_id
),
folded as materialized (
  select h.run as workflow_run_id, h.was, h.compensating, h.deadline_at,
    h.wake_counter + coalesce(k.times, 0) as wake_counter,
    null::timestamptz as was_due, false as was_ready, h.cancel_requested_at,
    -- A holder that was asked to pause hands back; so does one that parks. What it leaves is paused.
    h.pause_request is not null and h.kind in ('Park', 'HandBack', 'RetryRun') as pausing,
    h.kind, h.status, h.due, h.delay, h.codec, h.result, h.error, h.failed_position,
    h.waits,
    -- Parking compares the counter, with the wakes of this very statement (no lost wake-up).
    h.kind = 'Park' and h.wake_counter + coalesce(k.times, 0) <> h.wakes as woken,
    false as parked, c.at
  from held h
  cross join clock c
  left join wakes k on k.parent = h.run
  where h.kind is not null
  union all
  select p.workflow_run_id, p.status, p.compensating, p.deadline_at,
    p.wake_counter + k.times,
    p.due_at, p.ready, p.cancel_requested_at, false,
    null, null, null, null, null, null, null, null, null,
    false,
    p.worker_id is null and p.status in ('sleeping', 'waiting', 'compensating'), c.at
  from parents p
  cross join clock c
  join wakes k on k.parent = p.workflow_run_id
  where p.completed_at is null
    and p.workflow_run_id not in (select h.run from held h where h.kind is not null)
),
moved as (
  select f.*,
    case
      when f.pausing then null
      when f.kind is null then case when f.parked then least(f.was_due, f.at) else f.was_due end
      when f.kind = 'HandBack' or f.woken then f.at
      when f.kind = 'Park' then least(
        ${at("f.due")}, f.at + ${interval("f.delay")},
        case when not f.compensating then f.deadline_at end
      )
      when f.kind = 'RetryRun' then case
        when f.cancel_requested_at is not null then f.at
        else least(f.at + ${interval("f.delay")}, f.deadline_at)
      end
    end as next_due
  from folded f
),
changed as (
  update ${n.runs} r
  set wake_counter = m.wake_counter,
    status = case
      when m.kind is null then case
        when m.parked and m.was <> 'compensating' then 'pending' else m.was end
      when m.kind = 'Settle' then m.status
      when m.kind = 'Pause' or m.pausing then 'paused'
      when m.kind = 'Compensate' or m.was = 'compensating' then 'compensating'
      when m.kind = 'Park' and not m.woken then m.status
      else 'pending'
    end,
    compensating = r.compensating or coalesce(m.kind = 'Compensate', false),
    worker_id = case when m.kind in ${releases} then null else r.worker_id end,
    due_at = m.next_due,
    ready = case
      when m.kind is null then m.was_ready or m.parked
      else coalesce(m.next_due <= m.at, false)
    end,
    crash_count = case when m.kind in ${releases} then 0 else r.crash_count end,
    crashed_by = case when m.kind in ${releases} then '{}' else r.crashed_by end,
    attempt = case when m.kind = 'RetryRun' then r.attempt + 1 else r.attempt end,
    completed_at = case when m.kind = 'Settle' then m.at else r.completed_at end,
    result_codec = case when m.kind = 'Settle' then m.codec else r.result_codec end,
    result = case when m.kind = 'Settle' then ${payload("m.codec", "m.result")} else r.result end,
    error = case
      when m.kind = 'Settle' then coalesce(m.error, case when r.compensating then r.error end)
      when m.kind = 'RetryRun' then m.error
      when m.kind = 'Compensate' and not r.compensating then m.error
      else r.error
    end,
    pause_reason = case
      when m.kind = 'Pause' then m.error
      when m.pausing then r.pause_request->'error'::text
      when m.kind = 'Settle' then null
      else r.pause_reason
    end,
    pause_request = case when m.kind in ${releases} then null else r.pause_request end,
    waits = case when m.kind = 'Park' then m.waits else r.waits end,
    failed_position = case when m.kind = 'Settle' then m.failed_position else r.failed_position end
  from moved m
  where r.workflow_run_id = m.workflow_run_id
    -- for the plan: the table is not read whole
    and r.workflow_run_id = any(array(select m.workflow_run_id from moved m))
)`
