/**
 * What an execution does next, each time its body is at rest: the one rule of live and replayed runs.
 *
 * One delivery, then rest, then the next. While a record is awaited nothing starts; when the history is
 * used up, what the body asked for begins. Divergence is told here, too: see `machine.ts`.
 */
import { encodeError } from "../ErrorPayload.ts"
import { HistoryTooLong, StepMismatch } from "../FlowlyError.ts"
import { isSameKind, type Known, type Queued } from "./begun.ts"
import { unlessIssued } from "./calm.ts"
import { type BodyEnd, type Issued, undoesUnknown } from "./Execution.ts"
import { atPatch, mostPatchGraceMs } from "./graces.ts"
import type { Machine } from "./machine.ts"
import { considerHandBack, considerParking } from "./parking.ts"
import { takesPatch, undecidedPatch } from "./patches.ts"

const patchGrace = (m: Machine): number =>
  Math.min(m.env.limits.divergenceGraceMs, mostPatchGraceMs)

export const step = (m: Machine): void => {
  if (m.mode === "ending") return
  // whatever brought us here again was a sign of life: a grace begins anew
  m.calm?.interruptUnsafe()
  m.calm = null
  if (m.bodyEnd !== null) return ended(m, m.bodyEnd)
  const next = m.queue[m.head]
  if (deliverCarried(m, next?.position ?? Infinity)) return m.pump()
  // its end brings us here again
  if (next !== undefined && m.isAwaited(next.position)) return
  if (next !== undefined) {
    const issued = m.issued.get(next.key)
    if (issued === undefined) {
      if (next.kind !== "patch") return awaitIssue(m, next.key, () => divergeUnissued(m, next))
      return unlessIssued(m, next.key, patchGrace(m), () => passOver(m, next))
    }
    if (issued.operation.kind !== next.kind) return diverge(m, next, issued)
    if (awaitEarlierStarts(m, next)) return
    advance(m)
    deliver(m, issued, next)
    return m.pump()
  }
  if (awaitBegun(m)) return
  if (m.mode === "compensating") return m.parts.replayed(m)
  m.published.open()
  if (m.published.waits() && m.inFlight === 0) m.write({ onCommitted: () => {} })
  if (m.handBack()) return considerHandBack(m)
  if (m.unstarted.length > 0) startAll(m)
  considerParking(m)
}

const advance = (m: Machine): void => {
  m.head++
  if (m.head === m.queue.length) {
    m.queue.length = 0
    m.head = 0
  }
}

/**
 * Gives what an earlier attempt had completed, lowest first, once the body has asked for it: after
 * the records of lower numbers, as the attempt before had it, and before those of higher ones.
 */
const deliverCarried = (m: Machine, before: number): boolean => {
  for (let i = 0; i < m.carried.length; i++) {
    const record = m.carried[i] as Queued
    if (record.position > before) return false
    const issued = m.issued.get(record.key)
    if (issued === undefined) continue
    if (issued.operation.kind !== record.kind) {
      diverge(m, record, issued)
      return true
    }
    m.carried.splice(i, 1)
    deliver(m, issued, record)
    return true
  }
  return false
}

const deliver = (m: Machine, issued: Issued, record: Queued): void => {
  issued.phase = "delivered"
  m.open.delete(issued)
  m.deliveries++
  m.lastDelivered = Math.max(m.lastDelivered, record.position)
  m.stirred = true
  m.calmOver = null
  if (record.at !== null) m.nowForBody = Math.max(m.nowForBody, record.at)
  if (record.outcome._tag === "Failure") m.lastFailure = record.position
  if (!issued.abandoned) issued.resume({ outcome: record.outcome, position: record.position })
}

/**
 * What the body had begun before this record was delivered, it must have asked for again: pure
 * asynchronous work may stand between, and a race behind it would be lost to a late record.
 */
const awaitEarlierStarts = (m: Machine, record: Queued): boolean => {
  for (; m.nextStart < m.starts.length; m.nextStart++) {
    const { stepKey, issuedAfter } = m.starts[m.nextStart] as (typeof m.starts)[number]
    if (issuedAfter >= record.position) return false
    if (m.issued.has(stepKey) || m.calmOver === stepKey) continue
    // in vain, this record is delivered all the same: that one's own turn tells of changed code
    awaitIssue(m, stepKey, () => m.pump())
    return true
  }
  return false
}

/** What an earlier execution had begun, this one must ask for before it begins anything else. */
const awaitBegun = (m: Machine): boolean => {
  for (let one = m.begun[0]; one !== undefined; one = m.begun[0]) {
    const missing = one
    const issued = m.issued.get(missing.key)
    if (issued === undefined) {
      awaitIssue(m, missing.key, () => {
        if (m.mode !== "compensating") return diverge(m, missing, calledInstead(m, missing))
        // an undo that the code does not offer is told of with all the others
        m.begun.shift()
        m.pump()
      })
      return true
    }
    if (!isSameKind(missing, issued.operation)) {
      diverge(m, missing, issued)
      return true
    }
    m.begun.shift()
  }
  return false
}

/**
 * Waits for what the history has. A body that stands at a patch meanwhile has gone past it before,
 * with the old code: it is told so, unrecorded, because what tells it remains.
 */
const awaitIssue = (m: Machine, key: string, otherwise: () => void): void => {
  const patch = undecidedPatch(m)
  if (patch === null) return unlessIssued(m, key, m.env.limits.divergenceGraceMs, otherwise)
  unlessIssued(m, `${atPatch}${key}`, patchGrace(m), () => {
    patch.phase = "delivered"
    m.open.delete(patch)
    m.calmOver = null
    m.stirred = true
    patch.resume({ outcome: takesPatch(false), position: m.lastDelivered })
    m.pump()
  })
}

/** A patch that the code no longer asks for has done its duty; one that asks late gets its answer. */
const passOver = (m: Machine, record: Queued): void => {
  advance(m)
  m.lastDelivered = Math.max(m.lastDelivered, record.position)
  if (record.at !== null) m.nowForBody = Math.max(m.nowForBody, record.at)
  m.carried.push(record)
  m.carried.sort((a, b) => a.position - b.position)
  m.pump()
}

const divergeUnissued = (m: Machine, record: Queued): void => {
  if (m.mode === "compensating") {
    // what nobody asks for and nobody would undo may be passed over here
    const stored = m.records.get(record.key)
    if (stored === undefined || !stored.hasCompensate) {
      advance(m)
      return m.pump()
    }
  }
  diverge(m, record, calledInstead(m, record))
}

/** What the code most likely asks for in the place of the record. */
const calledInstead = (m: Machine, record: Known): Issued | null => {
  const waiting = m.unstarted.filter(
    (issued) => issued.phase === "unstarted" && !issued.abandoned && issued.key !== record.key,
  )
  const recent = waiting.filter((issued) => issued.afterDeliveries === m.deliveries)
  const isNew = (issued: Issued) => !m.records.has(issued.key)
  return recent.find(isNew) ?? recent[0] ?? waiting.find(isNew) ?? waiting[0] ?? null
}

const diverge = (m: Machine, record: Known, called: Issued | null): void => {
  const error = encodeError(
    new StepMismatch({
      workflowRunId: m.run.workflowRunId,
      workflow: m.run.workflow,
      recordedKey: record.key,
      recordedKind: record.kind,
      position: record.position,
      calledKey: called?.key ?? null,
      calledKind: called?.operation.kind ?? null,
    }),
  )
  m.finish({ _tag: "Pause", error }, { _tag: "paused", error })
}

/** The body has ended: what remains of the history must at least have been issued. */
const ended = (m: Machine, end: BodyEnd): void => {
  if (end._tag === "Unreadable") {
    return m.finish({ _tag: "Pause", error: end.error }, { _tag: "paused", error: end.error })
  }
  for (const record of [...m.queue.slice(m.head), ...m.begun]) {
    const issued = m.issued.get(record.key)
    if (issued === undefined) {
      if (record.kind === "patch") continue
      if (m.mode === "compensating" && !m.records.get(record.key)?.hasCompensate) continue
      return diverge(m, record, calledInstead(m, record))
    }
    if (!isSameKind(record, issued.operation)) return diverge(m, record, issued)
  }
  if (m.mode === "compensating") return m.parts.replayed(m)
  m.published.open()
  m.parts.bodyEnded(m, end)
}

const startAll = (m: Machine): void => {
  const batch = takeUnstarted(m.unstarted)
  if (
    m.records.size + m.open.size > m.env.limits.maxRecords ||
    m.open.size > m.env.limits.maxFanOut ||
    m.historyBytes > m.env.limits.maxHistoryBytes
  ) {
    const error = encodeError(
      new HistoryTooLong({
        workflowRunId: m.run.workflowRunId,
        records: m.records.size,
        open: m.open.size,
        bytes: m.historyBytes,
        maxRecords: m.env.limits.maxRecords,
        maxFanOut: m.env.limits.maxFanOut,
        maxBytes: m.env.limits.maxHistoryBytes,
      }),
    )
    m.parts.bodyEnded(m, { _tag: "Failure", error, raw: undefined })
    return
  }
  for (const issued of batch) {
    if (m.mode !== "forward") return
    if (issued.abandoned) continue
    if (issued.spontaneous && !isMarked(m, issued)) markThenStart(m, issued)
    else m.parts.start(m, issued)
  }
}

const takeUnstarted = (unstarted: Array<Issued>): ReadonlyArray<Issued> => {
  const [only] = unstarted
  if (unstarted.length > 1 || only === undefined) {
    return unstarted.splice(0).filter((issued) => issued.phase === "unstarted")
  }
  unstarted.pop()
  return only.phase === "unstarted" ? [only] : []
}

/** What needs no mark: an emit, or a patch, begins and ends with its record. */
const isMarked = (m: Machine, { key, operation }: Issued): boolean =>
  operation.kind === "emit" || operation.kind === "patch" || m.noteOn(key) !== undefined

/**
 * What pure asynchronous work led to is remembered before it begins, with the deliveries that the
 * body had seen by then. A race between that work and a record is decided on replay as it was.
 */
const markThenStart = (m: Machine, issued: Issued): void => {
  const { key, operation, issuedAfter } = issued
  issued.phase = "active"
  issued.noted = true
  m.write({
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
      if (m.mode !== "forward" || issued.abandoned) return m.forget(issued)
      if (!m.handBack()) return m.parts.start(m, issued)
      issued.again = () => {
        issued.again = null
        m.parts.start(m, issued)
      }
      m.postpone(issued)
    },
  })
}
