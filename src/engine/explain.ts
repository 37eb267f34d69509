/**
 * Why a run does not move: one answer, with its evidence.
 *
 * Pure over what the store tells of the run and what stands around it. What a run that somebody holds
 * is doing, only its holder knows: if that is this process, it is asked.
 */
import type { StoredError } from "../ErrorPayload.ts"
import { summarize } from "../ErrorPayload.ts"
import { isTerminal, type RunStatus, type TerminalStatus } from "../Run.ts"
import type { ParkedWait, Situation, WorkerState, WorkflowRef } from "../WorkflowStore.ts"

/**
 * Something that a parked run waits for. Times are epoch milliseconds of the store's clock; `null`
 * waits without a limit.
 *
 * @category models
 * @since 0.1.0
 */
export type WaitingFor =
  | { readonly kind: "sleep"; readonly stepKey: string; readonly until: number }
  | {
      readonly kind: "event"
      readonly stepKey: string
      readonly event: string
      readonly until: number | null
    }
  | {
      readonly kind: "child"
      readonly stepKey: string
      readonly workflowRunId: string
      readonly status: RunStatus
    }
  | {
      readonly kind: "backoff"
      readonly stepKey: string
      /** The one that comes next, from 1. */
      readonly attempt: number
      readonly maxAttempts: number
      readonly until: number
    }

/**
 * Why a run does not move.
 *
 * - `settled`: it has ended. `keyHolder`: the active run that has its concurrency key, so that a
 *   retry is refused.
 * - `paused`: by an operator, or because its code and its history do not fit (`reason` says which).
 * - `executing`: a worker holds it. `steps`: what it executes, where that worker is of this process.
 * - `lapsed`: its worker has not renewed its lease: the next sweep gives the run to another one.
 * - `waiting`: for any of these, whichever comes first.
 * - `scheduled`: it has not started, and is not due yet.
 * - `backing-off`: as a whole, after an attempt that failed or a worker that died.
 * - `no-worker`: it is due, but no live worker knows its workflow in its version.
 * - `queued`: it is due, and `ahead` others are taken before it (at most 1,000 are counted).
 *
 * @category models
 * @since 0.1.0
 */
export type Explanation = {
  readonly workflowRunId: string
  readonly status: RunStatus
  /** The answer as one line, for people. */
  readonly summary: string
  /** The moment that it is true of, by the store's clock. */
  readonly now: number
} & (
  | {
      readonly _tag: "settled"
      readonly status: TerminalStatus
      readonly at: number
      readonly error: StoredError | null
      readonly keyHolder: string | null
    }
  | { readonly _tag: "paused"; readonly reason: StoredError; readonly byOperator: boolean }
  | {
      readonly _tag: "executing" | "lapsed"
      readonly worker: {
        readonly workerId: string
        readonly label: string
        readonly heartbeatAt: number
        readonly leaseExpiresAt: number
      }
      readonly steps: ReadonlyArray<string> | null
      readonly lastStep: { readonly stepKey: string; readonly completedAt: number } | null
      /** What its holder was asked, and has not done yet. */
      readonly asked: "cancel" | "pause" | null
    }
  | { readonly _tag: "waiting"; readonly for: ReadonlyArray<WaitingFor> }
  | { readonly _tag: "scheduled"; readonly until: number }
  | {
      readonly _tag: "backing-off"
      readonly attempt: number
      readonly maxAttempts: number | null
      readonly crashes: number
      readonly until: number
      readonly error: StoredError | null
    }
  | {
      readonly _tag: "no-worker"
      readonly workflow: string
      readonly version: string | null
      readonly workers: number
      /** Versions of this workflow that live workers have. */
      readonly versions: ReadonlyArray<string | null>
    }
  | { readonly _tag: "queued"; readonly ahead: number; readonly since: number }
)

const at = (time: number): string => new Date(time).toISOString()

/**
 * The explanation of a situation. `executing`: the steps that this process executes of the run, if
 * it holds it.
 */
export const explain = (
  situation: Situation,
  executing: ReadonlyArray<string> | null,
): Explanation => {
  const { run, now } = situation
  const { workflowRunId, status } = run
  const base = { workflowRunId, status, now }
  if (isTerminal(status)) {
    const ended = run.completedAt ?? now
    const keyHolder = situation.keyHolder === workflowRunId ? null : situation.keyHolder
    const why = run.error === null ? "" : `: ${summarize(run.error)}`
    const summary = `it is ${status} since ${at(ended)}${why}`
    return { ...base, status, summary, _tag: "settled", at: ended, error: run.error, keyHolder }
  }
  if (status === "paused") {
    const reason = run.pauseReason ?? { name: "Error", message: "no reason was recorded" }
    const summary = `it is paused: ${summarize(reason)}`
    return { ...base, summary, _tag: "paused", reason, byOperator: reason.tag === "RunPaused" }
  }
  if (run.workerId !== null) return held(situation, executing)
  if (run.dueAt === null || run.dueAt > now) return notDue(situation)
  return due(situation)
}

type Base = Pick<Explanation, "workflowRunId" | "status" | "now">

const baseOf = ({ run, now }: Situation): Base => ({
  workflowRunId: run.workflowRunId,
  status: run.status,
  now,
})

const held = (situation: Situation, executing: ReadonlyArray<string> | null): Explanation => {
  const { run, holder, lastStep, now } = situation
  const { workerId, label, heartbeatAt, leaseExpiresAt } = holder ?? forgotten(run.workerId ?? "")
  const isLive = leaseExpiresAt > now
  const where = `worker "${label}" (${workerId}), last heartbeat at ${at(heartbeatAt)}`
  const steps = executing === null ? "" : `, executing ${executing.join(", ") || "no step"}`
  return {
    ...baseOf(situation),
    _tag: isLive ? "executing" : "lapsed",
    summary: isLive
      ? `it is held by ${where}${steps}`
      : `its lease lapsed at ${at(leaseExpiresAt)}: it was held by ${where}`,
    worker: { workerId, label, heartbeatAt, leaseExpiresAt },
    steps: executing,
    lastStep,
    asked: run.cancelRequest !== null ? "cancel" : run.pauseRequest !== null ? "pause" : null,
  }
}

/** A worker whose row is gone: dead for long. */
const forgotten = (workerId: string): Omit<WorkerState, "capacity" | "workflows" | "isLive"> => ({
  workerId,
  label: "unknown",
  heartbeatAt: 0,
  leaseExpiresAt: 0,
})

const notDue = (situation: Situation): Explanation => {
  const { run } = situation
  const base = baseOf(situation)
  const waits = run.status === "pending" ? [] : situation.waits.flatMap(waitIn(situation))
  if (run.dueAt === null || waits.length > 0) {
    const summary = `it waits for ${waits.map(describe).join(", or ") || "something to wake it"}`
    return { ...base, summary, _tag: "waiting", for: waits }
  }
  const until = run.dueAt
  if (run.startedAt === null) {
    return { ...base, _tag: "scheduled", until, summary: `it is scheduled for ${at(until)}` }
  }
  const { attempt, maxAttempts, crashCount: crashes, error } = run
  const of = maxAttempts === null ? "" : ` of ${maxAttempts}`
  const why = crashes > 0 ? `, after ${crashes} workers died with it` : ""
  const summary = `it backs off until ${at(until)}, attempt ${attempt}${of}${why}`
  return { ...base, _tag: "backing-off", attempt, maxAttempts, crashes, until, error, summary }
}

const waitIn =
  ({ children, dueTimes }: Situation) =>
  (wait: ParkedWait): ReadonlyArray<WaitingFor> => {
    const { stepKey } = wait
    // others may have moved it since the run has parked
    const moved = dueTimes.find((one) => one.stepKey === stepKey)?.wakeAt
    const until = moved ?? wait.until
    switch (wait.kind) {
      case "child": {
        const child = children.find((one) => one.stepKey === stepKey)
        if (child === undefined) return []
        const { workflowRunId, status } = child
        return [{ kind: "child", stepKey, workflowRunId, status }]
      }
      case "event":
        return [{ kind: "event", stepKey, event: wait.event ?? stepKey, until }]
      case "sleep":
        return until === null ? [] : [{ kind: "sleep", stepKey, until }]
      case "backoff": {
        const { attempt, maxAttempts } = wait
        if (until === null || attempt === null || maxAttempts === null) return []
        return [{ kind: "backoff", stepKey, attempt, maxAttempts, until }]
      }
    }
  }

const describe = (wait: WaitingFor): string => {
  switch (wait.kind) {
    case "sleep":
      return `the end of sleep "${wait.stepKey}" at ${at(wait.until)}`
    case "event":
      return `event "${wait.event}"${wait.until === null ? "" : ` until ${at(wait.until)}`}`
    case "child":
      return `child "${wait.stepKey}" (run ${wait.workflowRunId}, ${wait.status})`
    case "backoff":
      return (
        `attempt ${wait.attempt} of ${wait.maxAttempts} of step "${wait.stepKey}" at ` +
        at(wait.until)
      )
  }
}

const due = (situation: Situation): Explanation => {
  const { run, workers, ahead, now } = situation
  const base = baseOf(situation)
  const { workflow, version } = run
  const known = workers.flatMap((worker) => worker.workflows)
  const knows = (one: WorkflowRef) => one.name === workflow && one.version === version
  if (!known.some(knows)) {
    const ofName = known.filter((one) => one.name === workflow)
    const versions = [...new Set(ofName.map((one) => one.version))]
    const what = `workflow "${workflow}"${version === null ? "" : ` in version "${version}"`}`
    const others =
      versions.length === 0
        ? ""
        : `; they have ${versions.map((one) => (one === null ? "none" : `"${one}"`)).join(", ")}`
    const summary = `it is due, but none of ${workers.length} live workers knows ${what}${others}`
    const count = workers.length
    return { ...base, summary, _tag: "no-worker", workflow, version, workers: count, versions }
  }
  const since = run.dueAt ?? now
  const summary = `it is due since ${at(since)}, and ${ahead} others are taken before it`
  return { ...base, summary, _tag: "queued", ahead, since }
}
