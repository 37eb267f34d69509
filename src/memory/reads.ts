/**
 * Reading: histories and sources for the engine, rows and events for people. Every array is new and
 * its elements are frozen.
 */
import type { ControlEntry } from "../Control.ts"
import type {
  ChildRow,
  EventRow,
  RunHistory,
  RunRow,
  RunSelection,
  RunSources,
  StepRecord,
  TimerRow,
} from "../WorkflowStore.ts"
import { byText, type Run, rowOf, signalsOf, type State } from "./state.ts"

const known = (state: State, workflowRunIds: ReadonlyArray<string>): Array<Run> =>
  workflowRunIds.flatMap((id) => state.runs.get(id) ?? [])

export const loadHistory = (
  state: State,
  now: number,
  workflowRunIds: ReadonlyArray<string>,
): ReadonlyArray<RunHistory> =>
  known(state, workflowRunIds).map((run) => historyOf(state, now, run))

const historyOf = (state: State, now: number, run: Run): RunHistory => ({
  ...sourcesOf(state, now, run),
  records: recordsOf(run),
  timers: [...run.timers.values()],
})

export const loadSources = (
  state: State,
  now: number,
  workflowRunIds: ReadonlyArray<string>,
): ReadonlyArray<RunSources> =>
  known(state, workflowRunIds).map((run) => sourcesOf(state, now, run))

const sourcesOf = (state: State, now: number, run: Run): RunSources => ({
  ...signalsOf(run, now),
  workflowRunId: run.workflowRunId,
  now,
  children: childrenOf(state, run),
  events: pendingEvents(run),
  dueTimes: dueTimesOf(run),
})

/** Events that were sent and that no record has consumed, in order. */
export const pendingEvents = (run: Run): ReadonlyArray<EventRow> => {
  const consumed = new Set<number>()
  for (const { eventId } of run.records.values()) if (eventId !== null) consumed.add(eventId)
  return run.events.filter((e) => e.direction === "sent" && !consumed.has(e.eventId))
}

/** Timers without a final record, and stored backoffs. */
export const dueTimesOf = (run: Run): ReadonlyArray<TimerRow> => {
  const timers = [...run.timers.values()].filter((timer) => isOpen(run, timer.stepKey))
  const backoffs = Array.from(run.records.values(), ({ record }) => record).flatMap(
    ({ stepKey, retryAt }) => (retryAt === null ? [] : [{ stepKey, wakeAt: retryAt }]),
  )
  return [...timers, ...backoffs].toSorted((a, b) => byText(a.stepKey, b.stepKey))
}

/** Whether the operation of this key has no outcome yet. */
export const isOpen = (run: Run, stepKey: string): boolean => {
  const record = run.records.get(stepKey)?.record
  if (record === undefined) return true
  // beside a step under way it is the step's deadline
  return record.status === "retrying" && (record.kind === "sleep" || record.kind === "event")
}

/** One per step key: the child of the newest attempt. */
const childrenOf = (state: State, run: Run): ReadonlyArray<ChildRow> => {
  const newest = new Map<string, ChildRow>()
  for (const child of known(state, run.children)) {
    const { stepKey, attempt: parentAttempt } = child.parent!
    if ((newest.get(stepKey)?.parentAttempt ?? 0) > parentAttempt) continue
    const { workflowRunId, onParentClose, status, result, error } = child
    const row = { stepKey, workflowRunId, parentAttempt, onParentClose, status, result, error }
    newest.set(stepKey, Object.freeze(row))
  }
  return [...newest.values()].toSorted((a, b) => byText(a.stepKey, b.stepKey))
}

/** By position; backoffs last. */
const recordsOf = (run: Run): ReadonlyArray<StepRecord> =>
  Array.from(run.records.values(), ({ record }) => record).toSorted(
    (a, b) => (a.position ?? Infinity) - (b.position ?? Infinity) || byText(a.stepKey, b.stepKey),
  )

export const getRuns = (
  state: State,
  workflowRunIds: ReadonlyArray<string>,
): ReadonlyArray<RunRow> => known(state, [...new Set(workflowRunIds)]).map(rowOf)

export const listRuns = (
  state: State,
  options: RunSelection & { readonly before: string | null; readonly limit: number },
): ReadonlyArray<RunRow> => {
  const { before, limit } = options
  const found = selected(state, options)
    .filter((run) => before === null || run.workflowRunId < before)
    .toSorted((a, b) => byText(b.workflowRunId, a.workflowRunId))
  return found.slice(0, limit).map(rowOf)
}

export const countRuns = (state: State, selection: RunSelection): number =>
  selected(state, selection).length

const selected = (state: State, selection: RunSelection): Array<Run> => {
  const { statuses, workflow, parentRunId, idempotencyKey, concurrencyKey } = selection
  const { createdFrom, createdBefore } = selection
  const attributes = Object.entries(selection.attributes ?? {})
  return [...state.runs.values()].filter(
    (run) =>
      (statuses === null || statuses.includes(run.status)) &&
      (workflow === null || run.workflow === workflow) &&
      (parentRunId === null || run.parent?.workflowRunId === parentRunId) &&
      (idempotencyKey == null || run.idempotencyKey === idempotencyKey) &&
      (concurrencyKey == null || run.concurrencyKey === concurrencyKey) &&
      (createdFrom == null || run.createdAt >= createdFrom) &&
      (createdBefore == null || run.createdAt < createdBefore) &&
      attributes.every(([name, value]) => run.attributes.get(name) === value),
  )
}

export const getSteps = (state: State, workflowRunId: string): ReadonlyArray<StepRecord> =>
  known(state, [workflowRunId]).flatMap(recordsOf)

/** Values in JSON are compared as their text: a token is written by one encoder. */
export const findToken = (
  state: State,
  options: { readonly workflowRunId: string; readonly token: string },
): string | null => {
  const token = JSON.stringify(options.token)
  const run = state.runs.get(options.workflowRunId)
  for (const { record } of run?.records.values() ?? []) {
    const { kind, status, result, stepKey } = record
    if (kind === "token" && status === "completed" && result?.json === token) return stepKey
  }
  return null
}

export const getEvents = (state: State, workflowRunId: string): ReadonlyArray<EventRow> =>
  known(state, [workflowRunId]).flatMap((run) =>
    run.events.filter((event) => event.direction === "emitted"),
  )

export const getControls = (state: State, workflowRunId: string): ReadonlyArray<ControlEntry> =>
  known(state, [workflowRunId]).flatMap((run) => run.controls)

/** One process numbers the events, so the newest id is a cursor that respects commits. */
export const tailEvents = (
  state: State,
  options: { readonly cursor: string | null; readonly limit: number },
): { readonly events: ReadonlyArray<EventRow>; readonly cursor: string } => {
  if (options.cursor === null) return { events: [], cursor: String(state.lastEventId) }
  const after = Number(options.cursor)
  if (!Number.isSafeInteger(after)) throw new Error(`tailEvents: no cursor: ${options.cursor}`)
  const { emitted } = state
  let from = emitted.length
  while (from > 0 && emitted[from - 1]!.eventId > after) from--
  const events = emitted.slice(from, from + options.limit)
  return { events, cursor: String(events.at(-1)?.eventId ?? after) }
}
