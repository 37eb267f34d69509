/**
 * How an execution ends: success, failure, cancel, timeout. The undoing itself is in `undoing.ts`.
 *
 * A run that has something to undo, or tries left, first waits for its executing steps (bounded)
 * and records how they ended: `Promise.all([slowCharge, fails])` must undo the charge. Only then
 * is the change of status committed. Undoing is a replay of its own, so that a crash at any point
 * takes the same path (promise 10).
 */
import * as Effect from "effect/Effect"
import type { StoredError } from "../ErrorPayload.ts"
import { encodeError } from "../ErrorPayload.ts"
import { RunCancelled, RunTimedOut } from "../FlowlyError.ts"
import { delayAfter, make as makePolicy } from "../RetryPolicy.ts"
import { isTerminal, type TerminalStatus } from "../Run.ts"
import type { BodyEnd, Execution } from "./Execution.ts"
import { settle } from "./settling.ts"
import { start } from "./steps.ts"
import { mayUndo, undoable } from "./undoing.ts"

/** Between attempts of a whole run. */
const betweenAttempts = makePolicy({ maxAttempts: Number.MAX_SAFE_INTEGER, jitter: true })

/**
 * The body has returned or thrown.
 */
export const bodyEnded = (execution: Execution, end: BodyEnd): void => {
  if (end._tag === "Success") return succeed(execution, end)
  const { error } = end
  if (end._tag === "Unreadable") {
    return execution.finish({ _tag: "Pause", error }, { _tag: "paused", error })
  }
  startEmits(execution)
  const { run } = execution
  if (run.attempt < (run.maxAttempts ?? 1)) {
    return drain(execution, "abort", () =>
      execution.finish(
        {
          _tag: "RetryRun",
          failedPosition: failedPosition(execution, end.raw),
          delayMs: delayAfter(betweenAttempts, run.attempt, execution.env.random),
          error,
        },
        { _tag: "retrying", error },
      ),
    )
  }
  giveUp(execution, error, {
    status: run.maxAttempts === null ? "failed" : "dead_letter",
    failedPosition: failedPosition(execution, end.raw),
    compensate: execution.env.compensateOn.failure,
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
    // the caller's word goes before the workflow's
    compensate: signals.cancelRequest?.compensate ?? execution.env.compensateOn.cancel,
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
    compensate: execution.env.compensateOn.timeout,
  })
}

/** An emit that the body did not wait for is still meant, however the body ended. */
const startEmits = (execution: Execution): void => {
  for (const issued of execution.open) {
    if (issued.operation.kind !== "emit" || issued.phase !== "unstarted") continue
    if (!execution.records.has(issued.key)) start(execution, issued)
  }
}

const succeed = (execution: Execution, end: Extract<BodyEnd, { _tag: "Success" }>): void => {
  startEmits(execution)
  settle(execution, {
    status: "completed",
    result: end.result,
    error: null,
    failedPosition: null,
  })
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
    const { status, failedPosition } = options
    settle(execution, { status, result: null, error, failedPosition })
  }
  const proceed = () => drain(execution, mayUndo(execution) ? "abort" : "none", conclude)
  afterInserts(execution, () => {
    const children = childrenToCancel(execution)
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

/**
 * The open children that do not outlive the run.
 */
export const childrenToCancel = (execution: Execution): ReadonlyArray<string> =>
  [...execution.children.values()]
    .filter((child) => !isTerminal(child.status) && child.onParentClose === "cancel")
    .map((child) => child.workflowRunId)

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
