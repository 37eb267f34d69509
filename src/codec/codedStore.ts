/**
 * A store behind payload codecs: what carries values or errors goes through them, all else passes.
 *
 * Each verb of the contract is on one of two lists: a new one does not compile before somebody has
 * decided. What the engine records for itself (tokens, which the store compares; patches, children's
 * ids, points of no return) is no payload and stays readable.
 */
import * as Effect from "effect/Effect"
import type { StoredError } from "../ErrorPayload.ts"
import type {
  ChildRow,
  ClaimedRun,
  EventRow,
  InsertAnswer,
  NewRun,
  OperationKind,
  RecordWrite,
  RunHistory,
  RunRow,
  RunSources,
  RunWrite,
  ScheduleRow,
  StepRecord,
  Transition,
  WorkflowStore,
} from "../WorkflowStore.ts"
import type { Coding } from "./coding.ts"

type Store = WorkflowStore["Service"]

/** Verbs that carry neither a value nor an error. */
const withoutPayloads = [
  "name",
  "migrate",
  "verify",
  "now",
  "callersTransaction",
  "joinTransaction",
  "registerWorker",
  "renewLease",
  "retireWorker",
  "refundCrashes",
  "sweep",
  "deadLetterPoison",
  "cancelOrphans",
  "readSignals",
  "releaseClaims",
  "releaseIdempotencyKey",
  "requestCancel",
  "resumeRun",
  "retryRun",
  "reviseCompensation",
  "findToken",
  "wakeRuns",
  "rescheduleRuns",
  "getControls",
  "countRuns",
  "removeSchedule",
  "notify",
  "listen",
  "sparesConnection",
  "overlap",
] as const satisfies ReadonlyArray<keyof Store>

type WithPayloads = Omit<Store, (typeof withoutPayloads)[number]>

const bookkeeping: ReadonlySet<OperationKind> = new Set([
  "sleep",
  "child_start",
  "emit",
  "token",
  "no_return",
  "patch",
])

/** What throws on its way to the store is a defect of the verb, as one of the driver would be. */
const send = <A, E, R>(call: () => Effect.Effect<A, E, R>) => Effect.suspend(call)

const each =
  <A>(read: (item: A) => A) =>
  <E, R>(call: Effect.Effect<ReadonlyArray<A>, E, R>) =>
    Effect.map(call, (items): ReadonlyArray<A> => items.map(read))

/**
 * The store, with all payloads coded.
 */
export const codedStore = (store: Store, coding: Coding): Store => {
  const writes = codingWrites(coding)
  const reads = codingReads(coding)
  const withPayloads: WithPayloads = {
    claimRuns: (options) => each(reads.claimed)(store.claimRuns(options)),
    loadHistory: (ids) => each(reads.history)(store.loadHistory(ids)),
    loadSources: (ids) => each<RunSources>(reads.sources)(store.loadSources(ids)),
    insertRuns: (options) =>
      each(reads.inserted)(
        send(() => store.insertRuns({ ...options, runs: options.runs.map(writes.run) })),
      ),
    commit: (batch) => send(() => store.commit(batch.map(writes.write))),
    // inside of a transaction it is an error of what runs there, so that all is rolled back
    transact: ((options: Parameters<Store["transact"]>[0]) =>
      store.transact<unknown>({
        ...options,
        use: (transaction) =>
          Effect.flatMap(options.use(transaction), (record) =>
            Effect.try({ try: () => writes.record(record), catch: (error) => error }),
          ),
      })) as Store["transact"],
    transactionOutcome: (options) => store.transactionOutcome(options),
    sendEvents: (events, options) =>
      send(() =>
        store.sendEvents(
          events.map((event) => ({ ...event, payload: coding.encode(event.payload) })),
          options,
        ),
      ),
    terminateRuns: (runs) => send(() => store.terminateRuns(runs.map(writes.withError))),
    pauseRuns: (runs) => send(() => store.pauseRuns(runs.map(writes.withError))),
    forkRuns: (forks) =>
      send(() =>
        store.forkRuns(
          forks.map((fork) => ({
            ...fork,
            input: fork.input === null ? null : coding.encode(fork.input),
          })),
        ),
      ),
    getRuns: (ids) => each(reads.run)(store.getRuns(ids)),
    listRuns: (options) => each(reads.run)(store.listRuns(options)),
    getSituation: (id) =>
      Effect.map(store.getSituation(id), (situation) =>
        situation === null
          ? null
          : {
              ...situation,
              run: reads.run(situation.run),
              children: situation.children.map(reads.child),
            },
      ),
    getSteps: (id) => each(reads.record)(store.getSteps(id)),
    getEvents: (id) => each(reads.event)(store.getEvents(id)),
    tailEvents: (options) =>
      Effect.map(store.tailEvents(options), ({ events, cursor }) => ({
        events: events.map(reads.event),
        cursor,
      })),
    upsertSchedule: (schedule) =>
      Effect.map(
        send(() => store.upsertSchedule({ ...schedule, input: coding.encode(schedule.input) })),
        reads.schedule,
      ),
    listSchedules: each(reads.schedule)(store.listSchedules),
    dueSchedules: (options) =>
      Effect.map(store.dueSchedules(options), (due) => ({
        ...due,
        schedules: due.schedules.map(reads.schedule),
      })),
    fireTick: (tick) => send(() => store.fireTick({ ...tick, run: writes.run(tick.run) })),
  }
  return { ...store, ...withPayloads }
}

const codingWrites = ({ encode, encodeError }: Coding) => {
  const errorOrNull = (error: StoredError | null) => (error === null ? null : encodeError(error))

  const run = (one: NewRun): NewRun => ({ ...one, input: encode(one.input) })

  const record = (one: RecordWrite): RecordWrite => ({
    ...one,
    result: one.result === null || bookkeeping.has(one.kind) ? one.result : encode(one.result),
    error: errorOrNull(one.error),
    ...(one.heartbeat ? { heartbeat: encode(one.heartbeat) } : {}),
  })

  const transition = (one: Transition): Transition => {
    switch (one._tag) {
      case "Settle":
        return {
          ...one,
          result: one.result === null ? null : encode(one.result),
          error: errorOrNull(one.error),
        }
      case "Compensate":
      case "RetryRun":
      case "Pause":
        return { ...one, error: encodeError(one.error) }
      default:
        return one
    }
  }

  return {
    run,
    record,
    withError: <A extends { readonly error: StoredError }>(one: A): A => ({
      ...one,
      error: encodeError(one.error),
    }),
    write: (one: RunWrite): RunWrite => ({
      ...one,
      records: one.records.map(record),
      children: one.children.map(run),
      emitted: one.emitted.map((event) => ({ ...event, payload: encode(event.payload) })),
      compensations: one.compensations.map((undo) => ({ ...undo, error: errorOrNull(undo.error) })),
      transition: one.transition === null ? null : transition(one.transition),
    }),
  }
}

const codingReads = ({ decode, decodeError }: Coding) => {
  const errorOrNull = (error: StoredError | null) => (error === null ? null : decodeError(error))
  const valueOrNull = <A extends Parameters<typeof decode>[0] | null>(value: A) =>
    value === null ? null : decode(value)

  const run = (row: RunRow): RunRow => ({
    ...row,
    input: decode(row.input),
    result: valueOrNull(row.result),
    error: errorOrNull(row.error),
    pauseReason: errorOrNull(row.pauseReason),
  })

  const record = (row: StepRecord): StepRecord => ({
    ...row,
    result: valueOrNull(row.result),
    error: errorOrNull(row.error),
    heartbeat: valueOrNull(row.heartbeat),
    compensation:
      row.compensation === null
        ? null
        : { ...row.compensation, error: errorOrNull(row.compensation.error) },
  })

  const child = (row: ChildRow): ChildRow => ({
    ...row,
    result: valueOrNull(row.result),
    error: errorOrNull(row.error),
  })

  const event = (row: EventRow): EventRow => ({ ...row, payload: decode(row.payload) })

  const sources = <A extends RunSources>(one: A): A => ({
    ...one,
    children: one.children.map(child),
    events: one.events.map(event),
  })

  return {
    run,
    record,
    child,
    event,
    sources,
    history: (one: RunHistory): RunHistory => ({
      ...sources(one),
      records: one.records.map(record),
    }),
    claimed: (one: ClaimedRun): ClaimedRun => ({
      ...one,
      input: decode(one.input),
      error: errorOrNull(one.error),
    }),
    inserted: (answer: InsertAnswer): InsertAnswer =>
      answer._tag === "Existing" ? { ...answer, run: run(answer.run) } : answer,
    schedule: (row: ScheduleRow): ScheduleRow => ({ ...row, input: decode(row.input) }),
  }
}
