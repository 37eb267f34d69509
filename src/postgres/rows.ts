/**
 * From a driver's row to the contract's records.
 *
 * Drivers differ in int8 (`bigint` or text), times and json, and users change `pg`'s parsers for
 * everybody. So statements give times as whole milliseconds, json as text, uuids as text, and every
 * number passes through `int`. Values are never parsed here: the store interprets no payload.
 *
 * @since 0.1.0
 */
import type { PauseRequest } from "../Control.ts"
import type { StoredError } from "../ErrorPayload.ts"
import type { Encoded } from "../Payload.ts"
import type { RunStatus } from "../Run.ts"
import type {
  CancelRequest,
  EventRow,
  OperationKind,
  ParentRef,
  RunRow,
  RunSignals,
  StepRecord,
} from "../WorkflowStore.ts"
import { attributesColumn, toAttributes } from "./attributes.ts"
import type { Row } from "./database.ts"
import type { Names } from "./names.ts"

export const int = (value: unknown): number => {
  const number = typeof value === "number" ? value : Number(value)
  if (!Number.isSafeInteger(number)) throw new Error(`expected an integer, got ${String(value)}`)
  return number
}

export const intOrNull = (value: unknown): number | null => (value == null ? null : int(value))

export const text = (value: unknown): string => String(value)

export const textOrNull = (value: unknown): string | null => (value == null ? null : String(value))

export const bool = (value: unknown): boolean => value === true || value === "t"

export const boolOrNull = (value: unknown): boolean | null => (value == null ? null : bool(value))

export const errorOrNull = (value: unknown): StoredError | null =>
  value == null ? null : (JSON.parse(String(value)) as StoredError)

export const encoded = (codec: unknown, json: unknown): Encoded => ({
  codec: String(codec),
  json: String(json),
})

export const encodedOrNull = (codec: unknown, json: unknown): Encoded | null =>
  codec == null ? null : encoded(codec, json)

/** SQL: a time as milliseconds, rounded down. */
export const ms = (expression: string): string =>
  `floor(extract(epoch from ${expression}) * 1000::numeric)::int8`

/** SQL: the time until which to wait, rounded up: who waits so long never comes too early. */
export const msUp = (expression: string): string =>
  `ceil(extract(epoch from ${expression}) * 1000::numeric)::int8`

/** SQL: a parameter or column of milliseconds as a time. */
export const at = (expression: string): string =>
  `to_timestamp((${expression})::float8 / 1000::float8)`

/** SQL: milliseconds as an interval. */
export const interval = (expression: string): string =>
  `((${expression})::float8 * interval '1 millisecond')`

/** SQL: the instant of a statement's parameter, else the database's clock as it is right now. */
export const clock = (parameter: string): string => `coalesce(${at(parameter)}, clock_timestamp())`

/**
 * SQL: the instant as an index condition may have it. `clock_timestamp()` is volatile: compared with
 * a column it would turn a range scan into a filter over the whole index.
 */
export const steady = (parameter: string): string =>
  `coalesce(${at(parameter)}, statement_timestamp())`

/** The columns that travel with every answer about a run; `r` is the run, `now` an instant. */
export const signalColumns = (r: string, now: string): string =>
  `${r}.wake_counter as wake_counter,
    (not ${r}.compensating and ${r}.deadline_at is not null and ${r}.deadline_at <= ${now})
      as deadline_passed,
    (${r}.cancel_requested_at is not null) as cancel_requested,
    ${r}.cancel_compensate as cancel_compensate,
    ${r}.cancel_reason as cancel_reason,
    (${r}.pause_request is not null) as pause_requested,
    ${r}.pause_request->>'reason'::text as pause_request_reason`

export const toSignals = (row: Row): RunSignals => ({
  wakeCounter: int(row["wake_counter"]),
  cancelRequest: toCancelRequest(row),
  pauseRequest: toPauseRequest(row),
  deadlinePassed: bool(row["deadline_passed"]),
})

/**
 * SQL: the same in one column, JSON, for batches: null where there is nothing to be heard, as is usual.
 * `r` is a row with the run's columns, `unless` a condition under which its deadline counts.
 */
export const signals = (r: string, now: string, counts: string): string => {
  const passed = `(not ${r}.compensating and ${r}.deadline_at is not null and ${r}.deadline_at <= ${now} and ${counts})`
  return `case when ${passed} or ${r}.cancel_requested_at is not null or ${r}.pause_request is not null
    then pg_catalog.json_build_object(
      'deadline_passed'::text, ${passed},
      'cancel_requested'::text, ${r}.cancel_requested_at is not null,
      'cancel_compensate'::text, ${r}.cancel_compensate, 'cancel_reason'::text, ${r}.cancel_reason,
      'pause_requested'::text, ${r}.pause_request is not null,
      'pause_request_reason'::text, ${r}.pause_request->>'reason'::text
    )::text end`
}

/** What `signals` tells. */
export const signalsOf = (wakeCounter: unknown, given: unknown): RunSignals =>
  given == null
    ? {
        wakeCounter: int(wakeCounter),
        cancelRequest: null,
        pauseRequest: null,
        deadlinePassed: false,
      }
    : toSignals({ ...(JSON.parse(text(given)) as Row), wake_counter: wakeCounter })

const toCancelRequest = (row: Row): CancelRequest | null =>
  bool(row["cancel_requested"])
    ? {
        compensate: boolOrNull(row["cancel_compensate"]),
        reason: textOrNull(row["cancel_reason"]),
      }
    : null

const toPauseRequest = (row: Row): PauseRequest | null =>
  bool(row["pause_requested"]) ? { reason: textOrNull(row["pause_request_reason"]) } : null

export const toParent = (row: Row): ParentRef | null =>
  row["parent_run_id"] == null
    ? null
    : {
        workflowRunId: text(row["parent_run_id"]),
        stepKey: text(row["parent_step_key"]),
        attempt: int(row["parent_attempt"]),
      }

/** Everything of a run's row, for `toRunRow`. */
export const runColumns = (n: Names, r: string): string =>
  `${attributesColumn(n, r)},
    ${r}.workflow_run_id::text as workflow_run_id,
    ${r}.workflow, ${r}.version, ${r}.status, ${r}.compensating, ${r}.attempt, ${r}.max_attempts,
    ${r}.input_codec, ${r}.input::text as input,
    ${r}.result_codec, ${r}.result::text as result,
    ${r}.error::text as error, ${r}.pause_reason::text as pause_reason,
    ${r}.parent_run_id::text as parent_run_id, ${r}.parent_step_key, ${r}.parent_attempt,
    ${r}.idempotency_key, ${r}.concurrency_key, ${r}.priority,
    ${ms(`${r}.due_at`)} as due_at, ${ms(`${r}.scheduled_for`)} as scheduled_for,
    ${ms(`${r}.deadline_at`)} as deadline_at,
    (${r}.cancel_requested_at is not null) as cancel_requested,
    ${r}.cancel_compensate, ${r}.cancel_reason,
    (${r}.pause_request is not null) as pause_requested,
    ${r}.pause_request->>'reason'::text as pause_request_reason,
    ${r}.wake_counter, ${r}.claim_token, ${r}.worker_id::text as worker_id,
    ${r}.claimed_by_insert, ${r}.crash_count,
    ${ms(`${r}.created_at`)} as created_at, ${ms(`${r}.started_at`)} as started_at,
    ${ms(`${r}.completed_at`)} as completed_at`

export const toRunRow = (row: Row): RunRow => ({
  ...toAttributes(row),
  workflowRunId: text(row["workflow_run_id"]),
  workflow: text(row["workflow"]),
  version: textOrNull(row["version"]),
  status: text(row["status"]) as RunStatus,
  compensating: bool(row["compensating"]),
  attempt: int(row["attempt"]),
  maxAttempts: intOrNull(row["max_attempts"]),
  input: encoded(row["input_codec"], row["input"]),
  result: encodedOrNull(row["result_codec"], row["result"]),
  error: errorOrNull(row["error"]),
  pauseReason: errorOrNull(row["pause_reason"]),
  parent: toParent(row),
  idempotencyKey: textOrNull(row["idempotency_key"]),
  concurrencyKey: textOrNull(row["concurrency_key"]),
  priority: int(row["priority"]),
  dueAt: intOrNull(row["due_at"]),
  scheduledFor: intOrNull(row["scheduled_for"]),
  deadlineAt: intOrNull(row["deadline_at"]),
  cancelRequest: toCancelRequest(row),
  pauseRequest: toPauseRequest(row),
  wakeCounter: int(row["wake_counter"]),
  token: int(row["claim_token"]),
  workerId: textOrNull(row["worker_id"]),
  crashCount: int(row["crash_count"]),
  createdAt: int(row["created_at"]),
  startedAt: intOrNull(row["started_at"]),
  completedAt: intOrNull(row["completed_at"]),
})

/** Everything of a record, for `toStepRecord`. */
export const stepColumns = (s: string): string =>
  `${s}.workflow_run_id::text as workflow_run_id,
    ${s}.step_key, ${s}.name, ${s}.kind, ${s}.position, ${s}.issued_after, ${s}.status,
    ${s}.attempts, ${s}.result_codec, ${s}.result::text as result, ${s}.error::text as error,
    ${s}.has_compensate, ${s}.carried,
    ${ms(`${s}.started_at`)} as started_at, ${ms(`${s}.completed_at`)} as completed_at,
    ${msUp(`${s}.retry_at`)} as retry_at,
    ${s}.revision, ${s}.heartbeat_codec, ${s}.heartbeat::text as heartbeat,
    ${s}.compensation_status, ${s}.compensation_attempts,
    ${s}.compensation_error::text as compensation_error,
    ${msUp(`${s}.compensation_retry_at`)} as compensation_retry_at`

export const toStepRecord = (row: Row): StepRecord => ({
  stepKey: text(row["step_key"]),
  name: text(row["name"]),
  kind: text(row["kind"]) as OperationKind,
  position: intOrNull(row["position"]),
  issuedAfter: int(row["issued_after"]),
  status: text(row["status"]) as StepRecord["status"],
  attempts: int(row["attempts"]),
  result: encodedOrNull(row["result_codec"], row["result"]),
  error: errorOrNull(row["error"]),
  hasCompensate: bool(row["has_compensate"]),
  carried: bool(row["carried"]),
  startedAt: intOrNull(row["started_at"]),
  completedAt: intOrNull(row["completed_at"]),
  retryAt: intOrNull(row["retry_at"]),
  revision: int(row["revision"]),
  heartbeat: encodedOrNull(row["heartbeat_codec"], row["heartbeat"]),
  compensation:
    row["compensation_status"] == null
      ? null
      : {
          status: text(row["compensation_status"]) as NonNullable<
            StepRecord["compensation"]
          >["status"],
          attempts: int(row["compensation_attempts"]),
          error: errorOrNull(row["compensation_error"]),
          retryAt: intOrNull(row["compensation_retry_at"]),
        },
})

/** Everything of an event, for `toEventRow`. */
export const eventColumns = (e: string): string =>
  `${e}.event_id, ${e}.workflow_run_id::text as workflow_run_id, ${e}.direction, ${e}.name,
    ${e}.payload_codec, ${e}.payload::text as payload, ${e}.sender_id,
    ${ms(`${e}.created_at`)} as created_at`

export const toEventRow = (row: Row): EventRow => ({
  eventId: int(row["event_id"]),
  workflowRunId: text(row["workflow_run_id"]),
  direction: text(row["direction"]) as EventRow["direction"],
  name: text(row["name"]),
  payload: encoded(row["payload_codec"], row["payload"]),
  id: textOrNull(row["sender_id"]),
  createdAt: int(row["created_at"]),
})
