/**
 * The write of a run that goes on by itself: one outcome, or its end.
 *
 * The journal's statement (`commitStatement.ts`) says the same in terms of a batch: its rows, a clock of
 * their own, joins. For one write, most of what the server does is to set these up and to take them down.
 * Postgres 18, round trip without the wait for the disk: a record takes 0.41 ms instead of 0.57, where a
 * fenced insert into a table of seven columns takes 0.34. (Dropping the checks of steps, or their second
 * index, changed nothing that could be measured.)
 *
 * @since 0.1.0
 */
import { boundedMs, payload } from "./batch.ts"
import { errorOf, type Statement, type Write } from "./commitRows.ts"
import { plainColumns, type Shape } from "./commitStatement.ts"
import { settlement } from "./commitTransitions.ts"
import type { Names } from "./names.ts"
import { clock, interval, ms, signals } from "./rows.ts"

/** The statement for a write that has no other beside it; `null` where only the full one will do. */
export const loneWrites = (n: Names): ((shape: Shape, write: Write) => Statement | null) => {
  const recordText = recordStatement(n)
  const settleText = settleStatement(n)
  return (shape, write) => {
    if (shape.plain && !shape.transitions) {
      return { text: recordText, parameters: recordParameters(write) }
    }
    if (shape.settles && !shape.records) {
      return { text: settleText, parameters: settleParameters(write) }
    }
    return null
  }
}

/** The fence, as in the journal's statement. */
const heldPart = (n: Names, and = ""): string => `
held as materialized (
  select r.workflow_run_id, r.wake_counter, r.compensating, r.deadline_at, r.cancel_requested_at,
    r.cancel_compensate, r.cancel_reason, r.pause_request, ${clock("$1")} as at
  from ${n.runs} r
  where r.workflow_run_id = $2::uuid
    and case when r.claim_token = $3::bigint then r.worker_id is not null else false end${and}
  for no key update skip locked
)`

/** The row that the journal's statement would answer. */
const answer = (whole: string): string => `
select 0 as ord, h.wake_counter, ${signals("h", "h.at", "true")} as signals, ${ms("h.at")} as at,
  ${whole} as whole
from held h`

const recordStatement = (n: Names): string => `
with ${heldPart(n)},
written as (
  insert into ${n.steps} (${plainColumns})
  select h.workflow_run_id, $4::text, $5::text, $6::text, $7::int, $8::int, 'completed',
    $9::int, $10::boolean, $3::bigint, $11::text, ${payload("$11::text", "$12::jsonb")},
    h.at - ${interval("$13")}, h.at
  from held h
  returning 1
)
${answer("exists (select from written)")}`

const recordParameters = ({ workflowRunId, token, records }: Write): Statement["parameters"] => {
  const [record] = records
  return [
    workflowRunId,
    String(token),
    ...(record === undefined
      ? []
      : [
          record.stepKey,
          record.name,
          record.kind,
          String(record.position),
          String(record.issuedAfter),
          String(record.attempts),
          String(record.hasCompensate),
          record.result?.codec ?? null,
          record.result?.json ?? null,
          String(Math.round(boundedMs(record.elapsedMs) ?? 0)),
        ]),
  ]
}

const settleStatement = (n: Names): string => `
with ${heldPart(n, " and r.parent_run_id is null")},
settled as (
  update ${n.runs} r
  set ${settlement({
    status: "$4::text",
    at: "h.at",
    codec: "$5::text",
    result: "$6::jsonb",
    error: "$7::jsonb",
    failedPosition: "$8::int",
  })}
  from held h
  where r.workflow_run_id = h.workflow_run_id
)
${answer("true")}`

const settleParameters = ({ workflowRunId, token, transition }: Write): Statement["parameters"] =>
  transition?._tag === "Settle"
    ? [
        workflowRunId,
        String(token),
        transition.status,
        transition.result?.codec ?? null,
        transition.result?.json ?? null,
        errorOf(transition),
        transition.failedPosition === null ? null : String(transition.failedPosition),
      ]
    : []
