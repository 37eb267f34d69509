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
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { encodeError } from "../ErrorPayload.ts"
import { HistoryTooLong, StepMismatch } from "../FlowlyError.ts"
import type {
  ClaimedRun,
  RecordWrite,
  RunHistory,
  RunSignals,
  RunSources,
  StepRecord,
  TimerRow,
  Transition,
} from "../WorkflowStore.ts"
import {
  begunBefore,
  isSameKind,
  type Known,
  type Queued,
  toQueued,
  unknownBefore,
} from "./begun.ts"
import {
  type BodyEnd,
  type Execution,
  type ExecutionEnd,
  type ExecutionEnv,
  type ExecutionHandle,
  type ExecutionParts,
  type Issued,
  recordOf,
  undoesUnknown,
} from "./Execution.ts"
import {
  atPatch,
  graceSlices,
  inRealTime,
  mostPatchGraceMs,
  parking,
  realMonotonicMs,
  turnsToDiverge,
  turnsToPark,
} from "./graces.ts"
import type { Outcome } from "./Operation.ts"
import { parkedWaits } from "./parkedWaits.ts"
import { takesPatch, undecidedPatch } from "./patches.ts"
import { makePublished } from "./published.ts"
import { makeRest } from "./rest.ts"

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
        noteToLeave: null,
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

    postpone: (issued) => {
      issued.phase = "waiting"
      issued.wakeAt = execution.storeNow()
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
      const notes = transition._tag === "HandBack" ? notesToLeave() : []
      if (parkedSince === null) shutDown()
      else shutDownLater()
      env.append({
        ...with_,
        ...(notes.length > 0 ? { records: notes } : {}),
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

  const notesToLeave = () =>
    [...open].flatMap((issued) => {
      const note = issued.noteToLeave?.() ?? null
      return note === null ? [] : [note]
    })

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

  const isNew = (issued: Issued): boolean => !execution.records.has(issued.key)

  /** What the code most likely asks for in the place of the record. */
  const calledInstead = (record: Known): Issued | null => {
    const waiting = unstarted.filter(
      (issued) => issued.phase === "unstarted" && !issued.abandoned && issued.key !== record.key,
    )
    const recent = waiting.filter((issued) => issued.afterDeliveries === deliveries)
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
        if (execution.mode !== "forward" || issued.abandoned) return execution.forget(issued)
        if (!execution.handBack()) return parts.start(execution, issued)
        issued.again = () => {
          issued.again = null
          parts.start(execution, issued)
        }
        execution.postpone(issued)
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
