/**
 * What operators ask of runs beyond cancel, resume and retry: terminate, pause, wake, reschedule.
 *
 * As in `requests.ts`, these statements wait for row locks and take them in ascending order of id.
 * What each decides, it decides from the rows as the locks yielded them. Timers and records of a run
 * are changed under the lock of its row, which every other writer of them holds as well.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { PauseAnswer, RescheduleAnswer, TerminateAnswer, WakeAnswer } from "../Control.ts"
import type { StoredError } from "../ErrorPayload.ts"
import type { StoreError } from "../WorkflowStore.ts"
import { batch, boundedMs, RawJson } from "./batch.ts"
import { logControl } from "./controlLog.ts"
import type { Database } from "./database.ts"
import type { Names } from "./names.ts"
import { at, clock, interval, text } from "./rows.ts"
import { isUuid, uuids } from "./uuids.ts"
import { wakeAssignments } from "./wakes.ts"

interface WithError {
  readonly workflowRunId: string
  readonly error: StoredError
  readonly reason: string | null
}

const asked = `asked as materialized (
    select * from json_to_recordset($2::json) as x(id uuid, error jsonb, reason text)
  )`

const askedBatch = (runs: ReadonlyArray<WithError>): string => {
  const first = new Map<string, WithError>()
  for (const run of runs) {
    const id = run.workflowRunId.toLowerCase()
    if (isUuid(id) && !first.has(id)) first.set(id, run)
  }
  return batch([...first], ([id, run]) => ({
    id,
    error: new RawJson(JSON.stringify(run.error)),
    reason: run.reason,
  }))
}

/** Answers by id, in the order asked; a run named twice is answered alike. */
const aligned = <A extends string>(
  ids: ReadonlyArray<string>,
  rows: ReadonlyArray<Readonly<Record<string, unknown>>>,
): ReadonlyArray<A | "unknown"> => {
  const answers = new Map(rows.map((row) => [text(row["id"]), text(row["answer"]) as A]))
  return ids.map((id) => answers.get(id.toLowerCase()) ?? "unknown")
}

/** Ends runs at once. */
export const terminateRuns = (
  database: Database,
): ((
  runs: ReadonlyArray<WithError>,
) => Effect.Effect<ReadonlyArray<TerminateAnswer>, StoreError>) => {
  const terminate = terminateStatement(database.names)
  const orphans = orphansStatement(database.names)
  return Effect.fnUntraced(function* (runs) {
    if (runs.length === 0) return []
    const ids = runs.map((run) => run.workflowRunId)
    const now = yield* database.now
    return yield* database.transaction(
      "terminateRuns",
      Effect.gen(function* () {
        const rows = yield* database.write("terminateRuns", terminate, [now, askedBatch(runs)])
        const ended = rows.filter((row) => row["answer"] === "terminated")
        // A statement of its own: a child that a commit inserted while the first one waited for that
        // commit's lock is not in the first one's snapshot.
        if (ended.length > 0) {
          const parents = ended.map((row) => text(row["id"]))
          yield* database.write("terminateRuns", orphans, [now, parents])
        }
        return aligned<TerminateAnswer>(ids, rows)
      }),
    )
  })
}

const terminateStatement = (n: Names): string => `
  with ${asked},
  locked as materialized (
    select r.workflow_run_id, r.parent_run_id, r.completed_at
    from ${n.runs} r
    where r.workflow_run_id = any(array(
      select id from asked
      -- ending wakes the parent
      union
      select c.parent_run_id from ${n.runs} c
      where c.workflow_run_id = any(array(select id from asked)) and c.parent_run_id is not null
    ))
    order by r.workflow_run_id
    for no key update of r
  ),
  verdict as materialized (
    select x.id, x.error, x.reason, l.parent_run_id, ${clock("$1")} as at,
      case when l.completed_at is null then 'terminated' else 'terminal' end as answer
    from asked x
    join locked l on l.workflow_run_id = x.id
  ),
  terminated as (
    update ${n.runs} r
    set status = 'cancelled',
      -- a fresh token, where somebody holds the old one: his next write must be lost, not applied
      claim_token = r.claim_token + case when r.worker_id is null then 0 else 1 end,
      worker_id = null,
      ready = false,
      due_at = null,
      completed_at = v.at,
      error = v.error || case when r.error is null then '{}'::jsonb
        else pg_catalog.jsonb_build_object('cause', r.error) end,
      failed_position = null,
      pause_reason = null,
      pause_request = null,
      crash_count = 0,
      crashed_by = '{}'
    from verdict v
    where r.workflow_run_id = v.id and v.answer = 'terminated'
    returning 1
  ),
  wakes as materialized (
    select v.parent_run_id as parent, count(*) as times
    from verdict v
    where v.answer = 'terminated'
      and v.parent_run_id not in (select id from verdict where answer = 'terminated')
    group by v.parent_run_id
  ),
  woken as (
    update ${n.runs} p
    set ${wakeAssignments("p", "k.times", clock("$1"))}
    from wakes k
    join locked l on l.workflow_run_id = k.parent
    where p.workflow_run_id = l.workflow_run_id and p.completed_at is null
    returning 1
  ),
  logged as (${logControl(n, {
    verb: "terminate",
    from: "verdict x where x.answer = 'terminated'",
    reason: "x.reason",
  })}
  )
  select v.id::text as id, v.answer from verdict v`

const orphanReason = "its parent was terminated"

/** Asks the children of runs that have ended to cancel; ends those that never started. */
export const orphansStatement = (
  n: Names,
  reason = orphanReason,
  ifLocked: "wait" | "skip locked" = "wait",
): string => `
  with locked as materialized (
    select r.workflow_run_id as id, r.started_at, r.worker_id, ${clock("$1")} as at
    from ${n.runs} r
    where r.parent_run_id = any($2::uuid[]) and r.completed_at is null and not r.compensating
      and not r.outlives_parent
    order by r.workflow_run_id
    for no key update of r${ifLocked === "wait" ? "" : " skip locked"}
  ),
  requested as (
    update ${n.runs} r
    set wake_counter = r.wake_counter + case when l.started_at is null then 0 else 1 end,
      cancel_reason = case when r.cancel_requested_at is null
        then '${reason}' else r.cancel_reason end,
      cancel_requested_at = coalesce(r.cancel_requested_at, l.at),
      pause_request = null,
      status = case
        when l.started_at is null then 'cancelled'
        when l.worker_id is null then 'pending'
        else r.status
      end,
      ready = l.started_at is not null and l.worker_id is null,
      due_at = case when l.started_at is not null and l.worker_id is null
        then least(r.due_at, l.at) end,
      pause_reason = case when l.worker_id is null then null else r.pause_reason end,
      completed_at = case when l.started_at is null then l.at end
    from locked l
    where r.workflow_run_id = l.id
    returning 1
  )${logControl(n, { verb: "cancel", from: "locked x", reason: `'${reason}'` })}`

/** Pauses unclaimed runs; asks the holders of claimed ones. */
export const pauseRuns = (
  database: Database,
): ((runs: ReadonlyArray<WithError>) => Effect.Effect<ReadonlyArray<PauseAnswer>, StoreError>) => {
  const n = database.names
  const statement = `
    with ${asked},
    locked as materialized (
      select r.*
      from ${n.runs} r
      where r.workflow_run_id = any(array(select id from asked))
      order by r.workflow_run_id
      for no key update of r
    ),
    verdict as materialized (
      select x.id, x.error, x.reason, ${clock("$1")} as at,
        case
          when l.completed_at is not null then 'terminal'
          when l.status = 'paused' then 'paused'
          when l.cancel_requested_at is not null then 'cancelling'
          when l.worker_id is null then 'paused'
          else 'requested'
        end as answer,
        l.completed_at is null and l.status <> 'paused' and l.cancel_requested_at is null
          -- the first request stands
          and (l.worker_id is null or l.pause_request is null) as changes
      from asked x
      join locked l on l.workflow_run_id = x.id
    ),
    changed as (
      update ${n.runs} r
      set status = case when v.answer = 'paused' then 'paused' else r.status end,
        ready = r.ready and v.answer <> 'paused',
        due_at = case when v.answer = 'paused' then null else r.due_at end,
        pause_reason = case when v.answer = 'paused' then v.error else r.pause_reason end,
        pause_request = case when v.answer = 'requested'
          then pg_catalog.jsonb_build_object('reason', v.reason, 'error', v.error) end,
        -- a holder that is about to park must look again
        wake_counter = r.wake_counter + case when v.answer = 'requested' then 1 else 0 end
      from verdict v
      where r.workflow_run_id = v.id and v.changes
      returning 1
    ),
    logged as (${logControl(n, { verb: "pause", from: "verdict x where x.changes", reason: "x.reason" })}
    )
    select v.id::text as id, v.answer from verdict v`
  return Effect.fnUntraced(function* (runs) {
    if (runs.length === 0) return []
    const rows = yield* database.write("pauseRuns", statement, [
      yield* database.now,
      askedBatch(runs),
    ])
    const ids = runs.map((run) => run.workflowRunId)
    return aligned<PauseAnswer>(ids, rows)
  })
}

/** The runs of `$2`, locked, at the instant of `$1`. */
const lockedAt = (n: Names): string => `locked as materialized (
      select r.workflow_run_id as id, r.completed_at, r.status, r.worker_id, r.started_at,
        ${clock("$1")} as at
      from ${n.runs} r
      where r.workflow_run_id = any($2::uuid[])
      order by r.workflow_run_id
      for no key update of r
    )`

/** Of a timer `t`: a sleep, or a wait for an event, that has not ended. */
const isOpenWait = (n: Names): string => `not exists (
          -- what has ended, ended when it did
          select 1 from ${n.steps} s
          where s.workflow_run_id = t.workflow_run_id and s.step_key = t.step_key
            and (s.status <> 'retrying'
              -- beside a step under way it is the step's deadline
              or s.kind not in ('sleep', 'event'))
        )`

/** Wakes runs; with `endSleeps` their timers and backoffs are due now. */
export const wakeRuns = (
  database: Database,
): ((options: {
  readonly workflowRunIds: ReadonlyArray<string>
  readonly endSleeps: boolean
  readonly reason: string | null
}) => Effect.Effect<ReadonlyArray<WakeAnswer>, StoreError>) => {
  const n = database.names
  const statement = (endSleeps: boolean): string => `
    with ${lockedAt(n)},
    awake as materialized (
      select l.*, ${
        // between two attempts, or after a crash
        endSleeps
          ? "l.status = 'pending' and l.started_at is not null and l.worker_id is null"
          : "false"
      } as backs_off
      from locked l
      where l.completed_at is null
    ),
    ${
      endSleeps
        ? `timers as (
      update ${n.timers} t
      set wake_at = a.at
      from awake a
      where t.workflow_run_id = a.id and t.wake_at > a.at
        and ${isOpenWait(n)}
    ),
    backoffs as (
      update ${n.steps} s
      set retry_at = a.at
      from awake a
      where s.workflow_run_id = a.id and s.status = 'retrying' and s.retry_at > a.at
    ),
    logged as (${logControl(n, { verb: "wake", from: "awake x", reason: "$3::text" })}
    ),`
        : ""
    }
    woken as (
      update ${n.runs} r
      set wake_counter = r.wake_counter + 1,
        status = case when a.worker_id is null and a.status in ('sleeping', 'waiting')
          then 'pending' else r.status end,
        ready = r.ready or a.backs_off or (a.worker_id is null
          and a.status in ('sleeping', 'waiting', 'compensating')),
        due_at = case
          when a.backs_off or (a.worker_id is null
            and a.status in ('sleeping', 'waiting', 'compensating')) then least(r.due_at, a.at)
          else r.due_at
        end
      from awake a
      where r.workflow_run_id = a.id
      returning 1
    )
    select l.id::text as id,
      case when l.completed_at is null then 'woken' else 'terminal' end as answer
    from locked l`
  const plain = statement(false)
  const ending = statement(true)
  return Effect.fnUntraced(function* ({ workflowRunIds, endSleeps, reason }) {
    const known = uuids(workflowRunIds)
    if (known.length === 0) return workflowRunIds.map(() => "unknown")
    const now = yield* database.now
    const rows = endSleeps
      ? yield* database.write("wakeRuns", ending, [now, known, reason])
      : yield* database.write("wakeRuns", plain, [now, known])
    return aligned<WakeAnswer>(workflowRunIds, rows)
  })
}

/** Another due time, of runs that have not started or of an open sleep. */
export const rescheduleRuns = (
  database: Database,
): ((options: {
  readonly workflowRunIds: ReadonlyArray<string>
  readonly at: number
  readonly sleep: string | null
  readonly reason: string | null
}) => Effect.Effect<ReadonlyArray<RescheduleAnswer>, StoreError>) => {
  const n = database.names
  const statement = `
    with ${lockedAt(n)},
    sleeps as materialized (
      select t.workflow_run_id as id, t.step_key, count(*) over (partition by t.workflow_run_id) as n
      from ${n.timers} t
      join locked l on l.id = t.workflow_run_id
      where l.completed_at is null and ($4::text is null or t.step_key = $4::text)
        and ${isOpenWait(n)}
    ),
    verdict as materialized (
      select l.*, s.step_key,
        case
          when l.completed_at is not null then 'terminal'
          when l.started_at is null and $4::text is null then 'rescheduled'
          when s.n is null then 'no-sleep'
          when s.n > 1 then 'ambiguous'
          else 'rescheduled'
        end as answer
      from locked l
      left join (select distinct on (id) * from sleeps order by id) s on s.id = l.id
    ),
    timers as (
      update ${n.timers} t
      set wake_at = ${at("$3")}
      from verdict v
      where t.workflow_run_id = v.id and t.step_key = v.step_key and v.answer = 'rescheduled'
    ),
    moved as (
      update ${n.runs} r
      set scheduled_for = case when v.started_at is null then ${at("$3")} else r.scheduled_for end,
        deadline_at = case when v.started_at is null
          then greatest(r.created_at, ${at("$3")}) + ${interval("r.timeout_ms")}
          else r.deadline_at end,
        wake_counter = r.wake_counter + case when v.started_at is null then 0 else 1 end,
        status = case when v.worker_id is null and v.status in ('sleeping', 'waiting')
          then 'pending' else r.status end,
        ready = case
          when v.started_at is null then v.status = 'pending' and ${at("$3")} <= v.at
          else r.ready or (v.worker_id is null
            and v.status in ('sleeping', 'waiting', 'compensating'))
        end,
        due_at = case
          when v.started_at is null then
            case when v.status = 'pending' then greatest(${at("$3")}, v.at) end
          when v.worker_id is null and v.status in ('sleeping', 'waiting', 'compensating')
            then least(r.due_at, v.at)
          else r.due_at
        end
      from verdict v
      where r.workflow_run_id = v.id and v.answer = 'rescheduled'
      returning 1
    ),
    logged as (${logControl(n, {
      verb: "reschedule",
      from: "verdict x where x.answer = 'rescheduled'",
      reason: "$5::text",
      detail: `jsonb_strip_nulls(pg_catalog.jsonb_build_object('at', $3::float8::int8, 'sleep', x.step_key))`,
    })}
    )
    select v.id::text as id, v.answer from verdict v`
  return Effect.fnUntraced(function* ({ workflowRunIds, at: time, sleep, reason }) {
    const known = uuids(workflowRunIds)
    if (known.length === 0) return workflowRunIds.map(() => "unknown")
    const now = yield* database.now
    const parameters = [now, known, String(boundedMs(time)), sleep, reason]
    const rows = yield* database.write("rescheduleRuns", statement, parameters)
    return aligned<RescheduleAnswer>(workflowRunIds, rows)
  })
}
