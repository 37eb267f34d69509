/**
 * Reading what a replay needs, by a statement that begins after the claim committed.
 *
 * One statement, one snapshot: the wake counter is as old as the sources it stands for, so a run that
 * parks on these sources with this counter misses nothing. One row per record (a single row above
 * 16 MiB would kill the session on every claim), and records come in pages bounded by rows and by
 * bytes. Later pages see later snapshots, which is fine: only the claim's holder, who is reading,
 * writes records.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { RunStatus } from "../Run.ts"
import type {
  ChildRow,
  EventRow,
  RunHistory,
  RunSignals,
  RunSources,
  StepRecord,
  StoreError,
  TimerRow,
} from "../WorkflowStore.ts"
import type { Database, Row } from "./database.ts"
import type { Names } from "./names.ts"
import {
  bool,
  clock,
  encodedOrNull,
  errorOrNull,
  eventColumns,
  int,
  ms,
  msUp,
  signalColumns,
  stepColumns,
  text,
  toEventRow,
  toSignals,
  toStepRecord,
} from "./rows.ts"
import { uuids } from "./uuids.ts"

const pageRows = 1000
// Of stored, compressed bytes; read back it may be several times as much.
const pageBytes = 4 * 1024 * 1024

/** Everything a replay needs. */
export const loadHistory = (
  database: Database,
): ((ids: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<RunHistory>, StoreError>) => {
  const first = sourcesStatement(database.names, [
    timerArm(database.names),
    recordArm(database.names, ["$2", "$3", "$4"]),
  ])
  const next = `select * from (${recordArm(database.names, ["$1", "$2", "$3"])}) arm`
  return Effect.fnUntraced(function* (ids) {
    const known = uuids(ids)
    if (known.length === 0) return []
    const now = yield* database.now
    const rows = yield* database.read("loadHistory", first, [now, known, nilUuid, ""])
    const runs = collect(rows)
    let page: ReadonlyArray<Row> = rows.filter((row) => row["tag"] === "record")
    for (;;) {
      const cursor = nextPage(page)
      // the server reads the next page while this one is unpacked
      const following =
        cursor && (yield* Effect.forkChild(database.read("loadHistory", next, [known, ...cursor])))
      if (following !== undefined) yield* Effect.yieldNow
      addRecords(runs, page)
      if (following === undefined) break
      page = yield* Fiber.join(following)
    }
    return [...runs.values()].map(historyOf)
  })
}

/** What runs wait for, without their records. */
export const loadSources = (
  database: Database,
): ((ids: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<RunSources>, StoreError>) => {
  const statement = sourcesStatement(database.names, [dueTimesArm(database.names)])
  return Effect.fnUntraced(function* (ids) {
    const known = uuids(ids)
    if (known.length === 0) return []
    const rows = yield* database.read("loadSources", statement, [yield* database.now, known])
    return [...collect(rows).values()].map(sourcesOf)
  })
}

const nilUuid = "00000000-0000-0000-0000-000000000000"

// Every arm has these columns: tag, run, key, place, meta (small or rare fields), codec, value, error;
// then those that every record has. As fields of `meta` they cost as much again as all else of a record.
const noRecord = `null::text as name, null::text as kind, null::int4 as position,
      null::int4 as issued_after, null::text as status, null::int4 as attempts,
      null::bool as has_compensate, null::int8 as started_at, null::int8 as completed_at`

const sourcesStatement = (n: Names, more: ReadonlyArray<string>): string =>
  [
    `select 'run' as tag, r.workflow_run_id::text as run, null as key, null::int8 as place,
      (select row_to_json(s)::text from (
        select ${ms("c.at")} as now, ${signalColumns("r", "c.at")}
      ) s) as meta,
      null as codec, null as value, null as error, ${noRecord}
    from ${n.runs} r cross join (select ${clock("$1")} as at offset 0) c
    where r.workflow_run_id = any($2::uuid[])`,
    childArm(n),
    eventArm(n),
    ...more.map((arm) => `select * from (${arm}) arm`),
  ].join("\n    union all\n    ")

const childArm = (n: Names): string => `
    select 'child', c.parent_run_id::text, c.parent_step_key, c.parent_attempt::int8,
      pg_catalog.json_build_object('id', c.workflow_run_id, 'status', c.status,
        'outlives', c.outlives_parent)::text,
      c.result_codec, c.result::text, c.error::text, ${noRecord}
    from (
      -- of a key with several, the newest attempt's
      select distinct on (c.parent_run_id, c.parent_step_key) c.*
      from ${n.runs} c
      where c.parent_run_id = any($2::uuid[])
      order by c.parent_run_id, c.parent_step_key, c.parent_attempt desc
    ) c`

const eventArm = (n: Names): string => `
    select 'event', e.workflow_run_id::text, null, e.event_id,
      (select row_to_json(x)::text from (
        select e.direction, e.name, e.sender_id, ${ms("e.created_at")} as created_at
      ) x),
      e.payload_codec, e.payload::text, null, ${noRecord}
    from ${n.events} e
    where e.workflow_run_id = any($2::uuid[]) and e.direction = 'sent'
      and not exists (
        select 1 from ${n.steps} s
        where s.workflow_run_id = e.workflow_run_id and s.event_id = e.event_id
          and s.event_id is not null
      )`

const timerArm = (n: Names): string => `
    select 'timer' as tag, t.workflow_run_id::text as run, t.step_key as key,
      ${msUp("t.wake_at")} as place, null as meta, null as codec, null as value, null as error,
      ${noRecord}
    from ${n.timers} t
    where t.workflow_run_id = any($2::uuid[])`

/** Timers without a final record, and stored backoffs. */
const dueTimesArm = (n: Names): string => `
    select 'due' as tag, t.workflow_run_id::text as run, t.step_key as key,
      ${msUp("t.wake_at")} as place, null as meta, null as codec, null as value, null as error,
      ${noRecord}
    from ${n.timers} t
    where t.workflow_run_id = any($2::uuid[])
      and not exists (
        select 1 from ${n.steps} s
        where s.workflow_run_id = t.workflow_run_id and s.step_key = t.step_key
          and (s.status <> 'retrying'
            -- beside a step under way it is the step's deadline
            or s.kind not in ('sleep', 'event'))
      )
    union all
    select 'due', s.workflow_run_id::text, s.step_key, ${msUp("s.retry_at")}, null, null, null, null,
      ${noRecord}
    from ${n.steps} s
    where s.workflow_run_id = any($2::uuid[]) and s.status = 'retrying'
      and s.retry_at is not null`

/**
 * A page of the runs' records after a cursor (run, key); `place` is the row's place in the page, but of
 * the last one, if others follow it, the negative.
 */
const recordArm = (
  n: Names,
  [ids, afterRun, afterKey]: readonly [ids: string, afterRun: string, afterKey: string],
): string => `
    select 'record' as tag, s.workflow_run_id::text as run, s.step_key as key,
      case when s.follows and (s.place = ${pageRows} or s.bytes + s.next_bytes > ${pageBytes})
        then -s.place else s.place end as place,
      case when s.status = 'retrying' or s.carried or s.revision > 0
          or s.heartbeat_codec is not null or s.compensation_status is not null
        then (select row_to_json(x)::text from (
          select s.carried, ${msUp("s.retry_at")} as retry_at, s.revision, s.heartbeat_codec,
            s.heartbeat::text as heartbeat, s.compensation_status, s.compensation_attempts,
            s.compensation_error, ${msUp("s.compensation_retry_at")} as compensation_retry_at
        ) x) end as meta,
      s.result_codec as codec, s.result::text as value, s.error::text as error,
      nullif(s.name, s.step_key) as name, s.kind, s.position, s.issued_after, s.status, s.attempts,
      s.has_compensate, ${ms("s.started_at")} as started_at, ${ms("s.completed_at")} as completed_at
    from (
      select p.*, row_number() over by_key as place,
        coalesce(lead(true) over by_key, false) as follows,
        sum(p.size) over by_key as bytes,
        coalesce(lead(p.size) over by_key, 0) as next_bytes
      from (
        select s.*,
          -- stored size: read without detoasting
          coalesce(pg_catalog.pg_column_size(s.result), 0)
            + coalesce(pg_catalog.pg_column_size(s.error), 0)
            + coalesce(pg_catalog.pg_column_size(s.heartbeat), 0) as size
        from ${n.steps} s
        where s.workflow_run_id = any(${ids}::uuid[])
          and (s.workflow_run_id, s.step_key) > (${afterRun}::uuid, ${afterKey}::text)
        order by s.workflow_run_id, s.step_key
        limit ${pageRows + 1}
      ) p
      window by_key as (order by p.workflow_run_id, p.step_key rows unbounded preceding)
    ) s
    where s.place <= ${pageRows} and (s.place = 1 or s.bytes <= ${pageBytes})`

interface Collected {
  readonly workflowRunId: string
  readonly now: number
  readonly signals: RunSignals
  readonly children: Array<ChildRow>
  readonly events: Array<EventRow>
  readonly timers: Array<TimerRow>
  readonly dueTimes: Array<TimerRow>
  readonly records: Array<StepRecord>
}

type Meta = Readonly<Record<string, unknown>>

const metaOf = (row: Row): Meta => JSON.parse(text(row["meta"])) as Meta

const collect = (rows: ReadonlyArray<Row>): Map<string, Collected> => {
  const runs = new Map<string, Collected>()
  for (const row of rows) {
    if (row["tag"] !== "run") continue
    const workflowRunId = text(row["run"])
    const meta = metaOf(row)
    runs.set(workflowRunId, {
      workflowRunId,
      now: int(meta["now"]),
      signals: toSignals(meta),
      children: [],
      events: [],
      timers: [],
      dueTimes: [],
      records: [],
    })
  }
  for (const row of rows) {
    const run = runs.get(text(row["run"]))
    if (run === undefined) continue
    if (row["tag"] === "child") run.children.push(toChild(row))
    else if (row["tag"] === "event") run.events.push(toEvent(row))
    else if (row["tag"] === "timer") run.timers.push(toTimer(row))
    else if (row["tag"] === "due") run.dueTimes.push(toTimer(row))
  }
  return runs
}

const toTimer = (row: Row): TimerRow => ({
  stepKey: text(row["key"]),
  wakeAt: int(row["place"]),
})

const toChild = (row: Row): ChildRow => {
  const meta = metaOf(row)
  return {
    stepKey: text(row["key"]),
    workflowRunId: text(meta["id"]),
    parentAttempt: int(row["place"]),
    onParentClose: bool(meta["outlives"]) ? "abandon" : "cancel",
    status: text(meta["status"]) as RunStatus,
    result: encodedOrNull(row["codec"], row["value"]),
    error: errorOrNull(row["error"]),
  }
}

const toEvent = (row: Row): EventRow =>
  toEventRow({
    ...metaOf(row),
    event_id: row["place"],
    workflow_run_id: row["run"],
    payload_codec: row["codec"],
    payload: row["value"],
  })

const noMeta: Meta = { carried: false, revision: 0 }

const addRecords = (runs: Map<string, Collected>, page: ReadonlyArray<Row>): void => {
  for (const row of page) {
    const meta = row["meta"] == null ? noMeta : metaOf(row)
    const undone = meta["compensation_error"]
    runs.get(text(row["run"]))?.records.push(
      toStepRecord({
        ...meta,
        step_key: row["key"],
        name: row["name"] ?? row["key"],
        kind: row["kind"],
        position: row["position"],
        issued_after: row["issued_after"],
        status: row["status"],
        attempts: row["attempts"],
        has_compensate: row["has_compensate"],
        started_at: row["started_at"],
        completed_at: row["completed_at"],
        result_codec: row["codec"],
        result: row["value"],
        error: row["error"],
        compensation_error: undone == null ? null : JSON.stringify(undone),
      }),
    )
  }
}

/** The key after which the next page begins; `undefined`: this was the last one. */
const nextPage = (page: ReadonlyArray<Row>): readonly [run: string, key: string] | undefined => {
  const last = page.find((row) => int(row["place"]) < 0)
  return last && [text(last["run"]), text(last["key"])]
}

const sourcesOf = (run: Collected): RunSources => ({
  workflowRunId: run.workflowRunId,
  now: run.now,
  ...run.signals,
  children: run.children.toSorted((a, b) => byText(a.stepKey, b.stepKey)),
  events: run.events.toSorted((a, b) => a.eventId - b.eventId),
  dueTimes: run.dueTimes.toSorted((a, b) => byText(a.stepKey, b.stepKey)),
})

const historyOf = (run: Collected): RunHistory => {
  const records = sorted(run.records)
  return { ...sourcesOf({ ...run, dueTimes: openTimes(run) }), records, timers: run.timers }
}

const isSleep = ({ kind }: StepRecord): boolean => kind === "sleep" || kind === "event"

/** What `dueTimesArm` reads, of a history that was read whole. */
const openTimes = ({ timers, records }: Collected): Array<TimerRow> => {
  const others = new Set(
    records.filter((r) => r.status !== "retrying" || !isSleep(r)).map((r) => r.stepKey),
  )
  const backoffs = records.flatMap(({ stepKey, retryAt }) =>
    retryAt === null ? [] : [{ stepKey, wakeAt: retryAt }],
  )
  return [...timers.filter(({ stepKey }) => !others.has(stepKey)), ...backoffs]
}

/** By position; backoffs last. */
const sorted = (records: ReadonlyArray<StepRecord>): ReadonlyArray<StepRecord> =>
  records.toSorted(
    (a, b) => (a.position ?? Infinity) - (b.position ?? Infinity) || byText(a.stepKey, b.stepKey),
  )

const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** The records of one run. */
export const getSteps = (
  database: Database,
): ((workflowRunId: string) => Effect.Effect<ReadonlyArray<StepRecord>, StoreError>) => {
  const statement = `
    select ${stepColumns("s")}
    from ${database.names.steps} s
    where s.workflow_run_id = any($1::uuid[])`
  return Effect.fnUntraced(function* (workflowRunId) {
    const rows = yield* database.read("getSteps", statement, [uuids([workflowRunId])])
    return sorted(rows.map(toStepRecord))
  })
}

/** The events that one run emitted. */
export const getEvents = (
  database: Database,
): ((workflowRunId: string) => Effect.Effect<ReadonlyArray<EventRow>, StoreError>) => {
  const statement = `
    select ${eventColumns("e")}
    from ${database.names.events} e
    where e.workflow_run_id = any($1::uuid[]) and e.direction = 'emitted'
    order by e.event_id`
  return Effect.fnUntraced(function* (workflowRunId) {
    const rows = yield* database.read("getEvents", statement, [uuids([workflowRunId])])
    return rows.map(toEventRow)
  })
}
