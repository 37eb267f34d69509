/**
 * Golden histories: what released versions have left in their stores, as rows, and the way back into a
 * store of the present version.
 *
 * A golden is one run of a program of `test/engine`, and some moments of it: all rows as the contract
 * shows them, right after a commit. Restoring tells a store the same story again, at the times of the
 * rows: inserted, claimed, each record committed when it was, let go or settled as the row says. What
 * comes out is compared with what was stored, but for tokens and counters, which are each store's own.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as MemoryStore from "../../src/MemoryStore.ts"
import { isTerminal, type RunStatus } from "../../src/Run.ts"
import {
  type Claim,
  endsByTimer,
  type EventRow,
  type RecordWrite,
  type RunRow,
  type RunWrite,
  type StepRecord,
  type TimerRow,
  type Transition,
} from "../../src/WorkflowStore.ts"
import { World } from "../engine/world.ts"

/** One run as a store shows it. */
export interface StoredRun {
  readonly row: RunRow
  readonly records: ReadonlyArray<StepRecord>
  readonly timers: ReadonlyArray<TimerRow>
  /** Those that no record has consumed. */
  readonly events: ReadonlyArray<EventRow>
}

/** What a process left that died here, parents first. */
export interface StoredMoment {
  /** The store's time. */
  readonly at: number
  readonly runs: ReadonlyArray<StoredRun>
  /** What the program's services remember. */
  readonly counts: Readonly<Record<string, number>>
}

export interface Golden {
  /** Of flowly, that has recorded it. */
  readonly version: string
  readonly api: "promise" | "effect"
  readonly program: string
  readonly workflowRunId: string
  readonly end: {
    readonly status: RunStatus
    readonly result: unknown
    readonly error: string | null
  }
  /** The last one is complete: only the end of the run is missing. */
  readonly moments: ReadonlyArray<StoredMoment>
}

const atTime = (now: number): Clock.Clock => ({
  currentTimeMillisUnsafe: () => now,
  currentTimeMillis: Effect.succeed(now),
  currentTimeNanosUnsafe: () => BigInt(now) * 1_000_000n,
  currentTimeNanos: Effect.sync(() => BigInt(now) * 1_000_000n),
  monotonicTimeNanosUnsafe: () => BigInt(now) * 1_000_000n,
  monotonicTimeNanos: Effect.sync(() => BigInt(now) * 1_000_000n),
  sleep: () => Effect.never,
})

const asOf = <A, E>(now: number, effect: Effect.Effect<A, E>): A =>
  Effect.runSync(Effect.provideService(effect, Clock.Clock, atTime(now)))

/** Everything in the store, in order of insertion. */
export const stored = (handle: MemoryStore.Handle, at: number): ReadonlyArray<StoredRun> =>
  handle.inspect().runs.map((row) => {
    const [history] = asOf(at, handle.store.loadHistory([row.workflowRunId]))
    return {
      row,
      records: history?.records ?? [],
      timers: history?.timers ?? [],
      events: history?.events ?? [],
    }
  })

const worker = {
  workerId: "01980000-0000-7000-8000-00000000601d",
  label: "golden",
  leaseMs: 10 ** 12,
  workflows: [],
  capacity: 1,
}

/** A store with the rows of the moment, and the services that remember what they did. */
export const restore = (moment: StoredMoment): World => {
  const handle = MemoryStore.makeUnsafe({ client: "client" })
  const times = moment.runs.map(({ row }) => row.createdAt)
  asOf(Math.min(...times), handle.store.registerWorker(worker))
  const claims = new Map<string, Claim>()
  for (const { row } of moment.runs) claims.set(row.workflowRunId, begin(handle, row))
  // children before parents: whose end wakes them
  for (const run of moment.runs.toReversed()) tell(handle, run, claims.get(run.row.workflowRunId)!)
  return new World(handle, new Map(Object.entries(moment.counts)))
}

/** Inserts the run, and brings it to its attempt, claimed. */
const begin = ({ store }: MemoryStore.Handle, row: RunRow): Claim => {
  const { workflowRunId, workflow, version, createdAt, deadlineAt } = row
  asOf(
    createdAt,
    store.insertRuns({
      runs: [
        {
          ...row,
          timeoutMs: deadlineAt === null ? null : deadlineAt - (row.scheduledFor ?? createdAt),
        },
      ],
      claimFor: null,
    }),
  )
  const claim = (): Claim => {
    const workflows = [{ name: workflow, version }]
    const options = { workerId: worker.workerId, workflows, limit: 1, suspects: false }
    const [claimed] = asOf(row.startedAt ?? createdAt, store.claimRuns(options))
    if (claimed === undefined) throw new Error(`run ${workflowRunId} cannot be claimed`)
    return claimed
  }
  if (row.startedAt === null) return { workflowRunId, token: 0 }
  return claim()
}

const nothing: Omit<RunWrite, "workflowRunId" | "token"> = {
  timers: [],
  records: [],
  children: [],
  emitted: [],
  compensations: [],
  transition: null,
}

/** Tells what happened to the run, each part at its time. */
const tell = (handle: MemoryStore.Handle, run: StoredRun, claim: Claim): void => {
  const { store } = handle
  const { row, records, timers, events } = run
  if (claim.token === 0) return
  let held = claim
  const send = (at: number, parts: Partial<RunWrite>): void => {
    const [answer] = asOf(at, store.commit([{ ...held, ...nothing, ...parts }]))
    if (answer?._tag === "committed") return
    throw new Error(`a golden write of run ${row.workflowRunId} was ${answer?._tag}`)
  }
  const begun = row.startedAt!
  send(begun, { timers: timers.map(({ stepKey, wakeAt }) => ({ stepKey, wakeAt })) })
  // what an earlier attempt of the run has left is carried: recorded, then retried from there
  const carried = records.filter((one) => one.carried)
  const earlier = Math.max(0, ...carried.map((one) => one.position ?? 0))
  const firstCarried = Math.min(...carried.map((one) => one.position ?? Infinity))
  const write = (given: ReadonlyArray<StepRecord>): void => {
    for (const one of given)
      send(one.completedAt ?? begun, { records: [recordOf(run, handle, one)] })
  }
  write(records.filter((one) => one.position !== null && one.position <= earlier))
  for (let attempt = 1; attempt < row.attempt; attempt++) {
    const failedPosition = attempt === 1 && carried.length > 0 ? firstCarried : 2 ** 30
    const error = row.error ?? { name: "Error", message: "an earlier attempt" }
    send(begun, { transition: { _tag: "RetryRun", failedPosition, delayMs: 0, error } })
    const workflows = [{ name: row.workflow, version: row.version }]
    const options = { workerId: worker.workerId, workflows, limit: 1, suspects: false }
    const [again] = asOf(begun, store.claimRuns(options))
    if (again === undefined) throw new Error(`run ${row.workflowRunId} cannot be claimed again`)
    held = again
  }
  write(records.filter((one) => one.position === null || one.position > earlier))
  for (const { name, payload, id, createdAt, workflowRunId } of events) {
    asOf(createdAt, store.sendEvents([{ workflowRunId, name, payload, id }]))
  }
  undo(run, send)
  asOf(begun, store.readSignals([held]))
  const last = row.completedAt ?? Math.max(begun, ...records.map((one) => one.completedAt ?? 0))
  const transition = transitionOf(handle, row)
  if (transition === null) asOf(last, store.releaseClaims([held]))
  else send(last, { transition })
}

const undo = (
  { row, records }: StoredRun,
  send: (at: number, parts: Partial<RunWrite>) => void,
) => {
  if (!row.compensating) return
  const last = Math.max(row.startedAt!, ...records.map((one) => one.completedAt ?? 0))
  const error = row.error ?? { name: "Error", message: "undone" }
  send(last, { transition: { _tag: "Compensate", error } })
  for (const { stepKey, compensation } of records) {
    if (compensation === null) continue
    const { retryAt } = compensation
    const retryDelayMs = retryAt === null ? null : Math.max(0, retryAt - last)
    send(last, { compensations: [{ stepKey, ...compensation, retryDelayMs } as never] })
  }
}

const recordOf = (run: StoredRun, { store }: MemoryStore.Handle, one: StepRecord): RecordWrite => {
  const { workflowRunId, startedAt } = run.row
  const at = one.completedAt ?? startedAt!
  const write: RecordWrite = {
    ...one,
    retryDelayMs: one.retryAt === null ? null : Math.max(0, one.retryAt - at),
    elapsedMs: one.startedAt === null ? 0 : at - one.startedAt,
    heartbeat: one.heartbeat,
    eventId: null,
  }
  const hasTimer = run.timers.some((timer) => timer.stepKey === one.stepKey)
  const inTime = run.timers.some((t) => t.stepKey === one.stepKey && t.wakeAt <= at)
  if (one.kind !== "event" || !endsByTimer(write) || (hasTimer && inTime)) return write
  // it has consumed an event, which the rows do not tell of any more
  const payload = { codec: "json", json: "null" }
  asOf(at, store.sendEvents([{ workflowRunId, name: "", payload, id: null }]))
  const [history] = asOf(at, store.loadHistory([workflowRunId]))
  return { ...write, eventId: history?.events.at(-1)?.eventId ?? null }
}

/** How the row was left; `null`: in nobody's hands, due. */
const transitionOf = ({ store }: MemoryStore.Handle, row: RunRow): Transition | null => {
  const { status, result, error } = row
  if (isTerminal(status)) {
    return { _tag: "Settle", status, result, error, failedPosition: null }
  }
  if (status !== "sleeping" && status !== "waiting") return null
  const now = row.startedAt!
  const [sources] = asOf(now, store.loadSources([row.workflowRunId]))
  const wakeCounter = sources!.wakeCounter
  return { _tag: "Park", status, dueAt: row.dueAt, delayMs: null, wakeCounter }
}

/** What of a stored moment must come back from a store that was told it. */
export const essence = (runs: ReadonlyArray<StoredRun>): ReadonlyArray<unknown> =>
  runs
    .map(({ row, records, timers }) => ({
      workflowRunId: row.workflowRunId,
      workflow: row.workflow,
      version: row.version,
      attempt: row.attempt,
      maxAttempts: row.maxAttempts,
      compensating: row.compensating,
      input: row.input,
      result: row.result,
      parent: row.parent,
      startedAt: row.startedAt,
      ended: isTerminal(row.status) ? row.status : null,
      timers: timers.toSorted((a, b) => (a.stepKey < b.stepKey ? -1 : 1)),
      records: records.map(({ retryAt: _retryAt, startedAt: _startedAt, ...one }) => one),
    }))
    .toSorted((a, b) => (a.workflowRunId < b.workflowRunId ? -1 : 1))
