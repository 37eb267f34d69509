/**
 * An operator's word on undos: tried again, or skipped.
 */
import { isTerminal } from "../Run.ts"
import type { StepRecord } from "../WorkflowStore.ts"
import { release, resetCrashes } from "./lifecycle.ts"
import { compositeKey, type Run, type State } from "./state.ts"

export const reviseCompensation = (
  state: State,
  now: number,
  options: {
    readonly workflowRunId: string
    readonly stepKey: string | null
    readonly verb: "retry" | "skip"
  },
): "revised" | "nothing" | "which" | "refused" | "unknown" => {
  const { workflowRunId, stepKey, verb } = options
  const run = state.runs.get(workflowRunId)
  if (run === undefined) return "unknown"
  const ended = isTerminal(run.status)
  if (!run.compensating || run.workerId !== null || !isRevisable(run, verb)) return "refused"
  if (stepKey === null && !ended) return "which"
  const meant = [...run.records.values()].filter(
    ({ record }) =>
      (stepKey === null || record.stepKey === stepKey) && isOpen(record, run.status === "failed"),
  )
  if (meant.length === 0) return "nothing"
  if (ended && !takeConcurrencyKey(state, run)) return "refused"
  for (const entry of meant) {
    const { compensation } = entry.record
    const revised =
      verb === "skip"
        ? { status: "skipped" as const, attempts: compensation?.attempts ?? 0 }
        : { status: "retrying" as const, attempts: 0 }
    const record = Object.freeze({
      ...entry.record,
      compensation: Object.freeze({
        ...revised,
        error: compensation?.error ?? null,
        retryAt: null,
      }),
    })
    run.records.set(record.stepKey, { ...entry, record })
  }
  run.completedAt = null
  run.pauseReason = null
  resetCrashes(run)
  release(state, run, "pending", now)
  return "revised"
}

const isRevisable = ({ status }: Run, verb: "retry" | "skip"): boolean =>
  status === "failed" ||
  status === "dead_letter" ||
  (verb === "skip" && (status === "paused" || status === "compensating"))

/** Of a run that failed all undos have ended; of others, also those that have not. */
const isOpen = ({ hasCompensate, compensation }: StepRecord, gaveUp: boolean): boolean =>
  gaveUp
    ? compensation?.status === "failed"
    : hasCompensate && (compensation === null || !isDone(compensation.status))

const isDone = (status: string): boolean => status === "completed" || status === "skipped"

const takeConcurrencyKey = (state: State, run: Run): boolean => {
  if (run.concurrencyKey === null) return true
  const key = compositeKey(run.workflow, run.concurrencyKey)
  if (state.concurrency.has(key)) return false
  state.concurrency.set(key, run.workflowRunId)
  return true
}
