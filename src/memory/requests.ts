/**
 * What others ask of a run: cancel, resume, retry, events. None of these takes a claim: of a
 * claimed run they change the request and the wake counter only, and the holder acts.
 */
import { isTerminal } from "../Run.ts"
import type { Encoded } from "../Payload.ts"
import { log } from "./controlLog.ts"
import { release, resetCrashes, settle, startNextAttempt, wake } from "./lifecycle.ts"
import { pendingEvents } from "./reads.ts"
import { compositeKey, type Run, freezeEncoded, type State } from "./state.ts"

export const requestCancel = (
  state: State,
  now: number,
  options: {
    readonly workflowRunId: string
    readonly compensate: boolean | null
    readonly reason: string | null
  },
): "cancelled" | "requested" | "terminal" | "compensating" | "unknown" => {
  const run = state.runs.get(options.workflowRunId)
  if (run === undefined) return "unknown"
  if (isTerminal(run.status)) return "terminal"
  if (run.compensating) return "compensating"
  const { compensate, reason } = options
  run.cancelRequest ??= Object.freeze({ compensate, reason })
  run.pauseRequest = null
  log(state, run, now, "cancel", reason, compensate === null ? {} : { compensate })
  if (run.startedAt === null) {
    const outcome = {
      status: "cancelled",
      result: null,
      error: null,
      failedPosition: null,
    } as const
    settle(state, run, outcome, now)
    return "cancelled"
  }
  wake(state, run, now)
  // Also from a backoff, and from a pause that no claim would ever end.
  if (run.workerId === null) resume(state, run, Math.min(run.dueAt ?? now, now))
  return "requested"
}

export const cancelOrphans = (
  state: State,
  now: number,
  { limit }: { readonly limit: number },
): number => {
  let parents = 0
  for (const parent of state.runs.values()) {
    if (parents >= limit) break
    if (!isTerminal(parent.status)) continue
    const orphans = parent.children.filter((id) => isOrphan(state.runs.get(id)))
    for (const workflowRunId of orphans) {
      requestCancel(state, now, { workflowRunId, compensate: null, reason: "its parent ended" })
    }
    if (orphans.length > 0) parents++
  }
  return parents
}

const isOrphan = (run: Run | undefined): boolean =>
  run !== undefined &&
  run.onParentClose === "cancel" &&
  !isTerminal(run.status) &&
  !run.compensating &&
  run.cancelRequest === null

/** A run that never started keeps its time. */
const firstDue = (run: Run, now: number): number => Math.max(run.scheduledFor ?? now, now)

const resume = (state: State, run: Run, dueAt: number): void => {
  run.pauseReason = null
  release(state, run, "pending", dueAt)
}

export const resumeRun = (
  state: State,
  now: number,
  workflowRunId: string,
  reason: string | null,
): "resumed" | "not-paused" | "unknown" => {
  const run = state.runs.get(workflowRunId)
  if (run === undefined) return "unknown"
  if (run.status !== "paused" && run.pauseRequest === null) return "not-paused"
  run.pauseRequest = null
  log(state, run, now, "resume", reason)
  const isStarted = run.startedAt !== null
  if (run.status === "paused") resume(state, run, isStarted ? now : firstDue(run, now))
  else wake(state, run, now)
  return "resumed"
}

export const retryRun = (
  state: State,
  now: number,
  workflowRunId: string,
  reason: string | null,
): "retried" | "not-retryable" | "unknown" => {
  const run = state.runs.get(workflowRunId)
  if (run === undefined) return "unknown"
  if (run.status !== "failed" && run.status !== "dead_letter") return "not-retryable"
  if (run.compensating) return "not-retryable"
  if (run.concurrencyKey !== null) {
    const key = compositeKey(run.workflow, run.concurrencyKey)
    if (state.concurrency.has(key)) return "not-retryable"
    state.concurrency.set(key, workflowRunId)
  }
  log(state, run, now, "retry", reason)
  startNextAttempt(run, run.failedPosition)
  resetCrashes(run)
  run.error = null
  run.failedPosition = null
  run.cancelRequest = null
  run.completedAt = null
  run.deadlineAt = run.timeoutMs === null ? null : now + run.timeoutMs
  release(state, run, "pending", now)
  return "retried"
}

interface EventToSend {
  readonly workflowRunId: string
  readonly name: string
  readonly payload: Encoded
  readonly id: string | null
}

export const sendEvents = (
  state: State,
  now: number,
  events: ReadonlyArray<EventToSend>,
  maxPending: number,
): ReadonlyArray<"sent" | "duplicate" | "terminal" | "full" | "unknown"> =>
  events.map((event) => {
    const run = state.runs.get(event.workflowRunId)
    if (run === undefined) return "unknown"
    if (wasSent(run, event.id)) return "duplicate"
    if (isTerminal(run.status)) return "terminal"
    if (run.events.length >= maxPending && pendingEvents(run).length >= maxPending) return "full"
    const { workflowRunId, name, id } = event
    const eventId = ++state.lastEventId
    const payload = freezeEncoded(event.payload)
    const row = { eventId, workflowRunId, direction: "sent", name, payload, id, createdAt: now }
    run.events.push(Object.freeze(row as typeof row & { readonly direction: "sent" }))
    wake(state, run, now)
    return "sent"
  })

const wasSent = (run: Run, id: string | null): boolean =>
  id !== null && run.events.some((event) => event.direction === "sent" && event.id === id)
