/**
 * What there is one of for each record and each write of a run.
 *
 * Classes, not object literals: where most objects of a literal survive a collection, and with hundreds of
 * runs in flight they do, V8 makes those that follow in the old generation. There they stay until the next
 * full collection, and with them, for as long, all that they refer to, which is the run.
 */
import type { StoredError } from "../ErrorPayload.ts"
import type { RecordWrite, StepRecord, Transition } from "../WorkflowStore.ts"
import {
  type Committed,
  type ExecutionEnd,
  type ExecutionEnv,
  type Fragment,
  type FragmentParts,
  type Issued,
  undoesUnknown,
} from "./Execution.ts"
import type { Machine } from "./machine.ts"
import type { Outcome } from "./Operation.ts"
import { armTimer } from "./parking.ts"

/** A record as it is written, and, from its commit on, as the store answers it. */
export class LiveRecord implements RecordWrite, Omit<StepRecord, "completedAt"> {
  readonly stepKey: string
  readonly name: string
  readonly kind: RecordWrite["kind"]
  readonly position: number
  readonly issuedAfter: number
  readonly status: "completed" | "failed"
  readonly attempts: number
  readonly result: RecordWrite["result"]
  readonly error: RecordWrite["error"]
  readonly hasCompensate: boolean
  readonly retryDelayMs = null
  readonly elapsedMs: number
  readonly eventId: number | null
  readonly carried = false
  readonly startedAt = null
  completedAt: number | null = null
  readonly retryAt = null
  readonly revision = 0
  readonly heartbeat = null
  readonly first: boolean
  readonly compensation = null

  constructor(
    issued: Issued,
    outcome: Outcome,
    more: {
      readonly position: number
      readonly elapsedMs: number
      readonly eventId: number | null
      readonly isUnknown: boolean
      readonly isFirst: boolean
    },
  ) {
    const { operation } = issued
    const completed = outcome._tag === "Success"
    this.stepKey = issued.key
    this.name = operation.name
    this.kind = operation.kind
    this.position = more.position
    this.issuedAfter = issued.issuedAfter
    this.status = completed ? "completed" : "failed"
    this.attempts = Math.max(issued.attempts, 1)
    this.result = completed ? outcome.result : null
    this.error = completed ? null : outcome.error
    this.hasCompensate = completed
      ? "undo" in operation && operation.undo !== null
      : more.isUnknown && undoesUnknown(operation)
    this.elapsedMs = more.elapsedMs
    this.eventId = more.eventId
    this.first = more.isFirst
  }
}

/** What a run writes, with what it has published since its write before. */
class Written implements FragmentParts {
  readonly records: FragmentParts["records"]
  readonly timers: FragmentParts["timers"]
  readonly children: FragmentParts["children"]
  readonly emitted: FragmentParts["emitted"]
  readonly compensations: FragmentParts["compensations"]
  readonly attributes: FragmentParts["attributes"]

  constructor(machine: Machine, parts: FragmentParts) {
    this.records = parts.records
    this.timers = parts.timers
    this.children = parts.children
    this.emitted = parts.emitted
    this.compensations = parts.compensations
    this.attributes = machine.published.take() ?? parts.attributes
  }
}

/** A write of a run that goes on. */
export class Sent extends Written implements Fragment {
  protected readonly machine: Machine
  readonly #then: Pick<Fragment, "onCommitted" | "onRejected"> | null

  constructor(
    machine: Machine,
    parts: FragmentParts,
    then: Pick<Fragment, "onCommitted" | "onRejected"> | null,
  ) {
    super(machine, parts)
    this.machine = machine
    this.#then = then
    machine.inFlight++
  }

  onCommitted(answer: Committed): void {
    const { machine } = this
    machine.inFlight--
    if (machine.mode === "stopped") return
    this.committed(answer)
    machine.noteAnswer(answer)
    machine.progress()
  }

  onRejected(error: StoredError): void {
    const { machine } = this
    machine.inFlight--
    if (machine.mode === "stopped") return
    this.rejected(error)
    machine.progress()
  }

  onLost(): void {
    this.machine.stop({ _tag: "lost" })
  }

  protected committed(answer: Committed): void {
    this.#then?.onCommitted(answer)
  }

  protected rejected(error: StoredError): void {
    if (this.#then?.onRejected) this.#then.onRejected(error)
    else this.machine.finish({ _tag: "Pause", error }, { _tag: "paused", error })
  }
}

/** The write of an outcome. */
export class SentRecord extends Sent {
  readonly #issued: Issued
  readonly #row: LiveRecord
  readonly #outcome: Outcome

  constructor(
    machine: Machine,
    parts: FragmentParts,
    issued: Issued,
    row: LiveRecord,
    outcome: Outcome,
  ) {
    super(machine, parts, null)
    this.#issued = issued
    this.#row = row
    this.#outcome = outcome
  }

  protected override committed(answer: Committed): void {
    const { machine } = this
    const issued = this.#issued
    machine.answered(this.#row.position)
    const refused = answer.refusedSleeps.find((timer) => timer.stepKey === issued.key)
    if (refused === undefined) return machine.recorded(this.#row, this.#outcome, answer.now)
    issued.phase = "waiting"
    issued.wakeAt = refused.wakeAt
    if (issued.abandoned) machine.forget(issued)
    else {
      armTimer(machine, issued)
      // an event may have come while the end in vain was on its way
      machine.parts.sourcesChanged(machine)
    }
  }

  protected override rejected(error: StoredError): void {
    const { machine } = this
    machine.answered(this.#row.position)
    // the value is what the database refuses: the failure must be smaller than it was
    if (this.#outcome._tag === "Failure") return super.rejected(error)
    machine.record(this.#issued, { _tag: "Failure", error }, { unknown: true })
  }
}

/** The write with which a run leaves this process. */
export class Ending extends Written implements Fragment {
  readonly transition: Transition
  readonly #end: ExecutionEnd
  readonly #env: ExecutionEnv
  readonly #onEnd: (end: ExecutionEnd) => void

  constructor(machine: Machine, transition: Transition, end: ExecutionEnd, parts: FragmentParts) {
    super(machine, parts)
    this.transition = transition
    this.#end = end
    this.#env = machine.env
    this.#onEnd = machine.onEnd
  }

  onLost(): void {
    this.#onEnd({ _tag: "lost" })
  }

  onCommitted(answer: Committed): void {
    const { transition } = this
    const woken = transition._tag === "Park" && answer.wakeCounter !== transition.wakeCounter
    const end = this.#end
    this.#onEnd(end._tag === "parked" ? { _tag: "parked", woken } : end)
  }

  onRejected(error: StoredError): void {
    const onEnd = this.#onEnd
    // the result is what the database refuses: keep the run, ask a person
    if (this.transition._tag === "Pause") return onEnd({ _tag: "lost" })
    this.#env.append({
      transition: { _tag: "Pause", error },
      onLost: () => onEnd({ _tag: "lost" }),
      onCommitted: () => onEnd({ _tag: "paused", error }),
      onRejected: () => onEnd({ _tag: "lost" }),
    })
  }
}
