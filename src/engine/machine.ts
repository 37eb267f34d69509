/**
 * One execution of a run's body against its history: the heart of replay.
 *
 * The body issues operations; this machine answers each with its recorded outcome, strictly in the
 * order in which things completed, and lets the body come to rest between two deliveries. When the
 * history is used up, operations without a record start. Their outcomes are numbered when they are
 * handed to the journal, and delivered, in that order, after their commit: so a decision that a
 * race took is durable before anything follows from it. Live and replayed deliveries share one
 * queue, therefore one rule.
 *
 * ```text
 *   issue ─▶ unstarted ──(history used up)──▶ active ─▶ journal ─▶ queue ─▶ deliver ─▶ body
 *                                                │                   ▲
 *                                             waiting        history ┘
 *                                                └──(all wait)─▶ park
 * ```
 *
 * Divergence: the body is at rest for the grace period, or has ended, and the next record's key was
 * never issued, or was issued as another kind. A record that was issued and then abandoned (a
 * race's loser, an interrupted branch) is skipped, never divergence. While a record is awaited
 * nothing starts, so divergence is found before any side effect (promise 12).
 *
 * It must never turn an interruption, a lost lease or a shutdown into a failure of the run.
 *
 * This module owns the state of an execution and the verbs that its parts share. What is delivered and
 * begun next is decided in `replaying.ts`, when a run leaves memory in `parking.ts`. A class, unlike
 * most of this code: as closures, the verbs alone were 4 KB in each of thousands of runs, and what a
 * run holds is copied by every collection while it waits.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Attributes } from "../Attributes.ts"
import type {
  ChildRow,
  ClaimedRun,
  EventRow,
  RecordWrite,
  RunHistory,
  RunSignals,
  RunSources,
  StepRecord,
  Transition,
} from "../WorkflowStore.ts"
import { begunBefore, type Known, type Queued, toQueued, unknownBefore } from "./begun.ts"
import {
  type BodyEnd,
  type Delivered,
  type Execution,
  type ExecutionEnd,
  type ExecutionEnv,
  type ExecutionHandle,
  type ExecutionParts,
  type Fragment,
  type FragmentParts,
  Issued,
  type Reserved,
} from "./Execution.ts"
import { inRealTime, realMonotonicMs, turnsToDiverge } from "./graces.ts"
import { Ending, LiveRecord, Sent, SentRecord } from "./live.ts"
import type { Operation, Outcome } from "./Operation.ts"
import { takeSources } from "./parking.ts"
import { Published } from "./published.ts"
import { step } from "./replaying.ts"
import { Rest } from "./rest.ts"

/** What `startExecution` is given. */
export interface ExecutionOptions {
  readonly run: ClaimedRun
  readonly history: RunHistory | null
  readonly env: ExecutionEnv
  readonly parts: ExecutionParts
  /** Runs the body on the given scheduler, and reports its end; answers how to abandon it. */
  readonly startBody: (execution: Execution, onEnd: (end: BodyEnd) => void) => () => void
  /** Called once. */
  readonly onEnd: (end: ExecutionEnd) => void
}

/**
 * Starts an execution.
 */
export const startExecution = (options: ExecutionOptions): ExecutionHandle => {
  const machine = new Machine(options)
  machine.begin(options)
  return machine
}

const none: FragmentParts & Parameters<Execution["record"]>[2] = {}

/** Of operations that have just been asked for, or wait for their time. */
const isIdle = ({ phase }: Issued): boolean => phase === "waiting" || phase === "unstarted"

/**
 * The state of an execution, and the verbs of `Execution` and `ExecutionHandle`.
 */
export class Machine implements Execution, ExecutionHandle {
  readonly run: ClaimedRun
  readonly env: ExecutionEnv
  readonly parts: ExecutionParts
  readonly onEnd: (end: ExecutionEnd) => void
  readonly rest = new Rest()
  readonly published = new Published()

  readonly issued = new Map<string, Issued>()
  readonly open = new Set<Issued>()
  readonly records = new Map<string, StepRecord>()
  readonly events: Array<EventRow> = []
  signals: RunSignals
  sourcesCounter: number
  bodyEnd: BodyEnd | null = null
  lastFailure: number | null = null
  nowForBody: number
  onProgress: (() => void) | null = null
  executing = 0
  inFlight = 0
  mode: Execution["mode"]

  readonly unstarted: Array<Issued> = []
  /** Deliveries to come, in order; `head` is the next one: shifting a long array would copy it. */
  readonly queue: Array<Queued> = []
  head = 0
  readonly carried: Array<Queued> = []
  /** Operations without a record that an earlier execution of this attempt had begun. */
  readonly begun: Array<Known> = []
  /** What earlier executions had begun, by when they had asked for it. */
  readonly starts: Array<Pick<StepRecord, "stepKey" | "issuedAfter">> = []
  nextStart = 0
  deliveries = 0
  lastDelivered = 0
  /** The body runs because of a delivery, or has just begun. */
  stirred = true
  historyBytes = 0
  /** Runs while we wait for the body to do more by itself. */
  calm: Fiber.Fiber<void> | null = null
  /** What we waited for in vain. */
  calmOver: string | null = null
  /** Since when the body of the parked run was at rest, by the real clock. */
  parkedSince: number | null = null
  restingSince = 0

  /** How often a name was used: once, where it is not in here. */
  #uses: Map<string, number> | null = null
  /** Places of records whose commit is under way: in the journal, or in a transaction of their own. */
  #onTheirWay: Array<number> | null = null
  #nextPosition = 1
  #pumping = false
  #handBackRequested = false
  #abandonBody: (() => void) | null = null
  #storeBase: number
  #monotonicBase: number

  // What most runs have none of.
  #retrying: Map<string, StepRecord> | null = null
  #timers: Map<string, number> | null = null
  #children: Map<string, ChildRow> | null = null
  #takenEvents: Set<number> | null = null
  #failures: Map<unknown, number> | null = null

  constructor({ run, history, env, parts, onEnd }: ExecutionOptions) {
    this.run = run
    this.env = env
    this.parts = parts
    this.onEnd = onEnd
    this.signals = history ?? run
    this.sourcesCounter = history?.wakeCounter ?? run.wakeCounter
    this.nowForBody = run.startedAt
    this.mode = run.compensating ? "compensating" : "forward"
    this.#storeBase = history?.now ?? run.startedAt
    this.#monotonicBase = env.monotonicMs()
    if (history !== null) this.#takeHistory(history)
  }

  get execution(): Execution {
    return this
  }

  get retrying(): Map<string, StepRecord> {
    return (this.#retrying ??= new Map())
  }

  get timers(): Map<string, number> {
    return (this.#timers ??= new Map())
  }

  get children(): Map<string, ChildRow> {
    return (this.#children ??= new Map())
  }

  get takenEvents(): Set<number> {
    return (this.#takenEvents ??= new Set())
  }

  get failures(): Map<unknown, number> {
    return (this.#failures ??= new Map())
  }

  noteOn(stepKey: string): StepRecord | undefined {
    return this.#retrying?.get(stepKey)
  }

  timerOf(stepKey: string): number | undefined {
    return this.#timers?.get(stepKey)
  }

  /** What was begun before is known; a request that came with the claim goes before anything new. */
  begin({ startBody }: ExecutionOptions): void {
    this.onSignals(this.signals)
    if (this.mode !== "forward" && this.mode !== "compensating") return
    const abandon = startBody(this, (end) => {
      if (this.mode === "stopped") return this.wentOn()
      this.bodyEnd = end
      this.pump()
    })
    this.#abandonBody = abandon
    if ((this.mode as string) === "stopped") abandon()
    this.pump()
  }

  #takeHistory(history: RunHistory): void {
    takeSources(this, history)
    for (const timer of history.timers) this.timers.set(timer.stepKey, timer.wakeAt)
    for (const record of history.records) {
      if (!record.carried && record.kind !== "patch") this.starts.push(record)
      if (record.status === "retrying") {
        this.retrying.set(record.stepKey, record)
        continue
      }
      this.records.set(record.stepKey, record)
      this.#nextPosition = Math.max(this.#nextPosition, (record.position ?? 0) + 1)
      this.historyBytes += record.result?.json.length ?? 0
      ;(record.carried ? this.carried : this.queue).push(toQueued(record))
    }
    this.queue.sort((a, b) => a.position - b.position)
    this.carried.sort((a, b) => a.position - b.position)
    this.starts.sort((a, b) => a.issuedAfter - b.issuedAfter)
    const begun = this.run.compensating
      ? unknownBefore(this, this.#nextPosition)
      : begunBefore(this, history, this.#nextPosition)
    this.begun.push(...begun)
  }

  // who is asked to pause hands back: the store makes of it a pause, if it is still wanted
  handBack(): boolean {
    return this.#handBackRequested || this.signals.pauseRequest !== null
  }

  storeNow(): number {
    return this.#storeBase + (this.env.monotonicMs() - this.#monotonicBase)
  }

  issue(operation: Operation, resume: (delivered: Delivered) => void): Issued | null {
    if (this.mode === "stopped" || this.mode === "ending") return null
    const issued = new Issued(
      this.#newKey(operation.name),
      operation,
      resume,
      this.deliveries,
      this.lastDelivered,
      !this.stirred,
    )
    this.calmOver = null
    this.issued.set(issued.key, issued)
    this.unstarted.push(issued)
    this.open.add(issued)
    this.pump()
    return issued
  }

  #newKey(name: string): string {
    if (!this.issued.has(name)) return name
    const uses = (this.#uses ??= new Map<string, number>())
    while (true) {
      const used = (uses.get(name) ?? 1) + 1
      uses.set(name, used)
      const key = `${name}#${used}`
      // "a#2" may have been used as a name
      if (!this.issued.has(key)) return key
    }
  }

  abandon(issued: Issued): void {
    issued.abandoned = true
    issued.running?.abort(new Error(`step "${issued.key}" was interrupted`))
    if (isIdle(issued)) {
      this.forget(issued)
      this.pump()
    }
  }

  postpone(issued: Issued): void {
    issued.phase = "waiting"
    issued.wakeAt = this.storeNow()
  }

  forget(issued: Issued): void {
    issued.timer?.interruptUnsafe()
    issued.timer = null
    this.open.delete(issued)
  }

  record(issued: Issued, outcome: Outcome, extra?: Parameters<Execution["record"]>[2]): void {
    const row = this.#rowOf(issued, outcome, extra)
    issued.phase = "recorded"
    this.#sent(row.position)
    if (this.mode === "stopped") return
    const { emitted, children } = extra ?? none
    const parts = { records: [row], emitted, children }
    this.env.append(new SentRecord(this, parts, issued, row, outcome))
  }

  reserve(issued: Issued, result: Reserved["record"]["result"] & object): Reserved {
    const outcome: Outcome = { _tag: "Success", result }
    const record = this.#rowOf(issued, outcome)
    const { position } = record
    this.#sent(position)
    issued.phase = "recorded"
    return {
      record,
      committed: (answer) => {
        this.answered(position)
        if (this.mode === "stopped") return
        this.recorded(record, outcome, answer.now)
        this.noteAnswer(answer)
        this.progress()
      },
      dropped: () => {
        this.answered(position)
        issued.phase = "active"
        // later ones may have waited for it
        this.progress()
      },
    }
  }

  publish(values: Attributes): void {
    if (this.mode !== "forward") return
    this.published.set(values)
    if (this.published.waits()) this.pump()
  }

  write(fragment: Fragment): void {
    if (this.mode !== "stopped") this.env.append(new Sent(this, fragment, fragment))
  }

  finish(transition: Transition, end: ExecutionEnd, with_?: Partial<Fragment>): void {
    if (this.mode === "stopped") return
    this.mode = "stopped"
    const goesOn = transition._tag === "HandBack" || transition._tag === "Park"
    const notes = goesOn ? this.#notesToLeave() : []
    if (this.parkedSince === null) this.#shutDown()
    else this.#shutDownLater()
    const parts = notes.length > 0 ? { ...with_, records: notes } : (with_ ?? none)
    this.env.append(new Ending(this, transition, end, parts))
  }

  progress(): void {
    if (this.mode === "ending") this.onProgress?.()
    else this.pump()
  }

  stop(end: ExecutionEnd): void {
    if (this.mode === "stopped") return
    this.mode = "stopped"
    this.#shutDown()
    this.onEnd(end)
  }

  wentOn(): void {
    if (this.parkedSince === null) return
    this.env.parkedTooSoon(realMonotonicMs() - this.parkedSince)
    this.parkedSince = null
  }

  noteAnswer(answer: RunSignals & { readonly now?: number }): void {
    if (answer.now !== undefined) {
      this.#storeBase = answer.now
      this.#monotonicBase = this.env.monotonicMs()
    }
    this.onSignals(answer)
  }

  #rowOf(
    issued: Issued,
    outcome: Outcome,
    extra?: { readonly eventId?: number | null; readonly unknown?: boolean },
  ): LiveRecord {
    return new LiveRecord(issued, outcome, {
      position: this.#nextPosition++,
      elapsedMs: issued.startedAtMs === 0 ? 0 : this.env.monotonicMs() - issued.startedAtMs,
      eventId: extra?.eventId ?? null,
      isUnknown: extra?.unknown === true,
      isFirst: !issued.noted && this.noteOn(issued.key) === undefined,
    })
  }

  /** A record stands: its delivery has its place behind all of lower numbers. */
  recorded(row: LiveRecord, outcome: Outcome, at: number): void {
    const { queue, head } = this
    const { position } = row
    this.#retrying?.delete(row.stepKey)
    row.completedAt = at
    this.historyBytes += row.result?.json.length ?? 0
    this.records.set(row.stepKey, row)
    const queued: Queued = { key: row.stepKey, kind: row.kind, position, outcome, at }
    let place = queue.length
    while (place > head && (queue[place - 1] as Queued).position > position) place--
    if (place === queue.length) queue.push(queued)
    else queue.splice(place, 0, queued)
  }

  #sent(position: number): void {
    // numbers are drawn in order, so the first one in is the lowest
    if (this.#onTheirWay === null) this.#onTheirWay = [position]
    else this.#onTheirWay.push(position)
  }

  answered(position: number): void {
    const place = this.#onTheirWay?.indexOf(position) ?? -1
    if (place >= 0) this.#onTheirWay?.splice(place, 1)
  }

  /** A lower number may still be committed: the journal keeps the order, transactions do not. */
  isAwaited(position: number): boolean {
    const lowest = this.#onTheirWay?.[0]
    return lowest !== undefined && lowest < position
  }

  #notesToLeave(): ReadonlyArray<RecordWrite> {
    return [...this.open].flatMap((issued) => {
      const note = issued.noteToLeave?.() ?? null
      return note === null ? [] : [note]
    })
  }

  /** Ends everything that belongs to this execution in memory. */
  #shutDown(): void {
    this.#stopOperations()
    this.#abandonBody?.()
  }

  /** A parked body may still be at pure asynchronous work: it is heard for a while. */
  #shutDownLater(): void {
    this.#stopOperations()
    if (this.#abandonBody === null) return
    const abandon = Effect.sync(this.#abandonBody)
    const graceMs = this.env.limits.divergenceGraceMs
    this.env.fork(Effect.ensuring(inRealTime(graceMs, turnsToDiverge), abandon))
  }

  #stopOperations(): void {
    this.calm?.interruptUnsafe()
    for (const issued of this.issued.values()) {
      issued.timer?.interruptUnsafe()
      issued.running?.abort(new Error(`run ${this.run.workflowRunId} went on without this step`))
    }
  }

  /** Once the body is at rest: one delivery, or whatever else there is to do. */
  pump(): void {
    if (this.#pumping || this.mode === "stopped") return
    this.#pumping = true
    this.rest.whenAtRest(() => {
      this.#pumping = false
      this.stirred = false
      if (this.mode !== "stopped") step(this)
    })
  }

  // --- from outside ----------------------------------------------------------

  onSignals(signals: RunSignals): void {
    if (this.mode === "stopped") return
    // answers may arrive out of order: the counter only grows
    if (signals.wakeCounter < this.signals.wakeCounter) return
    const wasPausing = this.signals.pauseRequest !== null
    this.signals = signals
    if (this.mode === "forward") {
      if (signals.cancelRequest !== null) return this.parts.cancelled(this)
      if (signals.deadlinePassed) return this.parts.timedOut(this)
      if (signals.wakeCounter !== this.sourcesCounter) this.env.refreshSources()
      if (wasPausing !== (signals.pauseRequest !== null)) this.pump()
    }
  }

  onSources(sources: RunSources): void {
    if (this.mode === "stopped" || sources.wakeCounter < this.sourcesCounter) return
    takeSources(this, sources)
    this.noteAnswer(sources)
    if (this.mode !== "forward") return
    this.parts.sourcesChanged(this)
    this.pump()
  }

  requestHandBack(): void {
    this.#handBackRequested = true
    this.pump()
  }

  stopLost(): void {
    this.stop({ _tag: "lost" })
  }
}
