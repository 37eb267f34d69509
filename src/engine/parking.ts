/**
 * Waiting: in memory with a timer, or parked, when nothing executes and only waits are open.
 *
 * Parking compares the wake counter of the newest reading of the sources: whatever was sent since
 * wakes the run at once (no lost wake-up).
 */
import * as Effect from "effect/Effect"
import type { RunSources, TimerRow } from "../WorkflowStore.ts"
import { unlessIssued } from "./calm.ts"
import type { Issued } from "./Execution.ts"
import { parking, realMonotonicMs } from "./graces.ts"
import type { Machine } from "./machine.ts"
import { parkedWaits } from "./parkedWaits.ts"

export const considerParking = (m: Machine): void => {
  // nothing is open but steps that execute: the usual case
  if (m.mode !== "forward" || m.open.size === m.executing) return
  const waiting: Array<Issued> = []
  for (const issued of m.open) {
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
  const busy = m.executing > 0 || m.inFlight > 0 || m.signals.wakeCounter !== m.sourcesCounter
  const soon = earliest !== null && earliest - m.storeNow() <= m.env.limits.shortWaitMs
  if (busy || soon) {
    for (const issued of waiting) if (issued.timer === null) armTimer(m, issued)
    return
  }
  // beside the wait, pure asynchronous work may be under way, with operations behind it
  if (m.env.limits.parkGraceMs > 0 && earliest !== null) {
    // the wait may be over before the grace is
    const first = waiting.find((issued) => issued.wakeAt === earliest)
    if (first !== undefined && first.timer === null) armTimer(m, first)
  }
  if (m.calm === null && m.calmOver !== parking) m.restingSince = realMonotonicMs()
  unlessIssued(m, parking, m.env.limits.parkGraceMs, () => {
    m.parkedSince = m.restingSince
    m.finish(
      {
        _tag: "Park",
        status: untimed ? "waiting" : "sleeping",
        dueAt: earliest,
        delayMs: null,
        wakeCounter: m.sourcesCounter,
        waits: parkedWaits(waiting),
      },
      { _tag: "parked", woken: false },
    )
  })
}

export const considerHandBack = (m: Machine): void => {
  if (m.executing === 0 && m.inFlight === 0) {
    m.finish({ _tag: "HandBack" }, { _tag: "handed-back" })
  }
}

export const armTimer = (m: Machine, issued: Issued): void => {
  if (issued.wakeAt === null) return
  issued.timer?.interruptUnsafe()
  const remaining = Math.max(0, issued.wakeAt - m.storeNow())
  issued.timer = m.env.fork(
    Effect.andThen(
      Effect.sleep(remaining),
      Effect.sync(() => {
        issued.timer = null
        if (issued.phase === "waiting" && m.mode !== "stopped") {
          m.parts.due(m, issued)
          m.progress()
        }
      }),
    ),
  )
}

export const takeSources = (m: Machine, sources: RunSources): void => {
  for (const child of sources.children) {
    const known = m.children.get(child.stepKey)
    // a reading from before this attempt's child was inserted shows that of an earlier one
    if (known === undefined || known.parentAttempt <= child.parentAttempt) {
      m.children.set(child.stepKey, child)
    }
  }
  // what a record has taken that is still on its way to the store must not be taken twice
  const events = sources.events.filter((event) => !m.takenEvents.has(event.eventId))
  m.events.splice(0, m.events.length, ...events)
  m.sourcesCounter = sources.wakeCounter
  for (const timer of sources.dueTimes) takeDueTime(m, timer)
}

/** Others may move timers and stored backoffs. A short backoff is ours alone: it is not stored. */
const takeDueTime = (m: Machine, { stepKey, wakeAt }: TimerRow): void => {
  if (m.timerOf(stepKey) !== undefined) m.timers.set(stepKey, wakeAt)
  const issued = m.issued.get(stepKey)
  if (issued?.phase !== "waiting" || issued.wakeAt === null || issued.wakeAt === wakeAt) return
  const { kind } = issued.operation
  const isTimer = kind === "sleep" || kind === "event"
  if (!isTimer && issued.wakeAt - m.storeNow() <= m.env.limits.shortWaitMs) return
  issued.wakeAt = wakeAt
  if (issued.timer !== null) armTimer(m, issued)
}
