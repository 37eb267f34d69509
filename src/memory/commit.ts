/**
 * The journal's batch: each run's write is fenced by its token and applied whole or not at all.
 *
 * Every part is idempotent by its natural key, so that a write whose answer was lost can be sent
 * again: records, timers and children by step key, emitted events by the record beside them. The
 * transition needs no key: a run that we still hold has not made it.
 */
import {
  type Claim,
  type CompensationWrite,
  endsByTimer,
  type RecordWrite,
  type RunWrite,
  type StepRecord,
  type TimerRow,
  type TimerWrite,
  type Transition,
  type WriteAnswer,
} from "../WorkflowStore.ts"
import { findChild, insertChild } from "./inserts.ts"
import {
  assertTransition,
  isHeld,
  letGo,
  pause,
  resetCrashes,
  settle,
  startNextAttempt,
  withDeadline,
} from "./lifecycle.ts"
import { freezeEncoded, freezeError, type Run, signalsOf, type State } from "./state.ts"

export const commit = (
  state: State,
  now: number,
  writes: ReadonlyArray<RunWrite>,
): ReadonlyArray<WriteAnswer> => {
  assertBatch(state, writes)
  return writes.map((write): WriteAnswer => {
    const { workflowRunId } = write
    const run = state.runs.get(workflowRunId)
    // The fence (I3). Token 0 was never minted: nobody has claimed the run yet.
    if (run === undefined || run.token !== write.token || write.token === 0) {
      return { _tag: "lost", workflowRunId }
    }
    if (!isHeld(run, write.token)) {
      if (!wasApplied(run, write)) return { _tag: "lost", workflowRunId }
      return answer(state, run, write, now)
    }
    apply(state, now, run, write)
    return answer(state, run, write, now)
  })
}

/** Of a transactional step: its record alone. */
export const commitRecord = (
  state: State,
  now: number,
  { workflowRunId, token }: Claim,
  record: RecordWrite,
): Exclude<WriteAnswer, { readonly _tag: "busy" }> => {
  const [answered] = commit(state, now, [
    {
      workflowRunId,
      token,
      timers: [],
      records: [record],
      children: [],
      emitted: [],
      compensations: [],
      transition: null,
    },
  ])
  if (answered?._tag === "committed") return answered
  return { _tag: "lost", workflowRunId }
}

/** What became of it: `null`, where it was not committed. */
export const outcomeOf = (
  state: State,
  now: number,
  claim: Claim,
  record: RecordWrite,
): Exclude<WriteAnswer, { readonly _tag: "busy" }> | null => {
  const run = state.runs.get(claim.workflowRunId)
  const lost = { _tag: "lost", workflowRunId: claim.workflowRunId } as const
  if (run === undefined || run.token !== claim.token) return lost
  const standing = run.records.get(record.stepKey)
  const stands = standing?.token === claim.token && standing.record.completedAt !== null
  if (stands) return commitRecord(state, now, claim, record)
  return isHeld(run, claim.token) ? null : lost
}

/** What no correct caller sends. Looked for before anything is applied: the verb stays atomic. */
const assertBatch = (state: State, writes: ReadonlyArray<RunWrite>): void => {
  const seen = new Set<string>()
  for (const write of writes) {
    const { workflowRunId } = write
    if (seen.has(workflowRunId)) throw new Error(`commit: two writes for run ${workflowRunId}`)
    seen.add(workflowRunId)
    const run = state.runs.get(workflowRunId)
    if (isHeld(run, write.token)) assertWrite(run, write)
  }
}

const assertWrite = (run: Run, write: RunWrite): void => {
  const timers = new Set(write.timers.map((timer) => timer.stepKey))
  const records = new Set(write.records.map((record) => record.stepKey))
  for (const record of write.records) {
    const { kind, stepKey } = record
    if (endsByTimer(record) && !run.timers.has(stepKey) && !timers.has(stepKey)) {
      throw new Error(`commit: the ${kind} "${stepKey}" has no timer`)
    }
  }
  for (const { stepKey } of write.compensations) {
    if (!run.records.has(stepKey) && !records.has(stepKey)) {
      throw new Error(`commit: "${stepKey}" was undone, but has no record`)
    }
  }
  for (const child of write.children) {
    if (child.parent?.workflowRunId !== write.workflowRunId) {
      throw new Error(`commit: child ${child.workflowRunId} is not of run ${write.workflowRunId}`)
    }
    if (child.idempotencyKey !== null || child.concurrencyKey !== null) {
      throw new Error(`commit: child ${child.workflowRunId} carries a key of its own`)
    }
  }
  const { transition } = write
  if (transition === null) return
  if (transition._tag === "Settle") assertTransition(run, transition.status)
  if (transition._tag === "Compensate") assertTransition(run, "compensating")
  if (transition._tag === "RetryRun") assertTransition(run, "pending")
}

/** Whether an earlier sending applied this write, on a run that our own write has released. */
const wasApplied = (run: Run, write: RunWrite): boolean => {
  const { _tag } = write.transition ?? { _tag: null }
  if (_tag !== null && _tag !== "Compensate") return true
  // An end that came too early is not written, and proves nothing either way.
  const proofs = write.records.filter((record) => refusedSleep(run, record).length === 0)
  if (proofs.length + write.compensations.length === 0) return false
  return (
    proofs.every(({ stepKey, attempts }) => {
      const entry = run.records.get(stepKey)
      return entry?.token === write.token && entry.record.attempts >= attempts
    }) &&
    write.compensations.every(
      (undo) => run.records.get(undo.stepKey)?.compensationToken === write.token,
    )
  )
}

const apply = (state: State, now: number, run: Run, write: RunWrite): void => {
  for (const timer of write.timers) fixTimer(run, timer, now)
  const fresh = new Set<string>()
  for (const record of write.records) {
    if (putRecord(run, record, now)) fresh.add(record.stepKey)
  }
  for (const child of write.children) insertChild(state, now, child)
  for (const { stepKey, name, payload } of write.emitted) {
    if (fresh.has(stepKey)) emit(state, run, stepKey, name, payload, now)
  }
  for (const undo of write.compensations) putCompensation(run, undo, now)
  for (const [name, value] of Object.entries(write.attributes ?? {}))
    run.attributes.set(name, value)
  if (write.transition !== null) move(state, now, run, write.transition)
}

/** The first to reach a sleep fixes its end. */
const fixTimer = (run: Run, timer: TimerWrite, now: number): void => {
  if (run.timers.has(timer.stepKey)) return
  const { stepKey } = timer
  const wakeAt = "wakeAt" in timer ? timer.wakeAt : now + timer.delayMs
  run.timers.set(stepKey, Object.freeze({ stepKey, wakeAt }))
}

/** Whether it was written: not where a final one stands, nor the end of a sleep that lasts. */
const putRecord = (run: Run, write: RecordWrite, now: number): boolean => {
  const standing = run.records.get(write.stepKey)?.record
  if (standing !== undefined && standing.status !== "retrying") return false
  const isFinal = write.status !== "retrying"
  const revision = write.revision ?? 0
  // A delayed copy of an older backoff or note must not undo a newer one.
  if (standing !== undefined && !isFinal && !isNewer(write.attempts, revision, standing)) {
    return false
  }
  if (endsByTimer(write) && run.timers.get(write.stepKey)!.wakeAt > now) return false
  const record: StepRecord = Object.freeze({
    stepKey: write.stepKey,
    name: write.name,
    kind: write.kind,
    position: isFinal ? write.position : null,
    issuedAfter: write.issuedAfter,
    status: write.status,
    attempts: write.attempts,
    result: write.result === null ? null : freezeEncoded(write.result),
    error: write.error === null ? null : freezeError(write.error),
    hasCompensate: write.hasCompensate,
    carried: false,
    startedAt: now - write.elapsedMs,
    completedAt: isFinal ? now : null,
    retryAt: isFinal || write.retryDelayMs === null ? null : now + write.retryDelayMs,
    revision,
    heartbeat: write.heartbeat ? freezeEncoded(write.heartbeat) : (standing?.heartbeat ?? null),
    compensation: null,
  })
  const { token } = run
  run.records.set(write.stepKey, { record, token, compensationToken: null, eventId: write.eventId })
  run.progressed = true
  return true
}

const isNewer = (attempts: number, revision: number, standing: StepRecord): boolean =>
  attempts === standing.attempts ? revision > standing.revision : attempts > standing.attempts

const putCompensation = (run: Run, undo: CompensationWrite, now: number): void => {
  // A refused sleep leaves no record, and is never undone.
  const entry = run.records.get(undo.stepKey)
  if (entry === undefined) return
  const standing = entry.record.compensation
  if (standing !== null && standing.status !== "retrying") return
  if (undo.status === "retrying" && standing !== null && undo.attempts <= standing.attempts) return
  const compensation = Object.freeze({
    status: undo.status,
    attempts: undo.attempts,
    error: undo.error === null ? null : freezeError(undo.error),
    retryAt:
      undo.status === "retrying" && typeof undo.retryDelayMs === "number"
        ? now + undo.retryDelayMs
        : null,
  })
  const record = Object.freeze({ ...entry.record, compensation })
  run.records.set(undo.stepKey, { ...entry, record, compensationToken: run.token })
  run.progressed = true
}

const emit = (
  state: State,
  run: Run,
  id: string,
  name: string,
  payload: RunWrite["emitted"][number]["payload"],
  now: number,
): void => {
  const event = Object.freeze({
    eventId: ++state.lastEventId,
    workflowRunId: run.workflowRunId,
    direction: "emitted",
    name,
    payload: freezeEncoded(payload),
    id,
    createdAt: now,
  })
  run.events.push(event)
  state.emitted.push(event)
}

const move = (state: State, now: number, run: Run, transition: Transition): void => {
  switch (transition._tag) {
    case "Park":
      return park(state, now, run, transition)
    case "HandBack":
      resetCrashes(run)
      return letGo(state, run, "pending", now)
    case "Settle":
      return settle(state, run, transition, now)
    case "Compensate":
      if (run.compensating) return
      run.status = "compensating"
      run.compensating = true
      run.error = freezeError(transition.error)
      return
    case "RetryRun": {
      startNextAttempt(run, transition.failedPosition)
      run.error = freezeError(transition.error)
      resetCrashes(run)
      const isCancelled = run.cancelRequest !== null
      const dueAt = isCancelled ? now : withDeadline(run, now + transition.delayMs)
      return letGo(state, run, "pending", dueAt)
    }
    case "Pause":
      resetCrashes(run)
      return pause(state, run, transition.error)
  }
}

const park = (
  state: State,
  now: number,
  run: Run,
  transition: Transition & { readonly _tag: "Park" },
): void => {
  resetCrashes(run)
  run.waits = (transition.waits ?? []).map((wait) => Object.freeze({ ...wait }))
  // Something came between the reading of the sources and this commit: look again, now.
  if (run.wakeCounter !== transition.wakeCounter) return letGo(state, run, "pending", now)
  const { dueAt, delayMs } = transition
  const times = [dueAt, delayMs === null ? null : now + delayMs].filter((time) => time !== null)
  const wakeAt = times.length === 0 ? null : Math.min(...times)
  letGo(state, run, transition.status, withDeadline(run, wakeAt))
}

const answer = (state: State, run: Run, write: RunWrite, now: number): WriteAnswer => ({
  _tag: "committed",
  workflowRunId: run.workflowRunId,
  ...signalsOf(run, now),
  now: commitTime(run, write, now),
  timers: write.timers.flatMap(({ stepKey }) => run.timers.get(stepKey) ?? []),
  refusedSleeps: write.records.flatMap((record) => refusedSleep(run, record)),
  children: write.children.map((child) => ({
    stepKey: child.parent!.stepKey,
    workflowRunId: findChild(state, child)?.workflowRunId ?? child.workflowRunId,
  })),
})

/** The time at which the records of this write were committed, perhaps by an earlier sending. */
const commitTime = (run: Run, write: RunWrite, now: number): number => {
  let latest: number | null = null
  for (const { stepKey } of write.records) {
    const entry = run.records.get(stepKey)
    if (entry?.token !== write.token || entry.record.completedAt === null) continue
    latest = Math.max(latest ?? 0, entry.record.completedAt)
  }
  return latest ?? now
}

const refusedSleep = (run: Run, write: RecordWrite): ReadonlyArray<TimerRow> => {
  if (!endsByTimer(write)) return []
  if (run.records.get(write.stepKey)?.record.completedAt != null) return []
  const timer = run.timers.get(write.stepKey)
  return timer === undefined ? [] : [timer]
}
