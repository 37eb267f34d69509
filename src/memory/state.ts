/**
 * The memory store's tables: plain mutable data, and copies of it that callers cannot reach back
 * through. Records, events and values are frozen and replaced, never changed; only `Run` and the
 * maps are mutable, and only the modules of this folder touch them.
 */
import { type AttributeValue, statusName } from "../Attributes.ts"
import type { ControlEntry, PauseRequest } from "../Control.ts"
import type { StoredError } from "../ErrorPayload.ts"
import type { Encoded } from "../Payload.ts"
import type { RunStatus } from "../Run.ts"
import type {
  CancelRequest,
  EventRow,
  NewRun,
  OnParentClose,
  ParentRef,
  ParkedWait,
  RunRow,
  RunSignals,
  ScheduleRow,
  StepRecord,
  TimerRow,
  WorkerRegistration,
} from "../WorkflowStore.ts"
import * as DueIndex from "./dueIndex.ts"

/** A record, with what fences and re-sends need to know about it. */
export interface Recorded {
  readonly record: StepRecord
  /** The token under which it was written: found with our token means our write was applied. */
  readonly token: number
  readonly compensationToken: number | null
  /** The sent event that it consumed. */
  readonly eventId: number | null
}

export interface Run {
  readonly workflowRunId: string
  readonly workflow: string
  readonly version: string | null
  readonly input: Encoded
  readonly priority: number
  readonly maxAttempts: number | null
  readonly timeoutMs: number | null
  idempotencyKey: string | null
  readonly idempotencyExpiresAt: number | null
  readonly concurrencyKey: string | null
  readonly parent: ParentRef | null
  readonly onParentClose: OnParentClose
  scheduledFor: number | null
  seed: string
  readonly createdAt: number
  status: RunStatus
  compensating: boolean
  attempt: number
  result: Encoded | null
  error: StoredError | null
  pauseReason: StoredError | null
  /** A pause that the claim's holder was asked for, with the reason that it is to leave. */
  pauseRequest: { readonly request: PauseRequest; readonly error: StoredError } | null
  /** Where an explicit retry starts; `"none"`: a poison run, nothing of it failed. */
  failedPosition: number | null | "none"
  dueAt: number | null
  deadlineAt: number | null
  cancelRequest: CancelRequest | null
  wakeCounter: number
  token: number
  workerId: string | null
  /** Its first claim was its insertion's own. */
  claimedByInsert: boolean
  /** Whether a record or an undo was written under the current token. */
  progressed: boolean
  crashCount: number
  /** The workers whose crashes are counted, oldest first. */
  crashedWorkers: ReadonlyArray<string>
  startedAt: number | null
  completedAt: number | null
  /** Changes with every move in or out of the due index: older entries of it are stale. */
  dueVersion: number
  readonly records: Map<string, Recorded>
  readonly timers: Map<string, TimerRow>
  /** By `eventId`: sent and emitted ones. */
  readonly events: Array<EventRow>
  /** Ids of runs whose parent this is, in order of insertion. */
  readonly children: Array<string>
  /** As of its last park. */
  waits: ReadonlyArray<ParkedWait>
  /** The one without a name is the status text. */
  readonly attributes: Map<string, AttributeValue>
  /** What operators asked for. */
  readonly controls: Array<ControlEntry>
}

export interface Worker {
  registration: WorkerRegistration
  leaseExpiresAt: number
  /** Of its registration or latest renewal. */
  heartbeatAt: number
  /** The runs that name this worker. */
  readonly claims: Set<string>
}

export interface State {
  readonly runs: Map<string, Run>
  readonly workers: Map<string, Worker>
  readonly due: DueIndex.DueIndex
  readonly idempotency: Map<string, string>
  readonly concurrency: Map<string, string>
  readonly children: Map<string, string>
  readonly emitted: Array<EventRow>
  readonly schedules: Map<string, ScheduleRow>
  readonly ticks: Set<string>
  lastEventId: number
}

export const make = (): State => ({
  runs: new Map(),
  workers: new Map(),
  due: DueIndex.make(),
  idempotency: new Map(),
  concurrency: new Map(),
  children: new Map(),
  emitted: [],
  schedules: new Map(),
  ticks: new Set(),
  lastEventId: 0,
})

/** An independent copy: what happens to one is not seen by the other. */
export const copy = (state: State): State => ({
  runs: mapValues(state.runs, (run) => ({
    ...run,
    records: new Map(run.records),
    timers: new Map(run.timers),
    events: [...run.events],
    children: [...run.children],
    controls: [...run.controls],
    attributes: new Map(run.attributes),
  })),
  workers: mapValues(state.workers, (worker) => ({ ...worker, claims: new Set(worker.claims) })),
  due: DueIndex.copy(state.due),
  idempotency: new Map(state.idempotency),
  concurrency: new Map(state.concurrency),
  children: new Map(state.children),
  emitted: [...state.emitted],
  schedules: new Map(state.schedules),
  ticks: new Set(state.ticks),
  lastEventId: state.lastEventId,
})

const mapValues = <K, A, B>(map: ReadonlyMap<K, A>, f: (a: A) => B): Map<K, B> => {
  const out = new Map<K, B>()
  for (const [key, value] of map) out.set(key, f(value))
  return out
}

/** A key of several parts that cannot be confused with another split of the same text. */
export const compositeKey = (...parts: ReadonlyArray<string | number>): string =>
  JSON.stringify(parts)

export const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

export const freezeEncoded = (value: Encoded): Encoded =>
  Object.freeze({ codec: value.codec, json: value.json })

/** A frozen copy of a plain JSON error. */
export const freezeError = (error: StoredError): StoredError => deepFreeze(structuredClone(error))

const deepFreeze = <A>(value: A): A => {
  if (typeof value === "object" && value !== null) {
    for (const part of Object.values(value)) deepFreeze(part)
    Object.freeze(value)
  }
  return value
}

export const signalsOf = (run: Run, now: number): RunSignals => ({
  wakeCounter: run.wakeCounter,
  cancelRequest: run.cancelRequest,
  pauseRequest: run.pauseRequest?.request ?? null,
  deadlinePassed: !run.compensating && run.deadlineAt !== null && run.deadlineAt <= now,
})

const attributesOf = ({ attributes }: Run): Pick<RunRow, "attributes" | "statusText"> => {
  const { [statusName]: statusText, ...rest } = Object.fromEntries(attributes)
  return {
    attributes: Object.freeze(rest),
    statusText: statusText === undefined ? null : String(statusText),
  }
}

export const rowOf = (run: Run): RunRow =>
  Object.freeze({
    workflowRunId: run.workflowRunId,
    workflow: run.workflow,
    version: run.version,
    status: run.status,
    compensating: run.compensating,
    attempt: run.attempt,
    maxAttempts: run.maxAttempts,
    input: run.input,
    result: run.result,
    error: run.error,
    pauseReason: run.pauseReason,
    parent: run.parent,
    idempotencyKey: run.idempotencyKey,
    concurrencyKey: run.concurrencyKey,
    priority: run.priority,
    ...attributesOf(run),
    dueAt: run.dueAt,
    scheduledFor: run.scheduledFor,
    deadlineAt: run.deadlineAt,
    cancelRequest: run.cancelRequest,
    pauseRequest: run.pauseRequest?.request ?? null,
    wakeCounter: run.wakeCounter,
    token: run.token,
    workerId: run.workerId,
    crashCount: run.crashCount,
    createdAt: run.createdAt,
    startedAt: run.startedAt,
    completedAt: run.completedAt,
  })

/** A new row as it is inserted: unclaimed, `pending`. Indexes are the caller's. */
export const newRun = (run: NewRun, now: number): Run => ({
  workflowRunId: run.workflowRunId,
  workflow: run.workflow,
  version: run.version,
  input: freezeEncoded(run.input),
  priority: run.priority,
  maxAttempts: run.maxAttempts,
  timeoutMs: run.timeoutMs,
  idempotencyKey: run.idempotencyKey,
  idempotencyExpiresAt:
    run.idempotencyRetentionMs == null ? null : now + run.idempotencyRetentionMs,
  concurrencyKey: run.concurrencyKey,
  parent: run.parent === null ? null : Object.freeze({ ...run.parent }),
  onParentClose: run.onParentClose ?? "cancel",
  scheduledFor: run.scheduledFor,
  seed: run.workflowRunId,
  createdAt: now,
  status: "pending",
  compensating: false,
  attempt: 1,
  result: null,
  error: null,
  pauseReason: null,
  pauseRequest: null,
  failedPosition: null,
  dueAt: null,
  deadlineAt:
    run.timeoutMs === null ? null : Math.max(now, run.scheduledFor ?? now) + run.timeoutMs,
  cancelRequest: null,
  wakeCounter: 0,
  token: 0,
  workerId: null,
  claimedByInsert: false,
  progressed: false,
  crashCount: 0,
  crashedWorkers: [],
  startedAt: null,
  completedAt: null,
  dueVersion: 0,
  records: new Map(),
  timers: new Map(),
  events: [],
  children: [],
  controls: [],
  waits: [],
  attributes: new Map(Object.entries(run.attributes ?? {})),
})
