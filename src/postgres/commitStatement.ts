/**
 * The journal's batch as one statement: the fence, then everything that hangs on it.
 *
 * - `fenced` is the fence: `for no key update … skip locked` over the batch's runs, joined with their
 *   tokens; `parents` are the rows of the runs that settling ones wake, locked alike. `skip locked`, so
 *   that a user's open transaction on one run stalls no other, and there is nothing to deadlock. Not
 *   `for key share`: it does not exclude another claim's write.
 * - **Everything that writes hangs on `held`**, which hangs on the locks. A writer that did not could
 *   run before a lock was skipped, and complete a run whose last step was never written.
 * - **Exactly one `update` of the runs, one row per run** (`folded`): two data-modifying CTEs that
 *   touch one row apply one of the two, silently. A parent that parks while its child settles in the
 *   same batch is the common case: it is folded to "due now".
 * - A batch that changes no run row (records only) updates none: the lock is all.
 *
 * Plans. The text is assembled from the parts that a batch uses (CTEs that scan nothing still cost
 * start-up). All CTEs are MATERIALIZED. The token is compared inside a CASE: as a join clause it is
 * estimated at 1/200, everything after it at one row, and Postgres joins batch × batch by nested loops.
 * Counts are scalars, for the same reason. The runs are found through their primary key by a lateral
 * lookup and an array: a join made Postgres read the whole table for each batch while it was below
 * some ten thousand rows (0.36 instead of 0.20 ms on the server per run of three steps, with 8,000
 * runs in the table). Measurements: `commit.ts`.
 *
 * @since 0.1.0
 */
import { publishPart } from "./attributes.ts"
import { payload } from "./batch.ts"
import { besideRecord, recordColumns, recordMore, writesOf } from "./commitRows.ts"
import type { Names } from "./names.ts"
import { newRunColumns, newRuns, newRunValues } from "./newRuns.ts"
import { cutPart, foldedPart, retryPart, settledPart } from "./commitTransitions.ts"
import { at, clock, interval, ms, msUp, signals } from "./rows.ts"

/** What a batch contains; each shape is one prepared statement. */
export interface Shape {
  readonly records: boolean
  readonly transitions: boolean
  /** Timers, children, emitted events or compensations. */
  readonly extras: boolean
  /** A `RetryRun` among the transitions. */
  readonly retry: boolean
  /** Waits for the runs' locks: in a transaction that would else have to be done again. */
  readonly wait?: boolean
  /** Attributes or status texts. */
  readonly attributes: boolean
  /** Records that may be the end of a sleep, or of a wait for an event. */
  readonly timed: boolean
  /**
   * No write has more than one record, nothing is timed, and there is nothing rare: the usual batch. A
   * record stands beside its write, in one row, and nothing is joined.
   */
  readonly single: boolean
  /** A single write: its values are the parameters, not arrays of one. */
  readonly alone: boolean
  /**
   * Every record is `isPlain`: it is inserted without a conflict clause, and if something stands all the
   * same, the statement fails as a whole. (Postgres 18, 250 records: 6.6 instead of 7.8 ms; what is
   * saved is the speculative insertion, so `do nothing` would cost as much as the full clause.)
   */
  readonly plain: boolean
  /**
   * Every transition is a `Settle` said to have no parent: nothing is folded. One that has a parent all
   * the same is not held, so it is not applied.
   */
  readonly settles: boolean
}

/** Parameters: $1 now, the columns of the writes, then those of the shape, in this order. */
export const positionsOf = (shape: Shape) => {
  let next = 2
  const take = (size: number) => (next += size) - size
  const one = (used: boolean) => (used ? `$${take(1)}` : "")
  return {
    writes: take(writesOf(shape).size),
    records: joined(shape) ? take(recordColumns.size) : 0,
    timers: one(shape.extras),
    children: shape.extras ? take(newRuns.size) : 0,
    emitted: one(shape.extras),
    undos: one(shape.extras),
    attributes: one(shape.attributes),
  }
}

/** Records that are rows of their own. */
const joined = (shape: Shape): boolean => shape.records && !shape.single

/** Runs may have to be woken, or parked: their rows are folded. */
const folds = (shape: Shape): boolean => shape.transitions && !shape.settles

type Positions = ReturnType<typeof positionsOf>

export const commitStatement = (n: Names, shape: Shape): string => {
  const p = positionsOf(shape)
  const parts = [
    clockPart,
    writesPart(p, shape),
    fencedPart(n, shape),
    ...(folds(shape) ? [parentsPart(n), heldPart(n)] : []),
    ...(shape.extras ? [timersPart(n, p)] : []),
    ...(joined(shape) ? [recordsPart(n, p, shape)] : []),
    ...(shape.retry ? [cutPart(n, shape)] : []),
    ...(joined(shape) ? [duePart(shape)] : []),
    ...(shape.records ? [shape.plain ? insertedPart(n) : writtenPart(n, shape)] : []),
    ...(shape.retry ? [retryPart(n, shape)] : []),
    ...(shape.extras ? [extrasPart(n, p, shape)] : []),
    ...(shape.attributes ? [publishPart(n, p.attributes)] : []),
    ...(folds(shape) ? [foldedPart(n)] : []),
    ...(shape.settles ? [settledPart(n)] : []),
  ]
  return `with ${parts.join(",\n")}\n${answerPart(n, shape)}`
}

const clockPart = `
clock as materialized (
  select ${clock("$1")} as at
)`

const writesPart = (p: Positions, shape: Shape): string => `
writes as materialized (
  select x.*${shape.transitions ? "" : ", null::text as kind"}
  from ${shape.alone ? writesOf(shape).row("x", p.writes) : writesOf(shape).rows("x", p.writes)}
)`

const fencedPart = (n: Names, shape: Shape): string => `
${folds(shape) ? "fenced" : "held"} as materialized (
  select w.*, r.status as was, r.compensating, r.wake_counter, r.deadline_at,
    r.cancel_requested_at, r.cancel_compensate, r.cancel_reason, r.pause_request, r.parent_run_id
  from writes w
  -- One look into the primary key for each write, whatever the planner thinks of the batch.
  cross join lateral (
    select r.*
    from ${n.runs} r
    where r.workflow_run_id = w.run
      -- Still claimed, and by this very claim: checked on the newest version of the row, as the
      -- lock yields it (I3).
      and case when r.claim_token = w.token then r.worker_id is not null else false end${
        shape.settles ? "\n      and (w.kind is null or r.parent_run_id is null)" : ""
      }
    -- the fence: under this lock no other claim, sweep or release can come between
    for no key update${shape.wait ? "" : " skip locked"}
  ) r
)`

const parentsPart = (n: Names): string => `
parents as materialized (
  select p.workflow_run_id, p.status, p.compensating, p.deadline_at, p.wake_counter, p.due_at,
    p.ready, p.worker_id, p.completed_at, p.cancel_requested_at
  from ${n.runs} p
  where p.workflow_run_id in (select f.parent_run_id from fenced f where f.kind = 'Settle')
  for no key update of p skip locked
)`

const heldPart = (n: Names): string => `
held as materialized (
  select f.*
  from fenced f
  -- A settlement wakes its parent in the same commit. A parent that is locked elsewhere: not now.
  where f.kind is distinct from 'Settle'
    or f.parent_run_id is null
    or f.parent_run_id in (select p.workflow_run_id from parents p)
    or (select p.workflow_run_id from ${n.runs} p
      where p.workflow_run_id = f.parent_run_id) is null
)`

const timersPart = (n: Names, p: Positions): string => `
timers as materialized (
  select h.run, x.key,
    case when x.at is null then c.at + ${interval("x.delay")} else ${at("x.at")} end as wake_at
  from json_to_recordset(${p.timers}::json) as x(ord int, key text, delay float8, at float8)
  join held h on h.ord = x.ord
  cross join clock c
),
fixed as (
  insert into ${n.timers} (workflow_run_id, step_key, wake_at, created_at)
  select t.run, t.key, t.wake_at, c.at from timers t cross join clock c
  -- the first to reach a sleep fixes its end
  on conflict (workflow_run_id, step_key) do nothing
  returning workflow_run_id, step_key, wake_at
)`

const recordsPart = (n: Names, p: Positions, shape: Shape): string => `
records as materialized (
  select h.run, h.token, h.kind as transition, x.*, ${recordMore("x")},
    ${shape.timed ? endOfWait(n, shape) : "null::timestamptz"} as wake_at
  from ${recordColumns.rows("x", p.records)}
  join held h on h.ord = x.ord
)`

/**
 * The end of a sleep, or of a wait for an event in vain, counts only when it has come, by this clock:
 * what the contract calls endsByTimer.
 */
const endOfWait = (n: Names, shape: Shape): string => `
    case when (x.kind = 'sleep' and x.status <> 'retrying')
      or (x.kind = 'event' and x.more->>'event'::text is null and x.status = 'completed') then coalesce(
      (select t.wake_at from ${n.timers} t where t.workflow_run_id = h.run and t.step_key = x.key),
      ${
        shape.extras
          ? "(select f.wake_at from fixed f where f.workflow_run_id = h.run and f.step_key = x.key),"
          : ""
      }
      'infinity'
    ) end`

const duePart = (shape: Shape): string => `
due_records as materialized (
  select x.*, ${
    shape.retry ? "coalesce(x.status = 'completed' and x.position > k.position, false)" : "false"
  } as carried
  from records x
  cross join clock c${shape.retry ? "\n  left join cut k on k.ord = x.ord" : ""}
  where (x.wake_at is null or x.wake_at <= c.at)${
    shape.retry
      ? `
    -- what this very transition would remove is not written first: one statement sees one snapshot
    and (x.transition is distinct from 'RetryRun' or x.status = 'completed'
      or (x.status = 'failed' and x.position < k.position))`
      : ""
  }
)`

/** The columns that an outcome has from the beginning; the others have their defaults. */
export const plainColumns = `workflow_run_id, step_key, name, kind, position, issued_after, status,
    attempts, has_compensate, claim_token, result_codec, result, started_at, completed_at`

const insertedPart = (n: Names): string => `
written as (
  insert into ${n.steps} (${plainColumns})
  select h.run, h.s_key, h.s_name, h.s_kind, h.s_position, h.s_issued_after, h.s_status, h.s_attempts,
    h.s_has_compensate, h.token, h.s_codec, ${payload("h.s_codec", "h.s_result")},
    c.at - ${interval("h.s_elapsed")}, c.at
  from held h
  cross join clock c
  where h.s_key is not null
  returning 1
)`

const writtenPart = (n: Names, shape: Shape): string => `
written as (
  insert into ${n.steps} as s (
    workflow_run_id, step_key, name, kind, position, issued_after, status, attempts,
    has_compensate, carried,
    claim_token, event_id, result_codec, result, error, started_at, completed_at, retry_at,
    revision, heartbeat_codec, heartbeat, compensation_status, compensation_attempts, compensation_error, compensation_retry_at,
    compensation_token
  )
  select x.run, x.key, x.name, x.kind, x.position, x.issued_after, x.status, x.attempts,
    x.has_compensate, x.carried, x.token, x.event, x.codec, ${payload("x.codec", "x.result")}, x.error,
    c.at - ${interval("x.elapsed")},
    case when x.status <> 'retrying' then c.at end,
    case when x.status = 'retrying' then c.at + ${interval("x.retry")} end,
    x.revision, x.beat_codec, ${payload("x.beat_codec", "x.beat")},
    x.undo_status, x.undo_attempts, x.undo_error, c.at + ${interval("x.undo_retry")},
    case when x.undo_status is not null then x.token end
  from ${
    shape.single
      ? `(select ${besideRecord("h")} from held h where h.s_key is not null) x`
      : "due_records x"
  } cross join clock c
  -- A final outcome never changes (I4), also when the same rows are sent again; a backoff gives way
  -- to a final outcome, or to a later backoff or note.
  on conflict (workflow_run_id, step_key) do update set
    name = excluded.name, kind = excluded.kind, position = excluded.position,
    issued_after = excluded.issued_after, status = excluded.status, attempts = excluded.attempts,
    has_compensate = excluded.has_compensate, carried = excluded.carried,
    claim_token = excluded.claim_token, event_id = excluded.event_id,
    result_codec = excluded.result_codec, result = excluded.result, error = excluded.error,
    started_at = excluded.started_at, completed_at = excluded.completed_at,
    retry_at = excluded.retry_at, revision = excluded.revision,
    -- a record without a heartbeat keeps the one that stands
    heartbeat_codec = coalesce(excluded.heartbeat_codec, s.heartbeat_codec),
    heartbeat = case when excluded.heartbeat_codec is null then s.heartbeat
      else excluded.heartbeat end,
    compensation_status = excluded.compensation_status,
    compensation_attempts = excluded.compensation_attempts,
    compensation_error = excluded.compensation_error,
    compensation_retry_at = excluded.compensation_retry_at,
    compensation_token = excluded.compensation_token
  where s.status = 'retrying'
    and (excluded.status <> 'retrying'
      or (excluded.attempts, excluded.revision) > (s.attempts, s.revision))
  returning s.workflow_run_id, s.step_key
)`

const extrasPart = (n: Names, p: Positions, shape: Shape): string => `
born as (
  insert into ${n.runs} (${newRunColumns})
  select ${newRunValues("x", "c.at", "null::uuid")}
  from ${newRuns.rows("x", p.children)}
  join held h on h.ord = x.owner
  cross join clock c
  -- made in this order: of equals, the one that was inserted first is claimed first
  order by x.id
  -- Only the parent's step: a clash of any other key must be seen, not passed over.
  on conflict (parent_run_id, parent_step_key, parent_attempt) where parent_run_id is not null
    do nothing
  returning parent_run_id, parent_step_key, workflow_run_id
),
emitted as (
  insert into ${n.events}
    (workflow_run_id, direction, name, payload_codec, payload, sender_id, created_at)
  select h.run, 'emitted', x.name, x.codec, ${payload("x.codec", "x.payload")}, x.key, c.at
  from json_to_recordset(${p.emitted}::json) as x(
    ord int, place int, key text, name text, codec text, payload jsonb
  )
  join held h on h.ord = x.ord
  ${
    shape.records
      ? `-- Beside a record that was written just now: the same rows sent again emit nothing.
  join written r on r.workflow_run_id = h.run and r.step_key = x.key`
      : "join held never on false"
  }
  cross join clock c
  order by x.ord, x.place
),
undone as (
  update ${n.steps} s
  set compensation_status = x.status,
    compensation_attempts = x.attempts,
    compensation_error = x.error,
    compensation_retry_at = c.at + ${interval("x.retry")},
    compensation_token = h.token
  from json_to_recordset(${p.undos}::json) as x(
    ord int, key text, status text, attempts int, error jsonb, retry float8
  )
  join held h on h.ord = x.ord
  cross join clock c
  where s.workflow_run_id = h.run and s.step_key = x.key
    and (s.compensation_status is null
      or (s.compensation_status = 'retrying'
        and (x.status <> 'retrying' or x.attempts > s.compensation_attempts)))
)`

const answerPart = (n: Names, shape: Shape): string => {
  const others = shape.extras || shape.timed
  const answers = [
    `select h.ord, ${
      folds(shape) ? "coalesce(f.wake_counter, h.wake_counter)" : "h.wake_counter"
    } as wake_counter,
  ${signals("h", "c.at", "h.kind is distinct from 'Compensate'")} as signals,
  ${ms("c.at")} as at,
  ${
    // Not per run: a join of two such CTEs is a nested loop, and the usual answer is "all of them".
    shape.records
      ? `((select count(*) from ${shape.single ? "held where s_key is not null" : "due_records"}) = (select count(*) from written))`
      : "true"
  } as whole${others ? ", null as tag, null as key, null as value" : ""}
from held h
cross join clock c${folds(shape) ? "\nleft join folded f on f.workflow_run_id = h.run" : ""}`,
  ]
  if (shape.timed) {
    answers.push(
      line(
        "early",
        "h.key",
        `case when isfinite(h.wake_at) then ${msUp("h.wake_at")} end::text`,
        // what stands as ended has ended when it did
        `records h cross join clock c where h.wake_at > c.at and not exists (
  select 1 from ${n.steps} s
  where s.workflow_run_id = h.run and s.step_key = h.key and s.status <> 'retrying'
)`,
      ),
    )
  }
  if (shape.extras) {
    answers.push(
      line(
        "timer",
        "f.step_key",
        `${msUp("f.wake_at")}::text`,
        "fixed f join held h on h.run = f.workflow_run_id",
      ),
      line(
        "child",
        "b.parent_step_key",
        "b.workflow_run_id::text",
        "born b join held h on h.run = b.parent_run_id",
      ),
    )
  }
  return answers.join("\nunion all\n")
}

/** One line about a part of a write. */
const line = (tag: string, key: string, value: string, from: string) =>
  `select h.ord, null, null, null, null, '${tag}', ${key}, ${value}
from ${from}`
