/**
 * What operators ask of runs beyond cancel, resume and retry, and the log of all of it.
 *
 * None takes a claim. `terminate` takes a run out of its holder's hands by a fresh token; the other
 * verbs change what the holder reads, and wake the run.
 */
import { statusName } from "../Attributes.ts"
import type {
  ControlEntry,
  ForkAnswer,
  ForkPoint,
  PauseAnswer,
  RescheduleAnswer,
  TerminateAnswer,
  WakeAnswer,
} from "../Control.ts"
import type { StoredError } from "../ErrorPayload.ts"
import type { Encoded } from "../Payload.ts"
import { isTerminal } from "../Run.ts"
import { log } from "./controlLog.ts"
import * as DueIndex from "./dueIndex.ts"
import { pause, release, settle, wake } from "./lifecycle.ts"
import { isOpen } from "./reads.ts"
import { requestCancel } from "./requests.ts"
import { freezeError, newRun, type Recorded, type Run, type State } from "./state.ts"

export const terminateRuns = (
  state: State,
  now: number,
  runs: ReadonlyArray<{
    readonly workflowRunId: string
    readonly error: StoredError
    readonly reason: string | null
  }>,
): ReadonlyArray<TerminateAnswer> => {
  const answers = runs.map(({ workflowRunId, error, reason }): TerminateAnswer => {
    const run = state.runs.get(workflowRunId)
    if (run === undefined) return "unknown"
    if (isTerminal(run.status)) return "terminal"
    log(state, run, now, "terminate", reason)
    // Its holder must find the claim lost, not released by itself.
    if (run.workerId !== null) run.token++
    const whole = run.error === null ? error : { ...error, cause: run.error }
    const outcome = {
      status: "cancelled",
      result: null,
      error: whole,
      failedPosition: null,
    } as const
    settle(state, run, outcome, now)
    return "terminated"
  })
  for (const [index, { workflowRunId }] of runs.entries()) {
    if (answers[index] !== "terminated") continue
    for (const child of state.runs.get(workflowRunId)?.children ?? []) {
      if (state.runs.get(child)?.onParentClose === "abandon") continue
      requestCancel(state, now, {
        workflowRunId: child,
        compensate: null,
        reason: "its parent was terminated",
      })
    }
  }
  return answers
}

export const pauseRuns = (
  state: State,
  now: number,
  runs: ReadonlyArray<{
    readonly workflowRunId: string
    readonly error: StoredError
    readonly reason: string | null
  }>,
): ReadonlyArray<PauseAnswer> =>
  runs.map(({ workflowRunId, error, reason }) => {
    const run = state.runs.get(workflowRunId)
    if (run === undefined) return "unknown"
    if (isTerminal(run.status)) return "terminal"
    if (run.status === "paused") return "paused"
    if (run.cancelRequest !== null) return "cancelling"
    if (run.pauseRequest !== null && run.workerId !== null) return "requested"
    log(state, run, now, "pause", reason)
    if (run.workerId === null) {
      pause(state, run, error)
      return "paused"
    }
    const request = Object.freeze({ reason })
    run.pauseRequest = Object.freeze({ request, error: freezeError(error) })
    wake(state, run, now)
    return "requested"
  })

export const wakeRuns = (
  state: State,
  now: number,
  options: {
    readonly workflowRunIds: ReadonlyArray<string>
    readonly endSleeps: boolean
    readonly reason: string | null
  },
): ReadonlyArray<WakeAnswer> =>
  options.workflowRunIds.map((workflowRunId) => {
    const run = state.runs.get(workflowRunId)
    if (run === undefined) return "unknown"
    if (isTerminal(run.status)) return "terminal"
    if (options.endSleeps) {
      log(state, run, now, "wake", options.reason)
      endSleeps(run, now)
      const backsOff = run.status === "pending" && run.startedAt !== null && run.workerId === null
      if (backsOff) release(state, run, "pending", Math.min(run.dueAt ?? now, now))
    }
    wake(state, run, now)
    return "woken"
  })

const endSleeps = (run: Run, now: number): void => {
  for (const [stepKey, { wakeAt }] of run.timers) {
    if (isOpen(run, stepKey) && wakeAt > now) setTimer(run, stepKey, now)
  }
  for (const [stepKey, entry] of run.records) {
    const { retryAt } = entry.record
    if (retryAt === null || retryAt <= now) continue
    run.records.set(stepKey, { ...entry, record: Object.freeze({ ...entry.record, retryAt: now }) })
  }
}

const setTimer = (run: Run, stepKey: string, wakeAt: number): void => {
  run.timers.set(stepKey, Object.freeze({ stepKey, wakeAt }))
}

export const rescheduleRuns = (
  state: State,
  now: number,
  options: {
    readonly workflowRunIds: ReadonlyArray<string>
    readonly at: number
    readonly sleep: string | null
    readonly reason: string | null
  },
): ReadonlyArray<RescheduleAnswer> =>
  options.workflowRunIds.map((workflowRunId) => {
    const run = state.runs.get(workflowRunId)
    if (run === undefined) return "unknown"
    if (isTerminal(run.status)) return "terminal"
    const { at, sleep, reason } = options
    if (run.startedAt === null && sleep === null) {
      log(state, run, now, "reschedule", reason, { at })
      run.scheduledFor = at
      if (run.timeoutMs !== null) run.deadlineAt = Math.max(run.createdAt, at) + run.timeoutMs
      // a paused one is due when it is resumed
      if (run.status === "pending") release(state, run, "pending", Math.max(at, now))
      return "rescheduled"
    }
    const open = [...run.timers.keys()].filter((key) => isOpen(run, key))
    const sleeps = sleep === null ? open : open.filter((key) => key === sleep)
    const [stepKey] = sleeps
    if (stepKey === undefined) return "no-sleep"
    if (sleeps.length > 1) return "ambiguous"
    log(state, run, now, "reschedule", reason, { at, sleep: stepKey })
    setTimer(run, stepKey, at)
    wake(state, run, now)
    return "rescheduled"
  })

export const forkRuns = (
  state: State,
  now: number,
  forks: ReadonlyArray<{
    readonly workflowRunId: string
    readonly from: ForkPoint
    readonly newRunId: string
    readonly input: Encoded | null
    readonly reason: string | null
  }>,
): ReadonlyArray<ForkAnswer> =>
  forks.map(({ workflowRunId, from, newRunId, input, reason }) => {
    if (state.runs.has(newRunId)) return "forked"
    const origin = state.runs.get(workflowRunId)
    if (origin === undefined) return "unknown"
    const before = positionOf(origin, from)
    if (before === null) return "no-step"
    const { workflow, version, priority, maxAttempts, timeoutMs } = origin
    const row = newRun(
      {
        workflowRunId: newRunId,
        workflow,
        version,
        input: input ?? origin.input,
        priority,
        scheduledFor: null,
        timeoutMs,
        maxAttempts,
        idempotencyKey: null,
        concurrencyKey: null,
        parent: null,
      },
      now,
    )
    // Woken once: the first claim of it reads its history.
    row.wakeCounter = 1
    for (const [name, value] of origin.attributes) {
      if (name !== statusName) row.attributes.set(name, value)
    }
    row.seed = origin.seed
    row.dueAt = now
    for (const [stepKey, entry] of origin.records) {
      const { position } = entry.record
      if (position === null || position >= before) continue
      row.records.set(stepKey, copyOf(entry))
      const timer = origin.timers.get(stepKey)
      if (timer !== undefined) row.timers.set(stepKey, timer)
    }
    state.runs.set(newRunId, row)
    DueIndex.enter(state.due, row)
    log(state, row, now, "fork", reason, { origin: workflowRunId, ...detailOf(from) })
    return "forked"
  })

/** Written under no token, consuming no event of the new run, undone in no way. */
const copyOf = (entry: Recorded): Recorded => ({
  record: Object.freeze({ ...entry.record, compensation: null }),
  token: 0,
  compensationToken: null,
  eventId: null,
})

const positionOf = (origin: Run, from: ForkPoint): number | null => {
  if (from === null) return Infinity
  if ("position" in from) return from.position
  return origin.records.get(from.stepKey)?.record.position ?? null
}

const detailOf = (from: ForkPoint): ControlEntry["detail"] => (from === null ? {} : { ...from })
