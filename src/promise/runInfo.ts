/**
 * What can be read of runs: rows and records, with decoded values, and dates.
 */
import type { Attributes } from "../Attributes.ts"
import type { Revive } from "../ErrorPayload.ts"
import { errorOfRun } from "../engine/outcomes.ts"
import type { RunStatus } from "../Run.ts"
import type { OperationKind, RunRow, StepRecord } from "../WorkflowStore.ts"
import { errorOf } from "./FlowlyError.ts"
import { valueOf } from "./status.ts"

/**
 * A run as it is stored.
 */
export interface RunInfo {
  readonly workflowRunId: string
  readonly workflow: string
  readonly version: string | null
  readonly status: RunStatus
  /** It has begun to undo its steps; stays true to the end. */
  readonly compensating: boolean
  /** Attempt of the whole run, from 1. */
  readonly attempt: number
  readonly maxAttempts: number | null
  readonly input: unknown
  /** Of a completed run. */
  readonly result?: unknown
  /** Of a run that ended otherwise; of an active one that of the attempt before. */
  readonly error?: unknown
  /** Why it is paused. */
  readonly pauseReason?: unknown
  readonly parentRunId: string | null
  readonly idempotencyKey: string | null
  readonly concurrencyKey: string | null
  readonly priority: number
  readonly attributes: Attributes
  /** What `ctx.setStatus` said last. */
  readonly statusText: string | null
  /** Of a run that nobody executes: when it may go on; `null`: when something comes. */
  readonly dueAt: Date | null
  readonly scheduledFor: Date | null
  readonly deadlineAt: Date | null
  readonly createdAt: Date
  readonly startedAt: Date | null
  readonly completedAt: Date | null
}

/**
 * A step (sleep, child, event …) of a run as it is recorded.
 */
export interface RecordedStep {
  readonly stepKey: string
  readonly name: string
  readonly kind: OperationKind
  /** Place in the order of completion; `null` while it is retrying. */
  readonly position: number | null
  /** `retrying`: it waits until `retryAt` for its next try. */
  readonly status: "completed" | "failed" | "retrying"
  readonly attempts: number
  readonly result?: unknown
  readonly error?: unknown
  readonly startedAt: Date | null
  readonly completedAt: Date | null
  readonly retryAt: Date | null
  /** How its undoing went, if it was begun. */
  readonly compensation: {
    readonly status: "completed" | "failed" | "retrying" | "skipped"
    readonly attempts: number
    readonly error?: unknown
  } | null
}

/**
 * A page of runs, newest first; `next` is the `before` of the next page, `null` on the last one.
 */
export interface RunPage {
  readonly runs: ReadonlyArray<RunInfo>
  readonly next: string | null
}

const dateOf = (time: number | null): Date | null => (time === null ? null : new Date(time))

/**
 * A run's row for the reader.
 */
export const toRunInfo = (row: RunRow, revive?: Revive): RunInfo => {
  const error = errorOfRun(row) ?? row.error
  return {
    workflowRunId: row.workflowRunId,
    workflow: row.workflow,
    version: row.version,
    status: row.status,
    compensating: row.compensating,
    attempt: row.attempt,
    maxAttempts: row.maxAttempts,
    input: valueOf(row.input),
    ...(row.status === "completed" ? { result: valueOf(row.result) } : {}),
    ...(error === null ? {} : { error: errorOf(error, revive) }),
    ...(row.pauseReason === null ? {} : { pauseReason: errorOf(row.pauseReason, revive) }),
    parentRunId: row.parent?.workflowRunId ?? null,
    idempotencyKey: row.idempotencyKey,
    concurrencyKey: row.concurrencyKey,
    priority: row.priority,
    attributes: row.attributes,
    statusText: row.statusText,
    dueAt: row.workerId === null ? dateOf(row.dueAt) : null,
    scheduledFor: dateOf(row.scheduledFor),
    deadlineAt: dateOf(row.deadlineAt),
    createdAt: new Date(row.createdAt),
    startedAt: dateOf(row.startedAt),
    completedAt: dateOf(row.completedAt),
  }
}

/**
 * A record for the reader.
 */
export const toRecordedStep = (record: StepRecord, revive?: Revive): RecordedStep => {
  const { compensation } = record
  return {
    stepKey: record.stepKey,
    name: record.name,
    kind: record.kind,
    position: record.position,
    status: record.status,
    attempts: record.attempts,
    ...(record.status === "completed" ? { result: valueOf(record.result) } : {}),
    ...(record.error === null ? {} : { error: errorOf(record.error, revive) }),
    startedAt: dateOf(record.startedAt),
    completedAt: dateOf(record.completedAt),
    retryAt: dateOf(record.retryAt),
    compensation:
      compensation === null
        ? null
        : {
            status: compensation.status,
            attempts: compensation.attempts,
            ...(compensation.error === null ? {} : { error: errorOf(compensation.error, revive) }),
          },
  }
}
