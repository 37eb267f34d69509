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
 * A step under way. A class, as its notes: see `live.ts`.
 */
export class Step {
  readonly execution: Execution
  readonly issued: Issued
  readonly operation: StepOperation
  readonly notes: StepNotes

  constructor(execution: Execution, issued: Issued, operation: StepOperation, notes: StepNotes) {
    this.execution = execution
    this.issued = issued
    this.operation = operation
    this.notes = notes
  }
}

/**
 * What a step remembers over its tries; at first what an earlier execution had written.
 */
export class StepNotes {
  revision: number
  /** Tries that have ended. */
  ended: number
  /** As many as the newest note tells of. */
  told: number
  /** Of the newest try that failed. */
  error: StoredError | null
  heartbeat: Encoded | null
  /** A try runs. */
  trying = false
  /** By the monotonic clock: the beginning of the try, or the newest heartbeat. */
  aliveAtMs = 0
  /** Some try may have done something of which nothing is known. */
  unknown: boolean
  /** What stands in the store says so. */
  marked: boolean
  /** A heartbeat is on its way to the store. */
  sending = false
  /** A newer one than any note holds. */
  unsent = false
  /** When no try may run any more, by the store's clock. */
  deadlineAt: number | null = null

  constructor(earlier: StepRecord | undefined) {
    this.revision = earlier?.revision ?? 0
    this.ended = earlier?.attempts ?? 0
    this.told = earlier?.attempts ?? 0
    this.error = earlier?.error ?? null
    this.heartbeat = earlier?.heartbeat ?? null
    // it was under way when its process died
    this.unknown = earlier?.hasCompensate ?? false
    this.marked = earlier?.hasCompensate ?? false
  }
}

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
