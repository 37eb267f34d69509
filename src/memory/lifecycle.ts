/**
 * The moves of a run: claim, release, wake, settle. Every status change of the memory store goes
 * through `moveTo`, which refuses what the transition table does not name (I8), and every change of
 * claim through `claim`, `release` and `settle`, which keep the indexes true.
 */
import type { StoredError } from "../ErrorPayload.ts"
import { canTransition, isTerminal, type RunStatus, type TerminalStatus } from "../Run.ts"
import type { Encoded } from "../Payload.ts"
import type { ClaimedRun } from "../WorkflowStore.ts"
import * as DueIndex from "./dueIndex.ts"
import {
  compositeKey,
  freezeEncoded,
  freezeError,
  type Run,
  signalsOf,
  type State,
} from "./state.ts"

/** A status change that the table does not name is a bug of the caller: thrown, a defect. */
export const assertTransition = (run: Run, to: RunStatus): void => {
  if (!canTransition(run.status, to)) {
    throw new Error(`run ${run.workflowRunId}: ${run.status} cannot become ${to}`)
  }
}

const moveTo = (run: Run, to: RunStatus): void => {
  assertTransition(run, to)
  run.status = to
}

/** Whether this very claim still holds the run (I3): a worker is named, and the token is equal. */
export const isHeld = (run: Run | undefined, token: number): run is Run & { workerId: string } =>
  run !== undefined && run.workerId !== null && run.token === token

/** The lease of a live worker, by the store's clock. */
export const hasLiveLease = (state: State, workerId: string, now: number): boolean => {
  const worker = state.workers.get(workerId)
  return worker !== undefined && worker.leaseExpiresAt > now
}

/** Gives the run, which is in nobody's hands, to a worker whose lease was checked. */
export const claim = (state: State, run: Run, workerId: string, now: number): ClaimedRun => {
  const hasHistory = run.startedAt !== null || run.wakeCounter > 0
  DueIndex.leave(run)
  moveTo(run, run.compensating ? "compensating" : "running")
  run.workerId = workerId
  run.token++
  run.progressed = false
  run.dueAt = null
  run.startedAt ??= now
  state.workers.get(workerId)!.claims.add(run.workflowRunId)
  return Object.freeze({
    ...signalsOf(run, now),
    workflowRunId: run.workflowRunId,
    workflow: run.workflow,
    version: run.version,
    token: run.token,
    seed: run.seed,
    compensating: run.compensating,
    attempt: run.attempt,
    maxAttempts: run.maxAttempts,
    input: run.input,
    error: run.error,
    parent: run.parent,
    createdAt: run.createdAt,
    startedAt: run.startedAt,
    deadlineAt: run.deadlineAt,
    crashCount: run.crashCount,
    hasHistory,
  })
}

const dropClaim = (state: State, run: Run): void => {
  if (run.workerId === null) return
  state.workers.get(run.workerId)?.claims.delete(run.workflowRunId)
  run.workerId = null
}

/** Makes the run nobody's. A compensating run keeps its status, unless it is paused. */
export const release = (
  state: State,
  run: Run,
  to: "pending" | "sleeping" | "waiting" | "paused",
  dueAt: number | null,
): void => {
  moveTo(run, run.compensating && to !== "paused" ? "compensating" : to)
  dropClaim(state, run)
  run.dueAt = dueAt
  DueIndex.enter(state.due, run)
}

/**
 * Makes the run nobody's after its holder: paused, if somebody asked for that. A cancel request and a
 * request to pause never stand beside each other.
 */
export const letGo = (
  state: State,
  run: Run,
  to: "pending" | "sleeping" | "waiting",
  dueAt: number | null,
): void => {
  if (run.pauseRequest === null) return release(state, run, to, dueAt)
  pause(state, run, run.pauseRequest.error)
}

/** Nobody claims the run until it is resumed, or cancelled. */
export const pause = (state: State, run: Run, error: StoredError): void => {
  run.pauseReason = freezeError(error)
  run.pauseRequest = null
  release(state, run, "paused", null)
}

export const resetCrashes = (run: Run): void => {
  run.crashCount = 0
  run.crashedWorkers = []
}

/** The run's deadline is part of its due time, but not while it undoes. */
export const withDeadline = (run: Run, dueAt: number | null): number | null => {
  if (run.compensating || run.deadlineAt === null) return dueAt
  return dueAt === null ? run.deadlineAt : Math.min(dueAt, run.deadlineAt)
}

/** Something happened that the run may wait for. Parking compares the counter (no lost wake-up). */
export const wake = (state: State, run: Run, now: number): void => {
  if (isTerminal(run.status)) return
  run.wakeCounter++
  if (run.workerId !== null) return
  if (run.status === "sleeping" || run.status === "waiting" || run.status === "compensating") {
    release(state, run, "pending", Math.min(run.dueAt ?? now, now))
  }
}

/** Ends the run, and wakes its parent in the same step. */
export const settle = (
  state: State,
  run: Run,
  outcome: {
    readonly status: TerminalStatus
    readonly result: Encoded | null
    readonly error: StoredError | null
    readonly failedPosition: number | null | "none"
  },
  now: number,
): void => {
  moveTo(run, outcome.status)
  dropClaim(state, run)
  DueIndex.leave(run)
  resetCrashes(run)
  run.dueAt = null
  run.pauseReason = null
  run.pauseRequest = null
  run.result = outcome.result === null ? null : freezeEncoded(outcome.result)
  if (outcome.error !== null) run.error = freezeError(outcome.error)
  else if (!run.compensating) run.error = null
  run.failedPosition = outcome.failedPosition
  run.completedAt = now
  if (run.concurrencyKey !== null) {
    state.concurrency.delete(compositeKey(run.workflow, run.concurrencyKey))
  }
  const parent = run.parent === null ? undefined : state.runs.get(run.parent.workflowRunId)
  if (parent !== undefined) wake(state, parent, now)
}

/**
 * Begins the next attempt: failed records from `from` on and all `retrying` ones go, with their
 * timers; completed ones after it are carried; an event that a removed record had consumed is free.
 */
export const startNextAttempt = (run: Run, failedPosition: number | null | "none"): void => {
  const from = failedPosition ?? lastFailedPosition(run)
  for (const [stepKey, entry] of run.records) {
    const { record } = entry
    const isAfter = from !== "none" && record.position !== null && record.position >= from
    if (record.status === "retrying" || (record.status === "failed" && isAfter)) {
      run.records.delete(stepKey)
      run.timers.delete(stepKey)
    } else if (isAfter && !record.carried) {
      run.records.set(stepKey, { ...entry, record: Object.freeze({ ...record, carried: true }) })
    }
  }
  run.attempt++
}

const lastFailedPosition = (run: Run): number | "none" => {
  let last: number | "none" = "none"
  for (const { record } of run.records.values()) {
    if (record.status !== "failed" || record.position === null) continue
    last = last === "none" ? record.position : Math.max(last, record.position)
  }
  return last
}
