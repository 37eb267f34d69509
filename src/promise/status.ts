/**
 * What `getStatus` answers: a union by status, with dates and decoded values.
 */
import * as Effect from "effect/Effect"
import { errorOfRun } from "../engine/outcomes.ts"
import { anyValue } from "../engine/values.ts"
import type { Attributes } from "../Attributes.ts"
import type { Revive, StoredError } from "../ErrorPayload.ts"
import type { Encoded } from "../Payload.ts"
import { isTerminal } from "../Run.ts"
import type { RunHistory, RunRow } from "../WorkflowStore.ts"
import { errorOf } from "./FlowlyError.ts"

/**
 * What every status has.
 */
export interface RunStatusBase {
  readonly workflowRunId: string
  readonly workflow: string
  /** Of the definition that started it, if that has one. */
  readonly version?: string
  readonly input: unknown
  /** Attempt of the whole run, from 1. */
  readonly attempt: number
  readonly scheduledFor: Date | null
  readonly createdAt: Date
  readonly startedAt?: Date
  /** What the run says about its state, with `ctx.setStatus`. */
  readonly statusText?: string
  /** Given at the start, or with `ctx.setAttributes`; absent when there are none. */
  readonly attributes?: Attributes
}

/**
 * The undoing of one step.
 */
export interface StepCompensation {
  readonly stepKey: string
  /** `retrying`: it is tried again; `failed`: it gave up; `skipped`: by an operator. */
  readonly status: "completed" | "failed" | "retrying" | "skipped"
  readonly attempts: number
  /** Of the newest try that failed. */
  readonly error?: unknown
}

/**
 * The state of a run.
 */
export type WorkflowStatus = RunStatusBase &
  (
    | {
        readonly status: "pending" | "running" | "sleeping" | "waiting"
        /** What the run is at, or waits for, as far as the store knows. */
        readonly currentStep?: string
        /** Of the attempt before, or of the crash before. */
        readonly error?: unknown
      }
    | {
        readonly status: "paused"
        /** Why; resume the run when the cause is gone. */
        readonly error: unknown
        readonly currentStep?: string
        readonly compensations?: ReadonlyArray<StepCompensation>
      }
    | {
        readonly status: "compensating"
        readonly error: unknown
        readonly failedStep?: string
        readonly compensations?: ReadonlyArray<StepCompensation>
      }
    | { readonly status: "completed"; readonly result: unknown; readonly completedAt: Date }
    | {
        readonly status: "failed" | "compensated" | "cancelled" | "dead_letter"
        readonly error: unknown
        readonly failedStep?: string
        /** What became of each undo, of a run that began to undo. */
        readonly compensations?: ReadonlyArray<StepCompensation>
        readonly completedAt: Date
      }
  )

/**
 * The status of a run from its row and, where it says more, its history.
 */
export const toStatus = (
  row: RunRow,
  history: RunHistory | null,
  revive?: Revive,
): WorkflowStatus => {
  const errorOrNone = (error: StoredError | null): unknown =>
    error === null ? undefined : errorOf(error, revive)
  const base: RunStatusBase = {
    workflowRunId: row.workflowRunId,
    workflow: row.workflow,
    ...(row.version === null ? {} : { version: row.version }),
    input: valueOf(row.input),
    attempt: row.attempt,
    scheduledFor: row.scheduledFor === null ? null : new Date(row.scheduledFor),
    createdAt: new Date(row.createdAt),
    ...(row.startedAt === null ? {} : { startedAt: new Date(row.startedAt) }),
    ...(row.statusText === null ? {} : { statusText: row.statusText }),
    ...(Object.keys(row.attributes).length === 0 ? {} : { attributes: row.attributes }),
  }
  const completedAt = new Date(row.completedAt ?? row.createdAt)
  const current = history === null ? undefined : currentStep(history)
  const failed = history === null ? undefined : failedStep(history)
  const undone =
    row.compensating && history !== null ? { compensations: undosOf(history, revive) } : {}
  switch (row.status) {
    case "completed":
      return { ...base, status: row.status, result: valueOf(row.result), completedAt }
    case "failed":
    case "compensated":
    case "cancelled":
    case "dead_letter":
      return {
        ...base,
        status: row.status,
        error: errorOrNone(errorOfRun(row)),
        completedAt,
        ...undone,
        ...(failed === undefined ? {} : { failedStep: failed }),
      }
    case "compensating":
      return {
        ...base,
        status: row.status,
        error: errorOrNone(row.error),
        ...undone,
        ...(failed === undefined ? {} : { failedStep: failed }),
      }
    case "paused":
      return {
        ...base,
        status: row.status,
        error: errorOrNone(row.pauseReason),
        ...undone,
        ...(current === undefined ? {} : { currentStep: current }),
      }
    default:
      return {
        ...base,
        status: row.status,
        ...(row.error === null ? {} : { error: errorOrNone(row.error) }),
        ...(current === undefined ? {} : { currentStep: current }),
      }
  }
}

/**
 * Whether the history of a run in this status says more than its row.
 */
export const needsHistory = (row: RunRow): boolean =>
  row.status !== "completed" && (row.startedAt !== null || !isTerminal(row.status))

/** A stored value as itself; one that cannot be read any more as its text. */
export const valueOf = (encoded: Encoded | null): unknown =>
  encoded === null
    ? undefined
    : Effect.runSync(
        Effect.catch(anyValue.decode(encoded), () => Effect.succeed(encoded.json as unknown)),
      )

const undosOf = (history: RunHistory, revive?: Revive): ReadonlyArray<StepCompensation> =>
  history.records.flatMap(({ stepKey, compensation }) => {
    if (compensation === null) return []
    const { status, attempts, error } = compensation
    const shown = error === null ? {} : { error: errorOf(error, revive) }
    return [{ stepKey, status, attempts, ...shown }]
  })

const currentStep = (history: RunHistory): string | undefined => {
  const done = new Set(
    history.records.filter((one) => one.status !== "retrying").map((one) => one.stepKey),
  )
  const retrying = history.records.find((one) => one.status === "retrying")
  const timer = history.timers.find((one) => !done.has(one.stepKey))
  const child = history.children.find((one) => !done.has(one.stepKey))
  return retrying?.stepKey ?? timer?.stepKey ?? child?.stepKey
}

const failedStep = (history: RunHistory): string | undefined =>
  history.records.findLast((one) => one.status === "failed")?.stepKey
