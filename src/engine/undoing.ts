/**
 * What is to be undone of a run, and the undoing.
 *
 * To be undone are: steps that completed with an undo, but for those before the last point of no
 * return; and steps that asked for it whose outcome is unknown (`onUnknown`): given up at a time limit,
 * or under way when their process died or the run could wait for them no longer. The unknown ones go
 * first, for nothing is known to have come after them; then the others in reverse order of completion.
 * Undoing is a replay of its own, so that a crash at any point takes the same path (promise 10).
 */
import * as Effect from "effect/Effect"
import type { StoredError } from "../ErrorPayload.ts"
import { encodeError } from "../ErrorPayload.ts"
import { CompensationMissing, StepTimeout } from "../FlowlyError.ts"
import { delayAfter } from "../RetryPolicy.ts"
import { verdictOf } from "../StepError.ts"
import type { CompensationWrite, StepRecord } from "../WorkflowStore.ts"
import { type AttemptEnd, startAttempt } from "./attempt.ts"
import type { Execution, Issued } from "./Execution.ts"
import type { StepOperation } from "./Operation.ts"
import { settle } from "./settling.ts"

/**
 * The records whose steps are to be undone, in that order.
 */
const toUndo = (execution: Execution): Array<StepRecord> => {
  let noReturn = 0
  const known: Array<StepRecord> = []
  const unknown: Array<StepRecord> = []
  for (const record of execution.records.values()) {
    if (record.kind === "no_return") noReturn = Math.max(noReturn, record.position ?? 0)
    else if (record.hasCompensate) known.push(record)
  }
  for (const record of execution.retrying.values()) if (record.hasCompensate) unknown.push(record)
  return [
    ...unknown.toSorted((a, b) => b.issuedAfter - a.issuedAfter),
    ...known
      .filter((record) => (record.position ?? 0) > noReturn)
      .toSorted((a, b) => (b.position ?? 0) - (a.position ?? 0)),
  ]
}

/**
 * Something is there to be undone.
 */
export const undoable = (execution: Execution): boolean => toUndo(execution).length > 0

/**
 * Something is there to be undone, or may yet be.
 */
export const mayUndo = (execution: Execution): boolean => {
  if (undoable(execution)) return true
  for (const issued of execution.open) {
    const { operation, phase } = issued
    if ("undo" in operation && operation.undo !== null) {
      if (phase === "active" || phase === "recorded") return true
    }
  }
  return false
}

/**
 * The whole history was delivered to a compensating run: undo.
 */
export const replayed = (execution: Execution): void => {
  execution.mode = "ending"
  const records = toUndo(execution)
  const open = records.filter(
    ({ compensation }) => compensation === null || compensation.status === "retrying",
  )
  const missing = open.filter((record) => undoOf(execution, record) === null)
  if (missing.length > 0) {
    const { workflow, workflowRunId } = execution.run
    const stepKeys = missing.map((record) => record.stepKey)
    const error = encodeError(new CompensationMissing({ workflow, workflowRunId, stepKeys }))
    return execution.finish({ _tag: "Pause", error }, { _tag: "paused", error })
  }
  const failed = records.some((record) => record.compensation?.status === "failed")
  undoNext(execution, open, failed)
}

type Undo = NonNullable<StepOperation["undo"]>

const undoOf = (
  execution: Execution,
  record: StepRecord,
): { readonly issued: Issued; readonly undo: Undo } | null => {
  const issued = execution.issued.get(record.stepKey)
  if (issued === undefined || !("undo" in issued.operation)) return null
  return issued.operation.undo === null ? null : { issued, undo: issued.operation.undo }
}

const undoNext = (execution: Execution, open: Array<StepRecord>, failed: boolean): void => {
  if (execution.mode === "stopped") return
  if (execution.handBack()) {
    return execution.finish({ _tag: "HandBack" }, { _tag: "handed-back" })
  }
  const record = open.shift()
  if (record === undefined) {
    return settle(execution, {
      status: failed ? "failed" : "compensated",
      result: null,
      error: execution.run.error,
      failedPosition: null,
    })
  }
  const found = undoOf(execution, record)
  if (found === null) return
  const { attempts, retryAt } = record.compensation ?? { attempts: 0, retryAt: null }
  const undoing: Undoing = {
    ...found,
    execution,
    record,
    attempts,
    onEnd: (ok) => undoNext(execution, open, failed || !ok),
  }
  const waitMs = retryAt === null ? 0 : retryAt - execution.storeNow()
  // woken before its time: the stored time of the next try stands
  if (waitMs > 0) waitThenTry(undoing, waitMs, null)
  else tryOnce(undoing)
}

/** The undoing of one step. */
interface Undoing {
  readonly execution: Execution
  readonly record: StepRecord
  readonly issued: Issued
  readonly undo: Undo
  /** Tries that have ended. */
  readonly attempts: number
  readonly onEnd: (ok: boolean) => void
}

const tryOnce = (undoing: Undoing): void => {
  const { execution, record, issued, undo } = undoing
  const { env, run } = execution
  const { stepKey } = record
  if (execution.mode === "stopped") return
  if (!env.leaseTrusted()) return execution.stop({ _tag: "lost" })
  const attempt = undoing.attempts + 1
  const { timeoutMs } = undo
  issued.running = startAttempt({
    fork: env.fork,
    body: (signal) =>
      // nothing is known of what an unknown step has given
      undo.run(record.status === "completed" ? record.result : null, {
        workflowRunId: run.workflowRunId,
        attempt,
        idempotencyKey: `${run.workflowRunId}:${stepKey}:compensate`,
        signal: signal(),
      }),
    limits:
      timeoutMs === null
        ? []
        : [{ afterMs: timeoutMs, error: () => new StepTimeout({ stepKey, timeoutMs }) }],
    onEnd: (end: AttemptEnd<void, UndoFailure>) => {
      issued.running = null
      if (execution.mode !== "stopped") afterTry({ ...undoing, attempts: attempt }, end)
    },
  })
}

/**
 * A failed undo: what to store, and what it failed with.
 */
export interface UndoFailure {
  readonly error: StoredError
  readonly raw: unknown
}

const afterTry = (undoing: Undoing, end: AttemptEnd<void, UndoFailure>): void => {
  const { execution, undo, attempts } = undoing
  switch (end._tag) {
    case "Interrupted":
      // whoever told it to stop goes on without it
      return
    case "Success":
      return conclude(undoing, null)
    default: {
      const { error: whole, raw } =
        end._tag === "Failure" ? end.failure : { error: encodeError(end.error), raw: end.error }
      const error = execution.env.redact(whole)
      const verdict = verdictOf(raw)
      if (attempts >= undo.retry.maxAttempts || verdict?._tag === "NonRetryable") {
        return conclude(undoing, error)
      }
      const delayMs =
        verdict === null
          ? delayAfter(undo.retry, attempts, execution.env.random)
          : "delayMs" in verdict
            ? verdict.delayMs
            : Math.max(0, verdict.at - execution.storeNow())
      waitThenTry(undoing, delayMs, error)
    }
  }
}

const conclude = ({ execution, record, attempts, onEnd }: Undoing, error: StoredError | null) => {
  const { stepKey } = record
  execution.env.hook({ _tag: "compensated", stepKey, failed: error !== null })
  const status = error === null ? "completed" : "failed"
  execution.write({
    compensations: [{ stepKey, status, attempts, error }],
    onCommitted: () => onEnd(error === null),
  })
}

/**
 * A short wait stays in memory; over a long one, or of a worker that stops, the run parks, with the
 * tries so far and the time of the next.
 */
const waitThenTry = (undoing: Undoing, delayMs: number, error: StoredError | null): void => {
  const { execution, record, issued, attempts } = undoing
  const { env } = execution
  if (delayMs > env.limits.shortWaitMs || execution.handBack()) {
    const retrying: CompensationWrite = {
      stepKey: record.stepKey,
      status: "retrying",
      attempts,
      error,
      retryDelayMs: delayMs,
    }
    return execution.finish(
      {
        _tag: "Park",
        status: "sleeping",
        dueAt: null,
        delayMs,
        wakeCounter: execution.signals.wakeCounter,
      },
      { _tag: "parked", woken: false },
      error === null ? {} : { compensations: [retrying] },
    )
  }
  issued.timer = env.fork(
    Effect.andThen(
      Effect.sleep(delayMs),
      Effect.sync(() => {
        issued.timer = null
        if (execution.handBack()) waitThenTry(undoing, 0, error)
        else tryOnce(undoing)
      }),
    ),
  )
}
