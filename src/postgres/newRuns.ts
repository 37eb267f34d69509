/**
 * The one way a run's row comes into being: triggers, children and ticks share columns and rules.
 *
 * @since 0.1.0
 */
import type { NewRun } from "../WorkflowStore.ts"
import { boundedMs, payload } from "./batch.ts"
import { columns, placeOf } from "./columns.ts"
import { at, interval } from "./rows.ts"

/** A run, and the ordinal of what it belongs to. */
interface OwnedRun {
  readonly run: NewRun
  readonly owner: number
}

/** Runs as the rows from which `newRunValues` makes theirs. */
export const newRuns = columns<OwnedRun>({
  owner: {
    type: "int",
    get: ({ owner }, place) => (owner === place ? null : owner),
    otherwise: placeOf,
  },
  id: { type: "uuid", get: ({ run }) => run.workflowRunId },
  workflow: { type: "text", get: ({ run }) => run.workflow },
  version: { type: "text", get: ({ run }) => run.version },
  input: { type: "jsonb", get: ({ run }) => run.input.json },
  codec: {
    type: "text",
    get: ({ run }) => (run.input.codec === "json" ? null : run.input.codec),
    otherwise: "'json'",
  },
  priority: { type: "int", get: ({ run }) => run.priority || null, otherwise: "0" },
  scheduled: { type: "float8", get: ({ run }) => boundedMs(run.scheduledFor) },
  timeout: { type: "float8", get: ({ run }) => boundedMs(run.timeoutMs) },
  max_attempts: { type: "int", get: ({ run }) => run.maxAttempts },
  idempotency_key: { type: "text", get: ({ run }) => run.idempotencyKey },
  retention: { type: "float8", get: ({ run }) => boundedMs(run.idempotencyRetentionMs ?? null) },
  concurrency_key: { type: "text", get: ({ run }) => run.concurrencyKey },
  parent_run_id: { type: "uuid", get: ({ run }) => run.parent?.workflowRunId },
  parent_step_key: { type: "text", get: ({ run }) => run.parent?.stepKey },
  parent_attempt: { type: "int", get: ({ run }) => run.parent?.attempt },
  outlives_parent: { type: "boolean", get: ({ run }) => run.onParentClose === "abandon" || null },
  attributes: {
    type: "jsonb",
    get: ({ run }) => (run.attributes == null ? null : JSON.stringify(run.attributes)),
  },
})

/** SQL: the columns that `newRunValues` fills. */
export const newRunColumns = `workflow_run_id, workflow, version, status, priority, ready, due_at,
  claim_token, worker_id, claimed_by_insert, started_at, max_attempts, idempotency_key,
  idempotency_expires_at,
  concurrency_key, parent_run_id, parent_step_key, parent_attempt, outlives_parent,
  scheduled_for, timeout_ms,
  deadline_at, input_codec, input, created_at`

/**
 * SQL: the values of one new run `x` at the instant `now`. `claimFor` is an expression of the worker
 * for which it is claimed by this very insert (null: for none); only a run that is due is.
 */
export const newRunValues = (x: string, now: string, claimFor: string): string => {
  const scheduled = at(`${x}.scheduled`)
  const due = `(${x}.scheduled is null or ${scheduled} <= ${now})`
  const claimed = `(${claimFor} is not null and ${due})`
  return `${x}.id, ${x}.workflow, ${x}.version,
    case when ${claimed} then 'running' else 'pending' end,
    ${x}.priority,
    ${due} and not ${claimed},
    case when not ${claimed} then greatest(${scheduled}, ${now}) end,
    case when ${claimed} then 1 else 0 end,
    case when ${claimed} then ${claimFor} end,
    ${claimed},
    case when ${claimed} then ${now} end,
    ${x}.max_attempts, ${x}.idempotency_key, ${now} + ${interval(`${x}.retention`)},
    ${x}.concurrency_key,
    ${x}.parent_run_id, ${x}.parent_step_key, ${x}.parent_attempt,
    coalesce(${x}.outlives_parent, false),
    ${scheduled}, ${x}.timeout::bigint,
    greatest(${now}, ${scheduled}) + ${interval(`${x}.timeout`)},
    ${x}.codec, ${payload(`${x}.codec`, `${x}.input`)}, ${now}`
}
