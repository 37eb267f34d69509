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
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Attributes } from "../Attributes.ts"
import type { StoredError } from "../ErrorPayload.ts"
import { encodeError } from "../ErrorPayload.ts"
import {
  HistoryTooLong,
  type PoolTooSmall,
  StepMismatch,
  type TransactionBroken,
  type TransactionUnsupported,
} from "../FlowlyError.ts"
import type { Encoded } from "../Payload.ts"
import type {
  ChildRow,
  ClaimedRun,
  EventRow,
  Isolation,
  RecordWrite,
  RunHistory,
  RunSignals,
  RunSources,
  RunWrite,
  StepRecord,
  StoreError,
  TimerRow,
  Transaction,
  Transition,
  WriteAnswer,
} from "../WorkflowStore.ts"
import type { RunningAttempt } from "./attempt.ts"
import type { Operation, Outcome } from "./Operation.ts"
import { takesPatch, undecidedPatch } from "./patches.ts"
import { parkedWaits } from "./parkedWaits.ts"
import { makePublished } from "./published.ts"
import { makeRest, type Rest } from "./rest.ts"

/**
 * A part of a run's write, with the way back. `rejected`: the database refuses these very rows.
 */
export interface Fragment extends Partial<Omit<RunWrite, "workflowRunId" | "token">> {
  readonly onCommitted: (answer: Extract<WriteAnswer, { readonly _tag: "committed" }>) => void
  readonly onRejected?: (error: StoredError) => void
  readonly onLost?: () => void
}

/**
 * How an execution ended. The claim is over, but for `compensate`, where the same claim goes on.
 */
export type ExecutionEnd =
  | { readonly _tag: "settled"; readonly transition: Extract<Transition, { _tag: "Settle" }> }
  | { readonly _tag: "compensate"; readonly error: StoredError }
  | { readonly _tag: "parked"; readonly woken: boolean }
  | { readonly _tag: "handed-back" }
  | { readonly _tag: "retrying"; readonly error: StoredError }
  | { readonly _tag: "paused"; readonly error: StoredError }
  | { readonly _tag: "lost" }

/**
 * How a body ended.
 */
export type BodyEnd =
  | { readonly _tag: "Success"; readonly result: Encoded }
  /** `raw` is what the body failed with, for finding the record that it came from. */
  | { readonly _tag: "Failure"; readonly error: StoredError; readonly raw: unknown }
  /** A stored value could not be read by this code: stop, keep everything, ask a person. */
  | { readonly _tag: "Unreadable"; readonly error: StoredError }

/**
 * The limits and pauses of an execution.
 */
export interface ExecutionLimits {
  /** How long the body may be at rest before an unasked record is a divergence. */
  readonly divergenceGraceMs: number
  /** How long the body must have been at rest before the run parks. */
  readonly parkGraceMs: number
  /** Waits and backoffs up to this stay in memory. */
  readonly shortWaitMs: number
  /** Records of one run. */
  readonly maxRecords: number
  /** Operations open at once in one run. */
  readonly maxFanOut: number
  /** Of all results of one run, in characters of their stored text. */
  readonly maxHistoryBytes: number
  /** How long a failing run waits for its executing steps. */
  readonly drainMs: number
}

/**
 * `WorkflowStore.transact` under this execution's claim.
 */
export type Transact = <E>(options: {
  readonly isolation: Isolation | null
  readonly use: (transaction: Transaction) => Effect.Effect<RecordWrite, E>
}) => Effect.Effect<
  Exclude<WriteAnswer, { readonly _tag: "busy" }>,
  E | StoreError | TransactionUnsupported | TransactionBroken | PoolTooSmall
>

/**
 * Which endings of a run undo its completed steps.
 */
export interface CompensateOn {
  readonly failure: boolean
  readonly cancel: boolean
  readonly timeout: boolean
}

/**
 * What an execution needs from its process.
 */
export interface ExecutionEnv {
  readonly limits: ExecutionLimits
  /** Runs an effect in the worker's context; the fiber is supervised by the worker. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  readonly append: (fragment: Fragment) => void
  /** Asks the store for this run's signals soon; they come through `onSignals`. */
  readonly refreshSignals: () => void
  /** Asks the store for this run's sources; they come through `onSources`. */
  readonly refreshSources: () => void
  readonly transact: Transact
  readonly transactionOutcome: (
    record: RecordWrite,
  ) => Effect.Effect<Exclude<WriteAnswer, { _tag: "busy" }> | null, StoreError>
  /** Whether completed steps are undone, as the workflow chooses. */
  readonly compensateOn: CompensateOn
  readonly cancelChildren: (workflowRunIds: ReadonlyArray<string>) => Effect.Effect<void>
  /** The run has parked, and its body went on after so long at rest: it was too soon. */
  readonly parkedTooSoon: (restedMs: number) => void
  /** The trust deadline has not passed: asked synchronously before each step body. */
  readonly leaseTrusted: () => boolean
  readonly monotonicMs: () => number
  readonly random: () => number
  readonly newRunId: () => string
  readonly hook: (event: ExecutionHook) => void
}

/**
 * What happens inside a run, told to hooks of this process.
 */
export type ExecutionHook =
  | { readonly _tag: "step:started"; readonly stepKey: string; readonly attempt: number }
  | { readonly _tag: "step:completed"; readonly stepKey: string; readonly attempts: number }
  | {
      readonly _tag: "step:failed"
      readonly stepKey: string
      readonly attempts: number
      readonly error: StoredError
      readonly willRetry: boolean
    }
  | { readonly _tag: "compensated"; readonly stepKey: string; readonly failed: boolean }

/**
 * What a body gets back for an operation: the outcome with its place in the order of completion.
 */
export interface Delivered {
  readonly outcome: Outcome
  readonly position: number
}

/**
 * An operation the body has asked for.
 */
export interface Issued {
  readonly key: string
  readonly operation: Operation
  readonly resume: (delivered: Delivered) => void
  phase: "unstarted" | "active" | "waiting" | "recorded" | "delivered"
  /** The branch that asked is gone: a delivery changes nothing. */
  abandoned: boolean
  attempts: number
  /** While `waiting`: by the store's clock; `null` waits for a child or an event. */
  wakeAt: number | null
  timer: Fiber.Fiber<void> | null
  /** Begins the next try of a step. */
  again: (() => void) | null
  /** The try under way, of the step or of its undo. */
  running: RunningAttempt | null
  startedAtMs: number
  /** Deliveries that the body had seen when it asked. */
  readonly afterDeliveries: number
  /** The highest position among them. */
  readonly issuedAfter: number
  /** Asked for by pure asynchronous work, not in the wake of a delivery. */
  readonly spontaneous: boolean
}

/** A record, or what an operation left behind that had begun: timer, child, stored backoff. */
interface Known {
  readonly key: string
  readonly kind: Operation["kind"]
  readonly position: number
}

interface Queued extends Known {
  readonly outcome: Outcome
  readonly at: number | null
}

/**
 * A place in the order of completion, for a record that is on its way by itself.
 */
export interface Reserved {
  readonly record: RecordWrite
  readonly committed: (answer: Extract<WriteAnswer, { readonly _tag: "committed" }>) => void
  /** It is certain that the record will never be. */
  readonly dropped: () => void
}

/**
 * The machine's state and the verbs that its parts (steps, waits, endings) share.
 */
export interface Execution {
  readonly run: ClaimedRun
  readonly env: ExecutionEnv
  readonly rest: Rest
  readonly issued: ReadonlyMap<string, Issued>
  /** Those of them that have not been delivered. */
  readonly open: ReadonlySet<Issued>
  /** All final records known so far, from the history and from this execution. */
  readonly records: Map<string, StepRecord>
  readonly retrying: Map<string, StepRecord>
  readonly timers: Map<string, number>
  readonly children: Map<string, ChildRow>
  readonly events: Array<EventRow>
  /** Ids of events that records of this execution consume. */
  readonly takenEvents: Set<number>
  /** Errors given to the body, with the position of the record each came from. */
  readonly failures: Map<unknown, number>
  signals: RunSignals
  /** The wake counter as of the newest reading of the sources. */
  sourcesCounter: number
  bodyEnd: BodyEnd | null
  lastFailure: number | null
  /** Time of the last completion delivered to the body: what the body's clock shows. */
  nowForBody: number
  /** Called in mode `ending` whenever a step ended or an answer came. */
  onProgress: (() => void) | null
  /** Steps whose body runs. */
  executing: number
  /** Fragments handed to the journal that have no answer yet. */
  inFlight: number
  /** `ending`: the outcome is decided, executing steps are awaited. */
  mode: "forward" | "compensating" | "ending" | "stopped"
  readonly handBack: () => boolean
  readonly storeNow: () => number
  readonly issue: (operation: Operation, resume: (delivered: Delivered) => void) => Issued | null
  readonly abandon: (issued: Issued) => void
  /** Nothing more will come of this operation. */
  readonly forget: (issued: Issued) => void
  readonly record: (
    issued: Issued,
    outcome: Outcome,
    extra?: Partial<Pick<RecordWrite, "eventId">> &
      Pick<Fragment, "emitted" | "children"> & {
        /** With a failure: a step of which it is not known what it did, and which is to be undone. */
        readonly unknown?: boolean
      },
  ) => void
  /**
   * Takes the next place in the order of completion for a record that a transaction commits by
   * itself. Nothing later is delivered before it is known what became of it.
   */
  readonly reserve: (issued: Issued, result: Encoded) => Reserved
  readonly write: (fragment: Fragment) => void
  /** Attributes, and the status text, that the run shows from now on. */
  readonly publish: (values: Attributes) => void
  readonly finish: (transition: Transition, end: ExecutionEnd, with_?: Partial<Fragment>) => void
  /** Something changed: look again what can be delivered, started, parked or concluded. */
  readonly progress: () => void
  readonly stop: (end: ExecutionEnd) => void
  /** The body asked for an operation, or ended, after its execution had stopped. */
  readonly wentOn: () => void
  readonly noteAnswer: (answer: RunSignals & { readonly now?: number }) => void
}

/**
 * What the machine calls in its neighbours, so that each part can be read by itself.
 */
export interface ExecutionParts {
  readonly start: (execution: Execution, issued: Issued) => void
  /** The timer of a waiting operation has run out, by our clock. */
  readonly due: (execution: Execution, issued: Issued) => void
  readonly sourcesChanged: (execution: Execution) => void
  readonly bodyEnded: (execution: Execution, end: BodyEnd) => void
  /** The history is used up and the body is at rest, in a compensating replay. */
  readonly replayed: (execution: Execution) => void
  readonly cancelled: (execution: Execution) => void
  readonly timedOut: (execution: Execution) => void
}

/**
 * What the worker holds of a running execution.
 */
export interface ExecutionHandle {
  readonly execution: Execution
  readonly onSignals: (signals: RunSignals) => void
  readonly onSources: (sources: RunSources) => void
  /** Reach the next safe point, then hand the run back. */
  readonly requestHandBack: () => void
  /** The claim is lost, or not to be trusted: stop at once, write nothing more. */
  readonly stopLost: () => void
}

const toQueued = (record: StepRecord): Queued => ({
  key: record.stepKey,
  kind: record.kind,
  position: record.position ?? 0,
  at: record.completedAt,
  outcome:
    record.status === "completed"
      ? { _tag: "Success", result: record.result }
      : { _tag: "Failure", error: record.error ?? encodeError(undefined) },
})

/**
 * Starts an execution. `startBody` runs the body on the given scheduler and reports its end;
 * it returns how to abandon it. `onEnd` is called once.
 */
export const startExecution = (options: {
  readonly run: ClaimedRun
  readonly history: RunHistory | null
  readonly env: ExecutionEnv
  readonly parts: ExecutionParts
  readonly startBody: (execution: Execution, onEnd: (end: BodyEnd) => void) => () => void
  readonly onEnd: (end: ExecutionEnd) => void
}): ExecutionHandle => {
  const { run, history, env, parts } = options
  const { divergenceGraceMs, parkGraceMs } = env.limits
  const patchGraceMs = Math.min(divergenceGraceMs, mostPatchGraceMs)
  const rest = makeRest()
  const published = makePublished()
  const issuedByKey = new Map<string, Issued>()
  const uses = new Map<string, number>()
  const unstarted: Array<Issued> = []
  const queue: Array<Queued> = []
  const carried: Array<Queued> = []
  /** Operations without a record that an earlier execution of this attempt had begun. */
  const begun: Array<Known> = []
  /** What earlier executions had begun, by when they had asked for it. */
  const starts: Array<Pick<StepRecord, "stepKey" | "issuedAfter">> = []
  let nextStart = 0
  let deliveries = 0
  let lastDelivered = 0
  /** The body runs because of a delivery, or has just begun. */
  let stirred = true
  let nextPosition = 1
  /** Places of records whose commit is under way: in the journal, or in a transaction of their own. */
  const onTheirWay = new Set<number>()
  let historyBytes = 0
  const open = new Set<Issued>()
  /** Index of the next delivery in `queue`: shifting a long array would copy it each time. */
  let head = 0
  let pumping = false
  /** Runs while we wait for the body to do more by itself. */
  let calm: Fiber.Fiber<void> | null = null
  /** What we waited for in vain. */
  let calmOver: string | null = null
  /** Since when the body of the parked run was at rest, by the real clock. */
  let parkedSince: number | null = null
  let restingSince = 0
  let handBackRequested = false
  let abandonBody: (() => void) | null = null
  let storeBase = history?.now ?? run.startedAt
  let monotonicBase = env.monotonicMs()

  const newKey = (name: string): string => {
    while (true) {
      const used = (uses.get(name) ?? 0) + 1
      uses.set(name, used)
      const key = used === 1 ? name : `${name}#${used}`
      // "a#2" may have been used as a name
      if (!issuedByKey.has(key)) return key
    }
  }

  const execution: Execution = {
    run,
    env,
    rest,
    issued: issuedByKey,
    open,
    records: new Map(),
    retrying: new Map(),
    timers: new Map(),
    children: new Map(),
    events: [],
    takenEvents: new Set(),
    failures: new Map(),
    signals: history ?? run,
    sourcesCounter: history?.wakeCounter ?? run.wakeCounter,
    bodyEnd: null,
    lastFailure: null,
    nowForBody: run.startedAt,
    onProgress: null,
    executing: 0,
    inFlight: 0,
    mode: run.compensating ? "compensating" : "forward",
    // who is asked to pause hands back: the store makes of it a pause, if it is still wanted
    handBack: () => handBackRequested || execution.signals.pauseRequest !== null,
    storeNow: () => storeBase + (env.monotonicMs() - monotonicBase),

    issue: (operation, resume) => {
      if (execution.mode === "stopped" || execution.mode === "ending") return null
      const key = newKey(operation.name)
      const issued: Issued = {
        key,
        operation,
        resume,
        phase: "unstarted",
        abandoned: false,
        attempts: 0,
        wakeAt: null,
        timer: null,
        again: null,
        running: null,
        startedAtMs: 0,
        afterDeliveries: deliveries,
        issuedAfter: lastDelivered,
        spontaneous: !stirred,
      }
      calmOver = null
      issuedByKey.set(key, issued)
      unstarted.push(issued)
      open.add(issued)
      pump()
      return issued
    },

    abandon: (issued) => {
      issued.abandoned = true
      issued.running?.abort(new Error(`step "${issued.key}" was interrupted`))
      if (issued.phase === "waiting" || issued.phase === "unstarted") {
        execution.forget(issued)
        pump()
      }
    },

    forget: (issued) => {
      issued.timer?.interruptUnsafe()
      issued.timer = null
      open.delete(issued)
    },

    record: (issued, outcome, extra) => {
      const completed = outcome._tag === "Success"
      const row = rowOf(issued, outcome, extra)
      const position = row.position as number
      issued.phase = "recorded"
      onTheirWay.add(position)
      execution.write({
        records: [row],
        ...(extra?.emitted ? { emitted: extra.emitted } : {}),
        ...(extra?.children ? { children: extra.children } : {}),
        onCommitted: (answer) => {
          onTheirWay.delete(position)
          const refused = answer.refusedSleeps.find((timer) => timer.stepKey === issued.key)
          if (refused) {
            issued.phase = "waiting"
            issued.wakeAt = refused.wakeAt
            if (issued.abandoned) execution.forget(issued)
            else {
              armTimer(issued)
              // an event may have come while the end in vain was on its way
              parts.sourcesChanged(execution)
            }
            return
          }
          recorded(row, outcome, answer.now)
        },
        onRejected: (error) => {
          onTheirWay.delete(position)
          // the value is what the database refuses: the failure must be smaller than it was
          if (completed) execution.record(issued, { _tag: "Failure", error }, { unknown: true })
          else execution.finish({ _tag: "Pause", error }, { _tag: "paused", error })
        },
      })
    },

    reserve: (issued, result) => {
      const outcome: Outcome = { _tag: "Success", result }
      const record = rowOf(issued, outcome)
      const position = record.position as number
      onTheirWay.add(position)
      issued.phase = "recorded"
      return {
        record,
        committed: (answer) => {
          onTheirWay.delete(position)
          if (execution.mode === "stopped") return
          recorded(record, outcome, answer.now)
          execution.noteAnswer(answer)
          progress()
        },
        dropped: () => {
          onTheirWay.delete(position)
          historyBytes -= result.json.length
          issued.phase = "active"
          // later ones may have waited for it
          progress()
        },
      }
    },

    publish: (values) => {
      if (execution.mode !== "forward") return
      published.set(values)
      if (published.waits()) pump()
    },

    write: (fragment) => {
      if (execution.mode === "stopped") return
      execution.inFlight++
      env.append({
        ...fragment,
        ...published.take(),
        onCommitted: (answer) => {
          execution.inFlight--
          if (execution.mode === "stopped") return
          fragment.onCommitted(answer)
          execution.noteAnswer(answer)
          progress()
        },
        onRejected: (error) => {
          execution.inFlight--
          if (execution.mode === "stopped") return
          if (fragment.onRejected) fragment.onRejected(error)
          else execution.finish({ _tag: "Pause", error }, { _tag: "paused", error })
          progress()
        },
        onLost: () => execution.stop({ _tag: "lost" }),
      })
    },

    finish: (transition, end, with_) => {
      if (execution.mode === "stopped") return
      execution.mode = "stopped"
      if (parkedSince === null) shutDown()
      else shutDownLater()
      env.append({
        ...with_,
        ...published.take(),
        transition,
        onLost: () => options.onEnd({ _tag: "lost" }),
        onCommitted: (answer) => {
          const woken = transition._tag === "Park" && answer.wakeCounter !== transition.wakeCounter
          options.onEnd(end._tag === "parked" ? { _tag: "parked", woken } : end)
        },
        onRejected: (error) => {
          // the result is what the database refuses: keep the run, ask a person
          const pause: Transition = { _tag: "Pause", error }
          if (transition._tag === "Pause") return options.onEnd({ _tag: "lost" })
          env.append({
            transition: pause,
            onLost: () => options.onEnd({ _tag: "lost" }),
            onCommitted: () => options.onEnd({ _tag: "paused", error }),
            onRejected: () => options.onEnd({ _tag: "lost" }),
          })
        },
      })
    },

    progress: () => progress(),

    stop: (end) => {
      if (execution.mode === "stopped") return
      execution.mode = "stopped"
      shutDown()
      options.onEnd(end)
    },

    wentOn: () => {
      if (parkedSince === null) return
      env.parkedTooSoon(realMonotonicMs() - parkedSince)
      parkedSince = null
    },

    noteAnswer: (answer) => {
      if (answer.now !== undefined) {
        storeBase = answer.now
        monotonicBase = env.monotonicMs()
      }
      onSignals(answer)
    },
  }

  const rowOf = (
    issued: Issued,
    outcome: Outcome,
    extra?: { readonly eventId?: number | null; readonly unknown?: boolean },
  ): RecordWrite => {
    const completed = outcome._tag === "Success"
    if (completed) historyBytes += outcome.result?.json.length ?? 0
    const { operation } = issued
    return {
      stepKey: issued.key,
      name: operation.name,
      kind: operation.kind,
      position: nextPosition++,
      issuedAfter: issued.issuedAfter,
      status: completed ? "completed" : "failed",
      attempts: Math.max(issued.attempts, 1),
      result: completed ? outcome.result : null,
      error: completed ? null : outcome.error,
      hasCompensate: completed
        ? "undo" in operation && operation.undo !== null
        : extra?.unknown === true && undoesUnknown(operation),
      retryDelayMs: null,
      elapsedMs: issued.startedAtMs === 0 ? 0 : env.monotonicMs() - issued.startedAtMs,
      eventId: extra?.eventId ?? null,
    }
  }

  /** A record stands: its delivery has its place behind all of lower numbers. */
  const recorded = (row: RecordWrite, outcome: Outcome, at: number): void => {
    const position = row.position ?? 0
    execution.retrying.delete(row.stepKey)
    execution.records.set(row.stepKey, recordOf(row, at))
    let place = queue.length
    while (place > head && (queue[place - 1] as Queued).position > position) place--
    queue.splice(place, 0, { key: row.stepKey, kind: row.kind, position, outcome, at })
  }

  /** A lower number may still be committed: the journal keeps the order, transactions do not. */
  const isAwaited = (position: number): boolean => {
    // numbers are drawn in order, so the first one in is the lowest
    const { value: lowest } = onTheirWay.values().next()
    return lowest !== undefined && lowest < position
  }

  const progress = (): void => {
    if (execution.mode === "ending") execution.onProgress?.()
    else pump()
  }

  /** Ends everything that belongs to this execution in memory. */
  const shutDown = () => {
    stopOperations()
    abandonBody?.()
  }

  /** A parked body may still be at pure asynchronous work: it is heard for a while. */
  const shutDownLater = () => {
    stopOperations()
    if (abandonBody === null) return
    const abandon = Effect.sync(abandonBody)
    env.fork(Effect.ensuring(inRealTime(divergenceGraceMs, turnsToDiverge), abandon))
  }

  const stopOperations = () => {
    calm?.interruptUnsafe()
    for (const issued of issuedByKey.values()) {
      issued.timer?.interruptUnsafe()
      issued.running?.abort(new Error(`run ${run.workflowRunId} went on without this step`))
    }
  }

  const armTimer = (issued: Issued): void => {
    if (issued.wakeAt === null) return
    issued.timer?.interruptUnsafe()
    const remaining = Math.max(0, issued.wakeAt - execution.storeNow())
    issued.timer = env.fork(
      Effect.andThen(
        Effect.sleep(remaining),
        Effect.sync(() => {
          issued.timer = null
          if (issued.phase === "waiting" && execution.mode !== "stopped") {
            parts.due(execution, issued)
            progress()
          }
        }),
      ),
    )
  }

  // ---------------------------------------------------------------------------
  // The pump: one delivery, then rest, then the next
  // ---------------------------------------------------------------------------

  const pump = (): void => {
    if (pumping || execution.mode === "stopped") return
    pumping = true
    rest.whenAtRest(() => {
      pumping = false
      stirred = false
      if (execution.mode !== "stopped") step()
    })
  }

  const step = (): void => {
    if (execution.mode === "ending") return
    // whatever brought us here again was a sign of life: a grace begins anew
    calm?.interruptUnsafe()
    calm = null
    if (execution.bodyEnd !== null) return ended(execution.bodyEnd)
    const next = queue[head]
    if (deliverCarried(next?.position ?? Infinity)) return pump()
    // its end brings us here again
    if (next !== undefined && isAwaited(next.position)) return
    if (next !== undefined) {
      const issued = issuedByKey.get(next.key)
      if (issued === undefined) {
        if (next.kind !== "patch") return awaitIssue(next.key, () => divergeUnissued(next))
        return unlessIssued(next.key, patchGraceMs, () => passOver(next))
      }
      if (issued.operation.kind !== next.kind) return diverge(next, issued)
      if (awaitEarlierStarts(next)) return
      advance()
      deliver(issued, next)
      return pump()
    }
    if (awaitBegun()) return
    if (execution.mode === "compensating") return parts.replayed(execution)
    published.open()
    if (published.waits() && execution.inFlight === 0) execution.write({ onCommitted: () => {} })
    if (execution.handBack()) return considerHandBack()
    if (unstarted.length > 0) startAll()
    considerParking()
  }

  const advance = (): void => {
    head++
    if (head === queue.length) {
      queue.length = 0
      head = 0
    }
  }

  /**
   * Gives what an earlier attempt had completed, lowest first, once the body has asked for it: after
   * the records of lower numbers, as the attempt before had it, and before those of higher ones.
   */
  const deliverCarried = (before: number): boolean => {
    for (let i = 0; i < carried.length; i++) {
      const record = carried[i] as Queued
      if (record.position > before) return false
      const issued = issuedByKey.get(record.key)
      if (issued === undefined) continue
      if (issued.operation.kind !== record.kind) {
        diverge(record, issued)
        return true
      }
      carried.splice(i, 1)
      deliver(issued, record)
      return true
    }
    return false
  }

  const deliver = (issued: Issued, record: Queued): void => {
    issued.phase = "delivered"
    open.delete(issued)
    deliveries++
    lastDelivered = Math.max(lastDelivered, record.position)
    stirred = true
    calmOver = null
    if (record.at !== null) execution.nowForBody = Math.max(execution.nowForBody, record.at)
    if (record.outcome._tag === "Failure") execution.lastFailure = record.position
    if (!issued.abandoned) issued.resume({ outcome: record.outcome, position: record.position })
  }

  /**
   * What the body had begun before this record was delivered, it must have asked for again: pure
   * asynchronous work may stand between, and a race behind it would be lost to a late record.
   */
  const awaitEarlierStarts = (record: Queued): boolean => {
    for (; nextStart < starts.length; nextStart++) {
      const { stepKey, issuedAfter } = starts[nextStart] as (typeof starts)[number]
      if (issuedAfter >= record.position) return false
      if (issuedByKey.has(stepKey) || calmOver === stepKey) continue
      // in vain, this record is delivered all the same: that one's own turn tells of changed code
      awaitIssue(stepKey, pump)
      return true
    }
    return false
  }

  /** What an earlier execution had begun, this one must ask for before it begins anything else. */
  const awaitBegun = (): boolean => {
    for (let one = begun[0]; one !== undefined; one = begun[0]) {
      const missing = one
      const issued = issuedByKey.get(missing.key)
      if (issued === undefined) {
        awaitIssue(missing.key, () => {
          if (execution.mode !== "compensating") return diverge(missing, calledInstead(missing))
          // an undo that the code does not offer is told of with all the others
          begun.shift()
          pump()
        })
        return true
      }
      if (!isSameKind(missing, issued.operation)) {
        diverge(missing, issued)
        return true
      }
      begun.shift()
    }
    return false
  }

  /**
   * Waits a grace for the body, which may be at pure asynchronous work; anything that happens ends
   * the wait. It is counted in time and in turns of the event loop: a loop that was blocked runs its
   * timers before what it kept waiting, and a busy one gives the body few turns in a second.
   */
  const unlessIssued = (awaited: string, graceMs: number, otherwise: () => void): void => {
    if (calmOver === awaited) return otherwise()
    const turns = awaited === parking ? turnsToPark : turnsToDiverge
    const slice =
      graceMs === 0 ? Effect.yieldNow : inRealTime(graceMs / graceSlices, turns / graceSlices)
    calm = env.fork(
      Effect.andThen(
        Effect.repeat(slice, { times: graceSlices - 1 }),
        Effect.sync(() => {
          calm = null
          calmOver = awaited
          pump()
        }),
      ),
    )
  }

  /**
   * Waits for what the history has. A body that stands at a patch meanwhile has gone past it before,
   * with the old code: it is told so, unrecorded, because what tells it remains.
   */
  const awaitIssue = (key: string, otherwise: () => void): void => {
    const patch = undecidedPatch(execution)
    if (patch === null) return unlessIssued(key, divergenceGraceMs, otherwise)
    unlessIssued(`${atPatch}${key}`, patchGraceMs, () => {
      patch.phase = "delivered"
      open.delete(patch)
      calmOver = null
      stirred = true
      patch.resume({ outcome: takesPatch(false), position: lastDelivered })
      pump()
    })
  }

  /** A patch that the code no longer asks for has done its duty; one that asks late gets its answer. */
  const passOver = (record: Queued): void => {
    advance()
    lastDelivered = Math.max(lastDelivered, record.position)
    if (record.at !== null) execution.nowForBody = Math.max(execution.nowForBody, record.at)
    carried.push(record)
    carried.sort((a, b) => a.position - b.position)
    pump()
  }

  const divergeUnissued = (record: Queued): void => {
    if (execution.mode === "compensating") {
      // what nobody asks for and nobody would undo may be passed over here
      const stored = execution.records.get(record.key)
      if (stored === undefined || !stored.hasCompensate) {
        advance()
        return pump()
      }
    }
    diverge(record, calledInstead(record))
  }

  /** What the code most likely asks for in the place of the record. */
  const calledInstead = (record: Known): Issued | null => {
    const waiting = unstarted.filter(
      (issued) => issued.phase === "unstarted" && !issued.abandoned && issued.key !== record.key,
    )
    const recent = waiting.filter((issued) => issued.afterDeliveries === deliveries)
    const isNew = (issued: Issued) => !execution.records.has(issued.key)
    return recent.find(isNew) ?? recent[0] ?? waiting.find(isNew) ?? waiting[0] ?? null
  }

  const diverge = (record: Known, called: Issued | null): void => {
    const error = encodeError(
      new StepMismatch({
        workflowRunId: run.workflowRunId,
        workflow: run.workflow,
        recordedKey: record.key,
        recordedKind: record.kind,
        position: record.position,
        calledKey: called?.key ?? null,
        calledKind: called?.operation.kind ?? null,
      }),
    )
    execution.finish({ _tag: "Pause", error }, { _tag: "paused", error })
  }

  /** The body has ended: what remains of the history must at least have been issued. */
  const ended = (end: BodyEnd): void => {
    if (end._tag === "Unreadable") {
      return execution.finish(
        { _tag: "Pause", error: end.error },
        { _tag: "paused", error: end.error },
      )
    }
    for (const record of [...queue.slice(head), ...begun]) {
      const issued = issuedByKey.get(record.key)
      if (issued === undefined) {
        if (record.kind === "patch") continue
        if (execution.mode === "compensating" && !execution.records.get(record.key)?.hasCompensate)
          continue
        return diverge(record, calledInstead(record))
      }
      if (!isSameKind(record, issued.operation)) return diverge(record, issued)
    }
    if (execution.mode === "compensating") return parts.replayed(execution)
    published.open()
    parts.bodyEnded(execution, end)
  }

  const startAll = (): void => {
    const batch = unstarted.splice(0).filter((issued) => issued.phase === "unstarted")
    if (
      execution.records.size + open.size > env.limits.maxRecords ||
      open.size > env.limits.maxFanOut ||
      historyBytes > env.limits.maxHistoryBytes
    ) {
      const error = encodeError(
        new HistoryTooLong({
          workflowRunId: run.workflowRunId,
          records: execution.records.size,
          open: open.size,
          bytes: historyBytes,
          maxRecords: env.limits.maxRecords,
          maxFanOut: env.limits.maxFanOut,
          maxBytes: env.limits.maxHistoryBytes,
        }),
      )
      parts.bodyEnded(execution, { _tag: "Failure", error, raw: undefined })
      return
    }
    for (const issued of batch) {
      if (execution.mode !== "forward") return
      if (issued.abandoned) continue
      if (issued.spontaneous && !isMarked(issued)) markThenStart(issued)
      else parts.start(execution, issued)
    }
  }

  /** What needs no mark: an emit, or a patch, begins and ends with its record. */
  const isMarked = ({ key, operation }: Issued): boolean =>
    operation.kind === "emit" || operation.kind === "patch" || execution.retrying.has(key)

  /**
   * What pure asynchronous work led to is remembered before it begins, with the deliveries that the
   * body had seen by then. A race between that work and a record is decided on replay as it was.
   */
  const markThenStart = (issued: Issued): void => {
    const { key, operation, issuedAfter } = issued
    issued.phase = "active"
    execution.write({
      records: [
        {
          stepKey: key,
          name: operation.name,
          kind: operation.kind,
          position: null,
          issuedAfter,
          status: "retrying",
          attempts: 0,
          result: null,
          error: null,
          hasCompensate: undoesUnknown(operation),
          retryDelayMs: null,
          elapsedMs: 0,
          eventId: null,
        },
      ],
      onCommitted: () => {
        if (execution.mode === "forward" && !issued.abandoned) parts.start(execution, issued)
        else execution.forget(issued)
      },
    })
  }

  // ---------------------------------------------------------------------------
  // Parking, handing back
  // ---------------------------------------------------------------------------

  const considerParking = (): void => {
    if (execution.mode !== "forward") return
    const waiting: Array<Issued> = []
    for (const issued of open) {
      if (issued.phase === "waiting" && !issued.abandoned) waiting.push(issued)
    }
    if (waiting.length === 0) return
    let earliest: number | null = null
    let untimed = false
    for (const issued of waiting) {
      if (issued.wakeAt === null || issued.operation.kind === "event") untimed = true
      if (issued.wakeAt !== null) {
        earliest = earliest === null ? issued.wakeAt : Math.min(earliest, issued.wakeAt)
      }
    }
    const busy =
      execution.executing > 0 ||
      execution.inFlight > 0 ||
      execution.signals.wakeCounter !== execution.sourcesCounter
    const soon = earliest !== null && earliest - execution.storeNow() <= env.limits.shortWaitMs
    if (busy || soon) {
      for (const issued of waiting) if (issued.timer === null) armTimer(issued)
      return
    }
    // beside the wait, pure asynchronous work may be under way, with operations behind it
    if (parkGraceMs > 0 && earliest !== null) {
      // the wait may be over before the grace is
      const first = waiting.find((issued) => issued.wakeAt === earliest)
      if (first !== undefined && first.timer === null) armTimer(first)
    }
    if (calm === null && calmOver !== parking) restingSince = realMonotonicMs()
    unlessIssued(parking, parkGraceMs, () => {
      parkedSince = restingSince
      execution.finish(
        {
          _tag: "Park",
          status: untimed ? "waiting" : "sleeping",
          dueAt: earliest,
          delayMs: null,
          wakeCounter: execution.sourcesCounter,
          waits: parkedWaits(waiting),
        },
        { _tag: "parked", woken: false },
      )
    })
  }

  const considerHandBack = (): void => {
    if (execution.executing === 0 && execution.inFlight === 0) {
      execution.finish({ _tag: "HandBack" }, { _tag: "handed-back" })
    }
  }

  // ---------------------------------------------------------------------------
  // From outside
  // ---------------------------------------------------------------------------

  const onSignals = (signals: RunSignals): void => {
    if (execution.mode === "stopped") return
    // answers may arrive out of order: the counter only grows
    if (signals.wakeCounter < execution.signals.wakeCounter) return
    const wasPausing = execution.signals.pauseRequest !== null
    execution.signals = signals
    if (execution.mode === "forward") {
      if (signals.cancelRequest !== null) return parts.cancelled(execution)
      if (signals.deadlinePassed) return parts.timedOut(execution)
      if (signals.wakeCounter !== execution.sourcesCounter) env.refreshSources()
      if (wasPausing !== (signals.pauseRequest !== null)) pump()
    }
  }

  const takeSources = (sources: RunSources): void => {
    for (const child of sources.children) {
      const known = execution.children.get(child.stepKey)
      // a reading from before this attempt's child was inserted shows that of an earlier one
      if (known === undefined || known.parentAttempt <= child.parentAttempt) {
        execution.children.set(child.stepKey, child)
      }
    }
    // what a record has taken that is still on its way to the store must not be taken twice
    const events = sources.events.filter((event) => !execution.takenEvents.has(event.eventId))
    execution.events.splice(0, execution.events.length, ...events)
    execution.sourcesCounter = sources.wakeCounter
    sources.dueTimes.forEach(takeDueTime)
  }

  /** Others may move timers and stored backoffs. A short backoff is ours alone: it is not stored. */
  const takeDueTime = ({ stepKey, wakeAt }: TimerRow): void => {
    if (execution.timers.has(stepKey)) execution.timers.set(stepKey, wakeAt)
    const issued = issuedByKey.get(stepKey)
    if (issued?.phase !== "waiting" || issued.wakeAt === null || issued.wakeAt === wakeAt) return
    const { kind } = issued.operation
    const isTimer = kind === "sleep" || kind === "event"
    if (!isTimer && issued.wakeAt - execution.storeNow() <= env.limits.shortWaitMs) return
    issued.wakeAt = wakeAt
    if (issued.timer !== null) armTimer(issued)
  }

  const handle: ExecutionHandle = {
    execution,
    onSignals,
    onSources: (sources) => {
      if (execution.mode === "stopped" || sources.wakeCounter < execution.sourcesCounter) return
      takeSources(sources)
      execution.noteAnswer(sources)
      if (execution.mode !== "forward") return
      parts.sourcesChanged(execution)
      pump()
    },
    requestHandBack: () => {
      handBackRequested = true
      pump()
    },
    stopLost: () => execution.stop({ _tag: "lost" }),
  }

  // ---------------------------------------------------------------------------
  // Begin
  // ---------------------------------------------------------------------------

  if (history !== null) {
    takeSources(history)
    for (const timer of history.timers) execution.timers.set(timer.stepKey, timer.wakeAt)
    for (const record of history.records) {
      if (!record.carried && record.kind !== "patch") starts.push(record)
      if (record.status === "retrying") {
        execution.retrying.set(record.stepKey, record)
        continue
      }
      execution.records.set(record.stepKey, record)
      nextPosition = Math.max(nextPosition, (record.position ?? 0) + 1)
      historyBytes += record.result?.json.length ?? 0
      ;(record.carried ? carried : queue).push(toQueued(record))
    }
    queue.sort((a, b) => a.position - b.position)
    carried.sort((a, b) => a.position - b.position)
    starts.sort((a, b) => a.issuedAfter - b.issuedAfter)
    if (run.compensating) begun.push(...unknownBefore(execution, nextPosition))
    else begun.push(...begunBefore(execution, history, nextPosition))
  }
  // a request that was there at the claim is honoured before the body does anything new
  onSignals(execution.signals)
  if (execution.mode === "forward" || execution.mode === "compensating") {
    abandonBody = options.startBody(execution, (end) => {
      if (execution.mode === "stopped") return execution.wentOn()
      execution.bodyEnd = end
      pump()
    })
    if ((execution.mode as string) === "stopped") abandonBody()
    pump()
  }
  return handle
}

const realMonotonicMs = (): number =>
  Number(Clock.Clock.defaultValue().monotonicTimeNanosUnsafe()) / 1e6

/** What may still come is work of this process: it takes real time, also under a test's clock. */
const inRealTime = (millis: number, turns: number): Effect.Effect<void> =>
  Effect.andThen(
    Effect.provideService(Effect.sleep(millis), Clock.Clock, Clock.Clock.defaultValue()),
    Effect.repeat(Effect.yieldNow, { times: turns - 1 }),
  )

/**
 * A grace is waited for in so many pieces. To park needs fewer turns: in a busy process the slot that
 * is held meanwhile is dear.
 */
const graceSlices = 5
const turnsToDiverge = 250
/** What hangs on it is which code a run takes, both of which are right: it need not be long. */
const mostPatchGraceMs = 100
const turnsToPark = 50

/** No step key: keys are not empty. */
const parking = ""

/** Before the key of what is awaited while a patch is undecided; no key has a NUL. */
const atPatch = "\0"

/**
 * What executions before this one had begun and not recorded, in this attempt: the same code asks
 * for it again, once it has seen the same records. Timers do not tell their attempt; those of an
 * earlier one may lie on a path that this one does not take.
 */
const begunBefore = (
  execution: Execution,
  history: RunHistory,
  position: number,
): ReadonlyArray<Known> => {
  const { attempt } = execution.run
  const begun = new Map<string, Known>()
  const note = (key: string, kind: Operation["kind"]) => {
    if (!execution.records.has(key)) begun.set(key, { key, kind, position })
  }
  if (attempt === 1) for (const timer of history.timers) note(timer.stepKey, "sleep")
  for (const child of history.children) {
    if (child.parentAttempt === attempt) note(child.stepKey, "child")
  }
  for (const record of execution.retrying.values()) note(record.stepKey, record.kind)
  return [...begun.values()]
}

/** What a compensating run must undo though its outcome is not known. */
const unknownBefore = (execution: Execution, position: number): ReadonlyArray<Known> =>
  [...execution.retrying.values()]
    .filter((record) => record.hasCompensate)
    .map(({ stepKey, kind }) => ({ key: stepKey, kind, position }))

/** The step is undone also where nobody knows what it did. */
export const undoesUnknown = (operation: Operation): boolean =>
  "undo" in operation && operation.undo?.onUnknown === true

/** A record as the store answers it from now on. */
export const recordOf = (write: RecordWrite, now: number): StepRecord => ({
  ...write,
  carried: false,
  startedAt: null,
  completedAt: write.status === "retrying" ? null : now,
  retryAt: write.retryDelayMs === null ? null : now + write.retryDelayMs,
  revision: write.revision ?? 0,
  heartbeat: write.heartbeat ?? null,
  compensation: null,
})

/** A timer may be that of a sleep or of the timeout of an event. */
const isSameKind = (known: Known, operation: Operation): boolean =>
  operation.kind === known.kind || (known.kind === "sleep" && operation.kind === "event")
