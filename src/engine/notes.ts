/**
 * What is written about a step before it has an outcome: a try begins, a try failed and the next is
 * due then, the body told of its progress.
 *
 * All of these are `retrying` records of one key, ordered by (attempts, revision): a delayed copy of
 * an older one changes nothing. A heartbeat is written while its try runs, at most one at a time; of
 * those that come meanwhile the latest counts. One that waits is written with the next note of its
 * step, or in the commit that hands the run back: only a process that dies loses it.
 */
import type { StoredError } from "../ErrorPayload.ts"
import type { Encoded } from "../Payload.ts"
import type { RecordWrite, StepRecord } from "../WorkflowStore.ts"
import { type Execution, type Fragment, type Issued, recordOf, undoesUnknown } from "./Execution.ts"
import type { StepOperation } from "./Operation.ts"

/**
 * A step under way.
 */
export interface Step {
  readonly execution: Execution
  readonly issued: Issued
  readonly operation: StepOperation
  readonly notes: StepNotes
}

/**
 * What a step remembers over its tries.
 */
export interface StepNotes {
  revision: number
  /** Tries that have ended. */
  ended: number
  /** As many as the newest note tells of. */
  told: number
  /** Of the newest try that failed. */
  error: StoredError | null
  heartbeat: Encoded | null
  /** A try runs. */
  trying: boolean
  /** By the monotonic clock: the beginning of the try, or the newest heartbeat. */
  aliveAtMs: number
  /** Some try may have done something of which nothing is known. */
  unknown: boolean
  /** What stands in the store says so. */
  marked: boolean
  /** A heartbeat is on its way to the store. */
  sending: boolean
  /** A newer one than any note holds. */
  unsent: boolean
  /** When no try may run any more, by the store's clock. */
  deadlineAt: number | null
}

/**
 * The notes of a step, from what an earlier execution had written.
 */
export const makeNotes = (earlier: StepRecord | undefined): StepNotes => ({
  revision: earlier?.revision ?? 0,
  ended: earlier?.attempts ?? 0,
  told: earlier?.attempts ?? 0,
  error: earlier?.error ?? null,
  heartbeat: earlier?.heartbeat ?? null,
  trying: false,
  aliveAtMs: 0,
  // it was under way when its process died
  unknown: earlier?.hasCompensate ?? false,
  marked: earlier?.hasCompensate ?? false,
  sending: false,
  unsent: false,
  deadlineAt: null,
})

/**
 * The next note as a record. Without a delay a try is under way, or about to begin: should the run end
 * before its outcome is recorded, it is unknown.
 */
const noteOf = (
  issued: Issued,
  operation: StepOperation,
  notes: StepNotes,
  next: { readonly retryDelayMs: number; readonly elapsedMs: number } | null,
): RecordWrite => {
  notes.unsent = false
  notes.told = notes.ended
  return {
    stepKey: issued.key,
    name: operation.name,
    kind: operation.kind,
    position: null,
    issuedAfter: issued.issuedAfter,
    status: "retrying",
    attempts: notes.ended,
    result: null,
    error: notes.error,
    hasCompensate: undoesUnknown(operation) && (next === null || notes.unknown),
    retryDelayMs: next?.retryDelayMs ?? null,
    elapsedMs: next?.elapsedMs ?? 0,
    eventId: null,
    revision: ++notes.revision,
    heartbeat: notes.heartbeat,
  }
}

/**
 * Writes the next note, with what is to be fixed beside it.
 */
export const writeNote = (
  { execution, issued, operation, notes }: Step,
  next: Parameters<typeof noteOf>[3],
  parts: Pick<Fragment, "timers" | "onCommitted">,
): void => {
  const record = noteOf(issued, operation, notes, next)
  notes.marked = record.hasCompensate
  issued.noted = true
  execution.write({
    ...parts,
    records: [record],
    onCommitted: (answer) => {
      // what is to be undone is looked for among these
      if (!execution.records.has(issued.key)) {
        execution.retrying.set(issued.key, recordOf(record, answer.now))
      }
      parts.onCommitted(answer)
    },
  })
}

/**
 * The body of the running try tells of its progress.
 */
export const beat = (step: Step, details: Encoded): void => {
  const { execution, notes } = step
  notes.heartbeat = details
  notes.aliveAtMs = execution.env.monotonicMs()
  if (notes.sending) notes.unsent = true
  else send(step)
}

/**
 * A try begins: what an earlier one told last may still wait.
 */
export const sendUnsent = (step: Step): void => {
  if (step.notes.unsent && !step.notes.sending) send(step)
}

const send = (step: Step): void => {
  const { execution, notes } = step
  // a run that ends waits for its journal: it must not be kept waiting by a body that beats on
  if (execution.mode !== "forward" || !notes.trying) return
  notes.sending = true
  writeNote(step, null, {
    onCommitted: () => {
      notes.sending = false
      sendUnsent(step)
    },
  })
}

/**
 * What the next process would miss when the run is handed back now: how often the step was tried (a
 * short backoff is not written), of a try under way its newest heartbeat, of one that waits for its time
 * that time, too. `null`: nothing.
 */
export const noteToLeave = ({ execution, issued, operation, notes }: Step): RecordWrite | null => {
  const isTold = !notes.unsent && notes.told === notes.ended
  if (isTold || execution.records.has(issued.key)) return null
  // an outcome is on its way to the store
  if (issued.phase !== "active" && issued.phase !== "waiting") return null
  const next =
    issued.phase === "active" || issued.wakeAt === null
      ? null
      : {
          retryDelayMs: Math.max(0, issued.wakeAt - execution.storeNow()),
          elapsedMs: execution.env.monotonicMs() - issued.startedAtMs,
        }
  return noteOf(issued, operation, notes, next)
}
