/**
 * Carries steps out: their tries, time limits and backoffs.
 *
 * A step's outcome is handed to the journal exactly once. A try that was aborted and ended by
 * interruption has an unknown outcome: nothing is recorded for it. A long backoff is stored with
 * the count of tries and lets the run park; a short one stays in memory.
 *
 * A step's deadline is a timer of the store under the step's key, fixed before its first try: so it
 * counts on over crashes and parks, by the store's clock.
 */
import type * as Effect from "effect/Effect"
import type { Encoded } from "../Payload.ts"
import { encodeError } from "../ErrorPayload.ts"
import { StepDeadlineExceeded, StepHeartbeatTimeout, StepTimeout } from "../FlowlyError.ts"
import { delayAfter } from "../RetryPolicy.ts"
import { verdictOf } from "../StepError.ts"
import {
  type AttemptEnd,
  type AttemptOptions,
  type Hold,
  startAttempt,
  type TimeLimit,
} from "./attempt.ts"
import { type Execution, type ExecutionEnv, type Issued, undoesUnknown } from "./Execution.ts"
import { beat, noteToLeave, sendUnsent, Step, StepNotes, writeNote } from "./notes.ts"
import type { AttemptFailure, StepAttempt, StepOperation } from "./Operation.ts"
import { inTransaction } from "./transactions.ts"

/**
 * Starts a step that has no outcome, where an earlier execution had left it.
 */
export const startStep = (execution: Execution, issued: Issued, operation: StepOperation): void => {
  const earlier = execution.noteOn(issued.key)
  const notes = new StepNotes(earlier)
  const step = new Step(execution, issued, operation, notes)
  issued.attempts = notes.ended
  issued.again = () => beginTry(step)
  issued.noteToLeave = () => noteToLeave(step)
  const fixed = execution.timerOf(issued.key)
  if (typeof operation.deadlineMs === "number" && fixed !== undefined) notes.deadlineAt = fixed
  const retryAt = earlier?.retryAt ?? null
  if (retryAt !== null && retryAt > execution.storeNow()) {
    issued.phase = "waiting"
    issued.wakeAt = retryAt
    return execution.progress()
  }
  beginTry(step)
}

/** Writes down what must be known of a try before it begins; then begins it. */
const beginTry = (step: Step): void => {
  const { execution, issued, operation, notes } = step
  const { deadlineMs = null } = operation
  issued.phase = "active"
  issued.wakeAt = null
  const toFix = notes.deadlineAt === null ? deadlineMs : null
  const toMark = undoesUnknown(operation) && !notes.marked
  if (toFix === null && !toMark) return tryNow(step)
  // the timer never without a note beside it, so that what removes the one removes the other
  writeNote(step, null, {
    timers: toFix === null ? [] : [{ stepKey: issued.key, delayMs: toFix }],
    onCommitted: (answer) => {
      if (toFix !== null) {
        const timer = answer.timers.find((one) => one.stepKey === issued.key)
        notes.deadlineAt = timer?.wakeAt ?? answer.now + toFix
      }
      if (issued.abandoned) return execution.forget(issued)
      if (execution.mode !== "forward") return
      if (execution.handBack()) execution.postpone(issued)
      else tryNow(step)
    },
  })
}

type End = AttemptEnd<Encoded, AttemptFailure>

const tryNow = (step: Step): void => {
  const { execution, issued, notes } = step
  const { env } = execution
  // a blocked event loop delays timers: ask again, now
  if (!env.leaseTrusted()) return execution.stop({ _tag: "lost" })
  if (notes.deadlineAt !== null && notes.deadlineAt <= execution.storeNow()) {
    return fail(step, encodeError(pastDeadline(step)))
  }
  issued.attempts++
  issued.startedAtMs = env.monotonicMs()
  notes.aliveAtMs = issued.startedAtMs
  notes.trying = true
  sendUnsent(step)
  execution.executing++
  env.hook({ _tag: "step:started", stepKey: issued.key, attempt: issued.attempts })
  const attempt = new Try(step)
  const running = startAttempt(attempt)
  if (!attempt.over) issued.running = running
}

/** A try of a step: what is tried, and what its body is told. */
class Try implements AttemptOptions<Encoded, AttemptFailure>, StepAttempt {
  readonly workflowRunId: string
  readonly attempt: number
  readonly lastHeartbeat: Encoded | null
  readonly limits: ReadonlyArray<TimeLimit>
  readonly call: AttemptOptions<Encoded, AttemptFailure>["call"]
  transaction: StepAttempt["transaction"] = undefined
  over = false
  readonly #step: Step
  #signal: (() => AbortSignal) | null = null

  constructor(step: Step) {
    const { call } = step.operation
    this.workflowRunId = step.execution.run.workflowRunId
    this.attempt = step.issued.attempts
    this.lastHeartbeat = step.notes.heartbeat
    this.limits = limitsOf(step)
    this.#step = step
    this.call =
      call &&
      ((signal, ended) => {
        this.#signal = signal
        call(this, ended)
      })
  }

  get fork(): ExecutionEnv["fork"] {
    return this.#step.execution.env.fork
  }

  get idempotencyKey(): string {
    return `${this.workflowRunId}:${this.#step.issued.key}`
  }

  get signal(): AbortSignal {
    return this.#signal!()
  }

  heartbeat(details: Encoded): void {
    // a body that was given up may live on
    if (!this.over) beat(this.#step, details)
  }

  body(signal: () => AbortSignal, hold: Hold): Effect.Effect<Encoded, AttemptFailure> {
    this.#signal = signal
    const { execution, issued, operation } = this.#step
    return operation.transaction === undefined
      ? operation.run(this)
      : inTransaction({ execution, issued, operation, attempt: this, hold })
  }

  onEnd(end: End, aborted: boolean): void {
    const { execution, issued, notes } = this.#step
    this.over = true
    notes.trying = false
    notes.ended++
    // what a body that was told to stop fails with says nothing about what it did
    if (aborted || end._tag === "TimedOut" || end._tag === "Interrupted") notes.unknown = true
    issued.running = null
    execution.executing--
    if (execution.mode === "stopped") return
    afterTry(this.#step, end)
    execution.progress()
  }
}

const noLimits: ReadonlyArray<TimeLimit> = []

const limitsOf = ({ execution, issued, operation, notes }: Step): ReadonlyArray<TimeLimit> => {
  const { timeoutMs, heartbeatTimeoutMs = null } = operation
  if (timeoutMs === null && heartbeatTimeoutMs === null && notes.deadlineAt === null)
    return noLimits
  const stepKey = issued.key
  const limits: Array<TimeLimit> = []
  if (timeoutMs !== null) {
    limits.push({ afterMs: timeoutMs, error: () => new StepTimeout({ stepKey, timeoutMs }) })
  }
  if (heartbeatTimeoutMs !== null) {
    limits.push({
      afterMs: heartbeatTimeoutMs,
      elapsedMs: () => execution.env.monotonicMs() - notes.aliveAtMs,
      error: () => new StepHeartbeatTimeout({ stepKey, timeoutMs: heartbeatTimeoutMs }),
    })
  }
  if (notes.deadlineAt !== null) {
    const afterMs = notes.deadlineAt - execution.storeNow()
    limits.push({ afterMs, error: () => pastDeadline({ execution, issued, operation, notes }) })
  }
  return limits
}

const pastDeadline = ({ issued, operation, notes }: Step): StepDeadlineExceeded =>
  new StepDeadlineExceeded({
    stepKey: issued.key,
    deadlineMs: operation.deadlineMs ?? 0,
    attempts: issued.attempts,
    lastFailure: notes.error?.message ?? null,
  })

const afterTry = (step: Step, end: End): void => {
  const { execution, issued, operation, notes } = step
  const { env } = execution
  if (end._tag === "Interrupted") {
    if (issued.abandoned) execution.forget(issued)
    return
  }
  if (end._tag === "Success") {
    env.hook({ _tag: "step:completed", stepKey: issued.key, attempts: issued.attempts })
    // a transaction has recorded it already
    if (operation.transaction !== undefined) return
    return execution.record(issued, { _tag: "Success", result: end.value })
  }
  const failure = failureOf(end, env.redact)
  if (failure.unknown === true) notes.unknown = true
  notes.error = failure.error
  const delayMs = delayBeforeNext(step, failure)
  if (delayMs === null) return fail(step, failure.error)
  const { deadlineAt } = notes
  // a try that could only begin after the deadline is not waited for
  if (deadlineAt !== null && execution.storeNow() + delayMs >= deadlineAt) {
    return fail(step, encodeError(pastDeadline(step)))
  }
  tellFailed(step, true)
  backOff(step, delayMs)
}

const failureOf = (
  end: Exclude<End, { _tag: "Success" | "Interrupted" }>,
  redact: ExecutionEnv["redact"],
): AttemptFailure => {
  switch (end._tag) {
    case "Failure":
      return { ...end.failure, error: redact(end.failure.error) }
    case "TimedOut":
      return { error: encodeError(end.error), retryable: end.error.retryable }
    case "Defect": {
      const verdict = verdictOf(end.error)
      return {
        error: redact(encodeError(end.error)),
        retryable: verdict?._tag !== "NonRetryable",
        retryAfter: verdict?._tag === "RetryAfter" ? verdict : undefined,
      }
    }
  }
}

/** `null`: no further try. */
const delayBeforeNext = (
  { execution, issued, operation }: Step,
  { retryable, retryAfter }: AttemptFailure,
): number | null => {
  const isLast = issued.attempts >= operation.retry.maxAttempts
  if (!retryable || isLast || execution.mode !== "forward" || issued.abandoned) return null
  if (retryAfter === undefined) {
    return delayAfter(operation.retry, issued.attempts, execution.env.random)
  }
  return "delayMs" in retryAfter
    ? retryAfter.delayMs
    : Math.max(0, retryAfter.at - execution.storeNow())
}

const tellFailed = ({ execution, issued, notes }: Step, willRetry: boolean): void => {
  const { error } = notes
  if (error === null) return
  const stepKey = issued.key
  const { attempts } = issued
  execution.env.hook({ _tag: "step:failed", stepKey, attempts, error, willRetry })
}

const fail = (step: Step, error: AttemptFailure["error"]): void => {
  step.notes.error = error
  tellFailed(step, false)
  const { unknown } = step.notes
  step.execution.record(step.issued, { _tag: "Failure", error }, { unknown })
}

const backOff = (step: Step, delayMs: number): void => {
  const { execution, issued } = step
  const { env } = execution
  issued.phase = "waiting"
  issued.wakeAt = execution.storeNow() + delayMs
  if (delayMs <= env.limits.shortWaitMs && !execution.handBack()) return
  const elapsedMs = env.monotonicMs() - issued.startedAtMs
  const next = { retryDelayMs: delayMs, elapsedMs }
  writeNote(step, next, {
    onCommitted: (answer) => {
      issued.wakeAt = answer.now + delayMs
    },
  })
}
