/**
 * What a history says of operations: which have an outcome, and which were only begun.
 */
import { encodeError } from "../ErrorPayload.ts"
import type { RunHistory, StepRecord } from "../WorkflowStore.ts"
import type { Execution } from "./Execution.ts"
import type { Operation, Outcome } from "./Operation.ts"

/** A record, or what an operation left behind that had begun: timer, child, stored backoff. */
export interface Known {
  readonly key: string
  readonly kind: Operation["kind"]
  readonly position: number
}

export interface Queued extends Known {
  readonly outcome: Outcome
  readonly at: number | null
}

/** A final record, to be delivered. */
export const toQueued = (record: StepRecord): Queued => ({
  key: record.stepKey,
  kind: record.kind,
  position: record.position ?? 0,
  at: record.completedAt,
  outcome:
    record.status === "completed"
      ? { _tag: "Success", result: record.result }
      : { _tag: "Failure", error: record.error ?? encodeError(undefined) },
})

/**
 * What executions before this one had begun and not recorded, in this attempt: the same code asks
 * for it again, once it has seen the same records. Timers do not tell their attempt; those of an
 * earlier one may lie on a path that this one does not take.
 */
export const begunBefore = (
  execution: Execution,
  history: RunHistory,
  position: number,
): ReadonlyArray<Known> => {
  const { attempt } = execution.run
  const begun = new Map<string, Known>()
  const note = (key: string, kind: Operation["kind"]) => {
    if (!execution.records.has(key)) begun.set(key, { key, kind, position })
  }
  if (attempt === 1) for (const timer of history.timers) note(timer.stepKey, "sleep")
  for (const child of history.children) {
    if (child.parentAttempt === attempt) note(child.stepKey, "child")
  }
  for (const record of execution.retrying.values()) note(record.stepKey, record.kind)
  return [...begun.values()]
}

/** What a compensating run must undo though its outcome is not known. */
export const unknownBefore = (execution: Execution, position: number): ReadonlyArray<Known> =>
  [...execution.retrying.values()]
    .filter((record) => record.hasCompensate)
    .map(({ stepKey, kind }) => ({ key: stepKey, kind, position }))

/** A timer may be that of a sleep or of the timeout of an event. */
export const isSameKind = (known: Known, operation: Operation): boolean =>
  operation.kind === known.kind || (known.kind === "sleep" && operation.kind === "event")
