/**
 * Carries operations out: sleeps, children and events here, steps with their tries in `tries.ts`.
 */
import type { StoredError } from "../ErrorPayload.ts"
import { encodeError, summarize } from "../ErrorPayload.ts"
import { ChildFailed, UnreadableValue } from "../FlowlyError.ts"
import { isTerminal } from "../Run.ts"
import type { ChildRow, NewRun } from "../WorkflowStore.ts"
import type { Execution, Issued } from "./Execution.ts"
import type { ChildOperation, EventOperation, SleepOperation } from "./Operation.ts"
import { takesPatch } from "./patches.ts"
import { startStep } from "./tries.ts"

/**
 * Starts an operation that has no record.
 */
export const start = (execution: Execution, issued: Issued): void => {
  const { operation } = issued
  issued.phase = "active"
  switch (operation.kind) {
    case "step":
    case "side_effect":
    case "token":
      return startStep(execution, issued, operation)
    case "sleep":
      return startSleep(execution, issued, operation)
    case "child":
      return startChild(execution, issued, operation)
    case "child_start":
      return startAlone(execution, issued, operation)
    case "event":
      return startEvent(execution, issued, operation)
    case "emit":
      return execution.record(
        issued,
        { _tag: "Success", result: null },
        { emitted: [{ stepKey: issued.key, name: operation.name, payload: operation.payload }] },
      )
    case "no_return":
      return execution.record(issued, { _tag: "Success", result: null })
    case "patch":
      return execution.record(issued, takesPatch(true))
  }
}

/**
 * The wait of an operation is over, by this process's reckoning of the store's clock.
 */
export const due = (execution: Execution, issued: Issued): void => {
  if (issued.again !== null) {
    // a run that ends, or is let go, begins no further try
    if (execution.mode === "forward" && !execution.handBack()) issued.again()
    return
  }
  // the store accepts the end of a sleep, or the timeout of an event, only when it has passed
  execution.record(issued, { _tag: "Success", result: null })
}

/**
 * The sources were read anew: some waits may be over.
 */
export const sourcesChanged = (execution: Execution): void => {
  for (const issued of execution.open) {
    if (issued.phase !== "waiting") continue
    if (issued.operation.kind === "child") {
      const child = execution.children.get(issued.operation.startedAs ?? issued.key)
      if (child !== undefined && isTerminal(child.status)) settleChild(execution, issued, child)
    } else if (issued.operation.kind === "event") {
      takeEvent(execution, issued, issued.operation)
    }
  }
}

// -----------------------------------------------------------------------------
// Sleeps
// -----------------------------------------------------------------------------

const startSleep = (execution: Execution, issued: Issued, operation: SleepOperation): void => {
  const fixed = execution.timerOf(issued.key)
  if (fixed !== undefined) return waitUntil(execution, issued, fixed)
  // journaled when first reached, for short sleeps too: else each crash would restart it
  execution.write({
    timers: [{ stepKey: issued.key, ...operation.until }],
    onCommitted: (answer) => {
      const timer = answer.timers.find((one) => one.stepKey === issued.key)
      waitUntil(execution, issued, timer?.wakeAt ?? answer.now)
    },
  })
}

const waitUntil = (execution: Execution, issued: Issued, wakeAt: number): void => {
  issued.phase = "waiting"
  issued.wakeAt = wakeAt
  if (issued.abandoned) execution.forget(issued)
  else if (wakeAt <= execution.storeNow()) due(execution, issued)
  else execution.progress()
}

// -----------------------------------------------------------------------------
// Children
// -----------------------------------------------------------------------------

const startChild = (execution: Execution, issued: Issued, operation: ChildOperation): void => {
  const { run } = execution
  const key = operation.startedAs ?? issued.key
  const known = execution.children.get(key)
  const failedEarlier =
    known !== undefined &&
    known.parentAttempt < run.attempt &&
    isTerminal(known.status) &&
    known.status !== "completed"
  if (known !== undefined && !failedEarlier) {
    if (isTerminal(known.status)) return settleChild(execution, issued, known)
    issued.phase = "waiting"
    return execution.progress()
  }
  const child = newChild(execution, key, operation)
  execution.write({
    children: [child],
    onCommitted: (answer) => {
      const inserted = answer.children.find((one) => one.stepKey === key)
      issued.phase = "waiting"
      // a reading of the sources that came earlier knows more than this
      const read = execution.children.get(key)
      if (read !== undefined && read.parentAttempt === run.attempt) {
        if (isTerminal(read.status)) settleChild(execution, issued, read)
        return
      }
      const workflowRunId = inserted?.workflowRunId ?? child.workflowRunId
      execution.children.set(key, begunChild(execution, key, operation, workflowRunId))
    },
  })
}

/** The start of a child is an operation of its own: child and record are one commit. */
const startAlone = (execution: Execution, issued: Issued, operation: ChildOperation): void => {
  const { key } = issued
  const child = newChild(execution, key, operation)
  const { workflowRunId } = child
  execution.children.set(key, begunChild(execution, key, operation, workflowRunId))
  const json = JSON.stringify({ workflowRunId, stepKey: key })
  const result = { codec: "json", json }
  execution.record(issued, { _tag: "Success", result }, { children: [child] })
}

const newChild = (execution: Execution, stepKey: string, operation: ChildOperation): NewRun => ({
  workflowRunId: execution.env.newRunId(),
  workflow: operation.workflow,
  version: operation.version,
  input: operation.input,
  priority: 0,
  scheduledFor: null,
  timeoutMs: operation.timeoutMs,
  maxAttempts: operation.maxAttempts,
  idempotencyKey: null,
  concurrencyKey: null,
  parent: {
    workflowRunId: execution.run.workflowRunId,
    stepKey,
    attempt: execution.run.attempt,
  },
  onParentClose: operation.onParentClose,
})

const begunChild = (
  execution: Execution,
  stepKey: string,
  { onParentClose }: ChildOperation,
  workflowRunId: string,
): ChildRow => ({
  stepKey,
  workflowRunId,
  parentAttempt: execution.run.attempt,
  onParentClose,
  status: "pending",
  result: null,
  error: null,
})

const settleChild = (execution: Execution, issued: Issued, child: ChildRow): void => {
  if (child.status === "completed") {
    return execution.record(issued, { _tag: "Success", result: child.result })
  }
  const { operation } = issued
  if (child.error?.coded !== undefined) return pauseUnread(execution, operation.name, child.error)
  const failed = new ChildFailed({
    workflow: operation.kind === "child" ? operation.workflow : operation.name,
    workflowRunId: child.workflowRunId,
    status: child.status,
    reason: child.error === null ? "no error was recorded" : summarize(child.error),
  })
  // the child's own error travels as it was stored, its typed form too
  const error: StoredError = {
    ...encodeError(failed),
    ...(child.error === null ? {} : { cause: child.error }),
    ...(child.error?.fail === undefined ? {} : { fail: child.error.fail }),
  }
  execution.record(issued, { _tag: "Failure", error })
}

/** Its typed form is out of reach: what would be recorded is another failure than the child's. */
const pauseUnread = (execution: Execution, name: string, { message }: StoredError): void => {
  const unreadable = new UnreadableValue({ field: `error of child "${name}"`, reason: message })
  const error = execution.env.redact(encodeError(unreadable))
  execution.finish({ _tag: "Pause", error }, { _tag: "paused", error })
}

// -----------------------------------------------------------------------------
// Events
// -----------------------------------------------------------------------------

const startEvent = (execution: Execution, issued: Issued, operation: EventOperation): void => {
  issued.phase = "waiting"
  if (takeEvent(execution, issued, operation)) return
  if (operation.timeoutMs === null) return execution.progress()
  const fixed = execution.timerOf(issued.key)
  if (fixed !== undefined) return waitUntil(execution, issued, fixed)
  issued.phase = "active"
  execution.write({
    timers: [{ stepKey: issued.key, delayMs: operation.timeoutMs }],
    onCommitted: (answer) => {
      const timer = answer.timers.find((one) => one.stepKey === issued.key)
      issued.phase = "waiting"
      if (!issued.abandoned && takeEvent(execution, issued, operation)) return
      waitUntil(execution, issued, timer?.wakeAt ?? answer.now)
    },
  })
}

/** Takes the oldest event of the name that no wait has taken. */
const takeEvent = (execution: Execution, issued: Issued, operation: EventOperation): boolean => {
  const index = execution.events.findIndex((event) => event.name === operation.event)
  if (index < 0) return false
  const event = execution.events[index]
  if (event === undefined) return false
  execution.events.splice(index, 1)
  execution.takenEvents.add(event.eventId)
  execution.record(issued, { _tag: "Success", result: event.payload }, { eventId: event.eventId })
  return true
}
