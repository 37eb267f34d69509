/**
 * Forks: a new run whose history is the beginning of another's.
 *
 * One statement, one snapshot: the copy is a prefix of what the origin had recorded at one instant,
 * for the origin's holder commits its records in order. The origin's row is not even locked.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { ForkAnswer, ForkPoint } from "../Control.ts"
import type { Encoded } from "../Payload.ts"
import type { StoreError } from "../WorkflowStore.ts"
import { batch, payload, RawJson } from "./batch.ts"
import { logControl } from "./controlLog.ts"
import type { Database } from "./database.ts"
import type { Names } from "./names.ts"
import { clock, int, interval, text } from "./rows.ts"
import { isUuid } from "./uuids.ts"

interface Fork {
  readonly workflowRunId: string
  readonly from: ForkPoint
  readonly newRunId: string
  readonly input: Encoded | null
  readonly reason: string | null
}

// beyond every position
const everything = 2_147_483_647

const stepOf = (from: ForkPoint) => (from !== null && "stepKey" in from ? from.stepKey : null)

const positionOf = (from: ForkPoint) => {
  if (from === null) return everything
  return "position" in from ? Math.min(Math.max(Math.ceil(from.position), 0), everything) : null
}

export const forkRuns = (
  database: Database,
): ((forks: ReadonlyArray<Fork>) => Effect.Effect<ReadonlyArray<ForkAnswer>, StoreError>) => {
  const statement = forkStatement(database.names)
  return Effect.fnUntraced(function* (forks) {
    const known = forks.flatMap((fork, place) =>
      isUuid(fork.workflowRunId) ? [{ fork, place }] : [],
    )
    if (known.length === 0) return forks.map(() => "unknown")
    const rows = yield* database.write("forkRuns", statement, [
      yield* database.now,
      batch(known, ({ fork, place }) => ({
        place,
        origin: fork.workflowRunId,
        id: fork.newRunId,
        step: stepOf(fork.from),
        position: positionOf(fork.from),
        point: fork.from !== null && "position" in fork.from ? fork.from.position : null,
        codec: fork.input?.codec,
        input: fork.input === null ? null : new RawJson(fork.input.json),
        reason: fork.reason,
      })),
    ])
    const answers = new Map(rows.map((row) => [int(row["place"]), text(row["answer"])]))
    return forks.map((_, place) => (answers.get(place) ?? "unknown") as ForkAnswer)
  })
}

const forkStatement = (n: Names): string => `
  with asked as materialized (
    select * from json_to_recordset($2::json) as x(
      place int, origin uuid, id uuid, step text, position int, point float8, codec text, input jsonb,
      reason text
    )
  ),
  placed as materialized (
    select x.place, x.origin, x.id, x.step, x.point, x.reason, x.codec, x.input, ${clock("$1")} as at,
      coalesce(x.position, (
        select s.position from ${n.steps} s
        where s.workflow_run_id = x.origin and s.step_key = x.step
      )) as before
    from asked x
  ),
  born as (
    insert into ${n.runs} (workflow_run_id, workflow, version, status, priority, ready, due_at,
      -- woken once: the first claim of it reads its history
      wake_counter,
      -- the dice of the origin: what was copied replays by them
      seed, max_attempts, timeout_ms, deadline_at, input_codec, input, created_at)
    select p.id, o.workflow, o.version, 'pending', o.priority, true, p.at, 1,
      coalesce(o.seed, o.workflow_run_id), o.max_attempts, o.timeout_ms, p.at + ${interval("o.timeout_ms")},
      coalesce(p.codec, o.input_codec),
      case when p.codec is null then o.input else ${payload("p.codec", "p.input")} end, p.at
    from placed p
    join ${n.runs} o on o.workflow_run_id = p.origin
    where p.before is not null
    -- the same fork sent again
    on conflict (workflow_run_id) do nothing
    returning workflow_run_id
  ),
  copied as materialized (
    select p.id, s.*
    from born b
    join placed p on p.id = b.workflow_run_id
    join ${n.steps} s on s.workflow_run_id = p.origin and s.position < p.before
  ),
  written as (
    -- under no token, consuming no event of the new run, undone in no way
    insert into ${n.steps} (workflow_run_id, step_key, name, kind, position, issued_after, status,
      attempts, has_compensate, carried, claim_token, result_codec, result, error, started_at, completed_at,
      revision, heartbeat_codec, heartbeat)
    select c.id, c.step_key, c.name, c.kind, c.position, c.issued_after, c.status,
      c.attempts, c.has_compensate, c.carried, 0, c.result_codec, c.result, c.error, c.started_at, c.completed_at,
      c.revision, c.heartbeat_codec, c.heartbeat
    from copied c
    returning 1
  ),
  timers as (
    insert into ${n.timers} (workflow_run_id, step_key, wake_at, created_at)
    select c.id, t.step_key, t.wake_at, t.created_at
    from copied c
    join ${n.timers} t on t.workflow_run_id = c.workflow_run_id and t.step_key = c.step_key
    returning 1
  ),
  described as (
    insert into ${n.attributes} (workflow_run_id, name, value)
    select p.id, a.name, a.value
    from born b
    join placed p on p.id = b.workflow_run_id
    join ${n.attributes} a on a.workflow_run_id = p.origin and a.name <> ''
    returning 1
  ),
  logged as (${logControl(n, {
    verb: "fork",
    from: "born b join placed x on x.id = b.workflow_run_id",
    reason: "x.reason",
    detail: `jsonb_strip_nulls(pg_catalog.jsonb_build_object(
      'origin', x.origin, 'stepKey', x.step, 'position', x.point
    ))`,
  })}
  )
  select p.place, case
      when exists (select 1 from born b where b.workflow_run_id = p.id)
        or exists (select 1 from ${n.runs} r where r.workflow_run_id = p.id) then 'forked'
      when not exists (select 1 from ${n.runs} o where o.workflow_run_id = p.origin) then 'unknown'
      when p.before is null then 'no-step'
      -- it lost against the same fork, sent at the same time: that one stands
      else 'forked'
    end as answer
  from placed p`
