/**
 * The one way a run's row comes into being: triggers, children and ticks share columns and rules.
 *
 * @since 0.1.0
 */
import type { NewRun } from "../WorkflowStore.ts"
import { batch, boundedMs, type Field, payload, RawJson } from "./batch.ts"
import { at, interval } from "./rows.ts"

const fields = (run: NewRun): Readonly<Record<string, Field>> => ({
  id: run.workflowRunId,
  workflow: run.workflow,
  version: run.version,
  input: new RawJson(run.input.json),
  codec: run.input.codec,
  priority: run.priority,
  scheduled: boundedMs(run.scheduledFor),
  timeout: boundedMs(run.timeoutMs),
  max_attempts: run.maxAttempts,
  idempotency_key: run.idempotencyKey,
  retention: boundedMs(run.idempotencyRetentionMs ?? null),
  concurrency_key: run.concurrencyKey,
  parent_run_id: run.parent?.workflowRunId,
  parent_step_key: run.parent?.stepKey,
  parent_attempt: run.parent?.attempt,
  attributes: run.attributes == null ? null : new RawJson(JSON.stringify(run.attributes)),
  outlives_parent: run.onParentClose === "abandon",
})

/** Runs as the rows of `newRunRecord`. `owner` is the ordinal of what the run belongs to. */
export const newRunBatch = (
  runs: ReadonlyArray<{ readonly run: NewRun; readonly owner: number }>,
): string => batch(runs, ({ run, owner }) => ({ owner, ...fields(run) }))

/** SQL: the columns of a batch of new runs, for `json_to_recordset(…) as x(…)`. */
export const newRunRecord = `owner int, id uuid, workflow text, version text, input jsonb,
  codec text, priority int, scheduled float8, timeout float8, max_attempts int,
  idempotency_key text, retention float8, concurrency_key text,
  parent_run_id uuid, parent_step_key text, parent_attempt int, outlives_parent boolean,
  attributes jsonb`

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
