/**
 * How an execution ends: success, failure, cancel, timeout; and the undoing of completed steps.
 *
 * A run that has something to undo, or tries left, first waits for its executing steps (bounded)
 * and records how they ended: `Promise.all([slowCharge, fails])` must undo the charge. Only then
 * is the change of status committed. Undoing is a replay of its own, so that a crash at any point
 * takes the same path (promise 10).
 */
import * as Effect from "effect/Effect"
import type { StoredError } from "../ErrorPayload.ts"
import { encodeError } from "../ErrorPayload.ts"
import { CompensationMissing, RunCancelled, RunTimedOut, StepTimeout } from "../FlowlyError.ts"
import { delayAfter, make as makePolicy } from "../RetryPolicy.ts"
import { isTerminal, type TerminalStatus } from "../Run.ts"
import type { StepRecord } from "../WorkflowStore.ts"
import { type AttemptEnd, startAttempt } from "./attempt.ts"
import type { BodyEnd, Execution, Issued } from "./Execution.ts"
import type { StepOperation } from "./Operation.ts"
import { start } from "./steps.ts"

/** Between attempts of a whole run. */
const betweenAttempts = makePolicy({ maxAttempts: Number.MAX_SAFE_INTEGER, jitter: true })

/**
 * The body has returned or thrown.
 */
export const bodyEnded = (execution: Execution, end: BodyEnd): void => {
  if (end._tag === "Success") return succeed(execution, end)
  if (end._tag === "Unreadable") {
    return execution.finish(
      { _tag: "Pause", error: end.error },
      { _tag: "paused", error: end.error },
    )
  }
  const { run } = execution
  if (run.attempt < (run.maxAttempts ?? 1)) {
    return drain(execution, "abort", () =>
      execution.finish(
        {
          _tag: "RetryRun",
          failedPosition: failedPosition(execution, end.raw),
          delayMs: delayAfter(betweenAttempts, run.attempt, execution.env.random),
          error: end.error,
        },
        { _tag: "retrying", error: end.error },
      ),
    )
  }
  giveUp(execution, end.error, {
    status: run.maxAttempts === null ? "failed" : "dead_letter",
    failedPosition: failedPosition(execution, end.raw),
    compensate: true,
  })
}

/**
 * Somebody asked to cancel the run.
 */
export const cancelled = (execution: Execution): void => {
  const { run, signals } = execution
  const error = new RunCancelled({
    workflowRunId: run.workflowRunId,
    reason: signals.cancelRequest?.reason ?? null,
  })
  giveUp(execution, encodeError(error), {
    status: "cancelled",
    failedPosition: null,
    compensate: signals.cancelRequest?.compensate ?? true,
  })
}

/**
 * The run's deadline has passed.
 */
export const timedOut = (execution: Execution): void => {
  const { run } = execution
  giveUp(execution, encodeError(new RunTimedOut({ workflowRunId: run.workflowRunId })), {
    status: run.maxAttempts === null ? "failed" : "dead_letter",
    failedPosition: null,
    compensate: true,
  })
}

const succeed = (execution: Execution, end: Extract<BodyEnd, { _tag: "Success" }>): void => {
  // an emit that the body did not wait for is still meant
  for (const issued of execution.open) {
    if (issued.operation.kind !== "emit" || issued.phase !== "unstarted") continue
    if (!execution.records.has(issued.key)) start(execution, issued)
  }
  const transition = {
    _tag: "Settle",
    status: "completed",
    result: end.result,
    error: null,
    failedPosition: null,
  } as const
  execution.finish(transition, { _tag: "settled", transition })
}

const giveUp = (
  execution: Execution,
  error: StoredError,
  options: {
    readonly status: TerminalStatus
    readonly failedPosition: number | null
    readonly compensate: boolean
  },
): void => {
  execution.mode = "ending"
  const conclude = () => {
    if (options.compensate && undoable(execution)) {
      return execution.finish({ _tag: "Compensate", error }, { _tag: "compensate", error })
    }
    const transition = {
      _tag: "Settle",
      status: options.status,
      result: null,
      error,
      failedPosition: options.failedPosition,
    } as const
    execution.finish(transition, { _tag: "settled", transition })
  }
  const proceed = () => drain(execution, mayUndo(execution) ? "abort" : "none", conclude)
  afterInserts(execution, () => {
    const children = [...execution.children.values()]
      .filter((child) => !isTerminal(child.status))
      .map((child) => child.workflowRunId)
    if (children.length === 0) return proceed()
    execution.env.fork(
      Effect.andThen(
        execution.env.cancelChildren(children),
        Effect.sync(() => {
          if (execution.mode !== "stopped") proceed()
        }),
      ),
    )
  })
}

/** A child whose insert is on its way to the store can be cancelled only when it is there. */
const afterInserts = (execution: Execution, then: () => void): void => {
  const check = () => {
    for (const { operation, phase } of execution.open) {
      if (operation.kind === "child" && phase === "active") return
    }
    execution.onProgress = null
    then()
  }
  execution.onProgress = check
  check()
}

/** A completed step can be undone. */
const undoable = (execution: Execution): boolean => {
  for (const record of execution.records.values()) {
    if (record.hasCompensate && record.status === "completed") return true
  }
  return false
}

/** A step that can be undone has completed, or may yet complete. */
const mayUndo = (execution: Execution): boolean => {
  if (undoable(execution)) return true
  for (const issued of execution.open) {
    const { operation, phase } = issued
    if ("undo" in operation && operation.undo !== null) {
      if (phase === "active" || phase === "recorded") return true
    }
  }
  return false
}

/** Waits for executing steps, at most `drainMs`, and for the journal; then goes on. */
const drain = (execution: Execution, steps: "abort" | "none", then: () => void): void => {
  execution.mode = "ending"
  if (steps === "none") return then()
  for (const issued of execution.open) {
    issued.running?.abort(new Error(`run ${execution.run.workflowRunId} is ending`))
  }
  let patience = true
  const check = () => {
    if (execution.mode === "stopped") return
    if ((execution.executing > 0 && patience) || execution.inFlight > 0) return
    execution.onProgress = null
    timer.interruptUnsafe()
    then()
  }
  const timer = execution.env.fork(
    Effect.andThen(
      Effect.sleep(execution.env.limits.drainMs),
      Effect.sync(() => {
        patience = false
        check()
      }),
    ),
  )
  execution.onProgress = check
  check()
}

/**
 * The earliest record whose failure is the run's error, in its cause chain or among its `errors`,
 * by identity; else the last failure that was delivered.
 */
const failedPosition = (execution: Execution, raw: unknown): number | null => {
  const seen = new Set<unknown>()
  let earliest: number | null = null
  const visit = (error: unknown): void => {
    if (seen.has(error) || seen.size > 1000) return
    seen.add(error)
    const position = execution.failures.get(error)
    if (position !== undefined) {
      earliest = earliest === null ? position : Math.min(earliest, position)
    }
    if (typeof error !== "object" || error === null) return
    const { cause, errors } = error as { cause?: unknown; errors?: unknown }
    if (cause !== undefined) visit(cause)
    if (Array.isArray(errors)) for (const one of errors) visit(one)
  }
  visit(raw)
  return earliest ?? execution.lastFailure
}

// -----------------------------------------------------------------------------
// Compensation
// -----------------------------------------------------------------------------

/**
 * The whole history was delivered to a compensating run: undo, in reverse order of completion.
 */
export const replayed = (execution: Execution): void => {
  execution.mode = "ending"
  const completed = [...execution.records.values()]
    .filter((record) => record.hasCompensate && record.status === "completed")
    .toSorted((a, b) => (b.position ?? 0) - (a.position ?? 0))
  const missing = completed.filter((record) => undoOf(execution, record) === null)
  if (missing.length > 0) {
    const { workflow, workflowRunId } = execution.run
    const stepKeys = missing.map((record) => record.stepKey)
    const error = encodeError(new CompensationMissing({ workflow, workflowRunId, stepKeys }))
    return execution.finish({ _tag: "Pause", error }, { _tag: "paused", error })
  }
  const failed = completed.some((record) => record.compensation?.status === "failed")
  const open = completed.filter(
    (record) => record.compensation === null || record.compensation.status === "retrying",
  )
  undoNext(execution, open, failed)
}

const undoOf = (
  execution: Execution,
  record: StepRecord,
): { readonly issued: Issued; readonly undo: NonNullable<StepOperation["undo"]> } | null => {
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
    const transition = {
      _tag: "Settle",
      status: failed ? "failed" : "compensated",
      result: null,
      error: execution.run.error,
      failedPosition: null,
    } as const
    return execution.finish(transition, { _tag: "settled", transition })
  }
  undoStep(execution, record, record.compensation?.attempts ?? 0, (ok) =>
    undoNext(execution, open, failed || !ok),
  )
}

const undoStep = (
  execution: Execution,
  record: StepRecord,
  attemptsBefore: number,
  then: (ok: boolean) => void,
): void => {
  const { env, run } = execution
  if (execution.mode === "stopped") return
  if (!env.leaseTrusted()) return execution.stop({ _tag: "lost" })
  const found = undoOf(execution, record)
  if (found === null) return
  const { issued, undo } = found
  const attempts = attemptsBefore + 1
  const end = (error: StoredError | null) => {
    issued.running = null
    if (execution.mode === "stopped") return
    if (error !== null && attempts < undo.retry.maxAttempts) return again(error)
    env.hook({ _tag: "compensated", stepKey: record.stepKey, failed: error !== null })
    execution.write({
      compensations: [
        {
          stepKey: record.stepKey,
          status: error === null ? "completed" : "failed",
          attempts,
          error,
        },
      ],
      onCommitted: () => then(error === null),
    })
  }
  const again = (error: StoredError) => {
    const delayMs = delayAfter(undo.retry, attempts, env.random)
    const retrying = {
      stepKey: record.stepKey,
      status: "retrying" as const,
      attempts,
      error,
    }
    if (delayMs > env.limits.shortWaitMs) {
      return execution.finish(
        {
          _tag: "Park",
          status: "sleeping",
          dueAt: null,
          delayMs,
          wakeCounter: execution.signals.wakeCounter,
        },
        { _tag: "parked", woken: false },
        { compensations: [retrying] },
      )
    }
    issued.timer = env.fork(
      Effect.andThen(
        Effect.sleep(delayMs),
        Effect.sync(() => {
          issued.timer = null
          undoStep(execution, record, attempts, then)
        }),
      ),
    )
  }
  const { timeoutMs } = undo
  issued.running = startAttempt({
    fork: env.fork,
    body: (signal) =>
      undo.run(record.result, {
        workflowRunId: run.workflowRunId,
        attempt: attempts,
        idempotencyKey: `${run.workflowRunId}:${record.stepKey}:compensate`,
        signal,
      }),
    limits:
      timeoutMs === null
        ? []
        : [
            {
              afterMs: timeoutMs,
              error: () => new StepTimeout({ stepKey: record.stepKey, timeoutMs }),
            },
          ],
    onEnd: (result: AttemptEnd<void, StoredError>) => {
      switch (result._tag) {
        case "Success":
          return end(null)
        case "Failure":
          return end(result.failure)
        case "Interrupted":
          // whoever told it to stop goes on without it
          return
        default:
          return end(encodeError(result.error))
      }
    },
  })
}
