/**
 * What stands in the store of writes whose sending was not answered by the batch itself.
 *
 * Never conclude "not applied" from a lost answer: the cut connection's backend may still commit.
 * Conclude from what stands. Records and undos carry the token that wrote them, and a run that our
 * own write released keeps our token, for a sweep and `releaseClaims` mint a fresh one. A batch is
 * atomic per statement, so one part that stands under our token means the whole write does.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import {
  endsByTimer,
  type RecordWrite,
  type RunSignals,
  type StoreError,
  type TimerRow,
  type WriteAnswer,
} from "../WorkflowStore.ts"
import { batch } from "./batch.ts"
import type { Write } from "./commitRows.ts"
import type { Database } from "./database.ts"
import { bool, clock, int, intOrNull, ms, msUp, signalColumns, text, toSignals } from "./rows.ts"

/** What stands of one write. */
export interface Standing {
  readonly signals: RunSignals
  readonly now: number
  readonly token: number
  readonly held: boolean
  readonly records: ReadonlyMap<string, StandingRecord>
  readonly timers: ReadonlyMap<string, number>
  readonly children: ReadonlyMap<string, string>
}

interface StandingRecord {
  readonly token: number
  readonly attempts: number
  readonly completedAt: number | null
  readonly undoToken: number | null
}

type Read = (
  now: string | null,
  writes: ReadonlyArray<Write>,
) => Effect.Effect<ReadonlyMap<string, Standing>, StoreError>

export const readStanding = (database: Database): Read => {
  const n = database.names
  const statement = `
    with x as materialized (
      select * from json_to_recordset($2::json) as x(run uuid, key text, attempt int)
    ),
    c as materialized (
      select ${clock("$1")} as at
    )
    select 'run' as tag, r.workflow_run_id::text as run, null as key, null as value,
      r.claim_token as token, (r.worker_id is not null) as held, null::int as attempts,
      ${ms("c.at")} as at, null::int8 as undo_token, ${signalColumns("r", "c.at")}
    from ${n.runs} r cross join c
    where r.workflow_run_id in (select run from x)
    union all
    select 'record', s.workflow_run_id::text, s.step_key, null, s.claim_token, null, s.attempts,
      ${ms("s.completed_at")}, s.compensation_token, null, null, null, null, null, null, null
    from (select distinct run, key from x where key is not null and attempt is null) x
    join ${n.steps} s on s.workflow_run_id = x.run and s.step_key = x.key
    union all
    select 'timer', t.workflow_run_id::text, t.step_key, null, null, null, null,
      ${msUp("t.wake_at")}, null, null, null, null, null, null, null, null
    from (select distinct run, key from x where key is not null and attempt is null) x
    join ${n.timers} t on t.workflow_run_id = x.run and t.step_key = x.key
    union all
    select 'child', c.parent_run_id::text, c.parent_step_key, c.workflow_run_id::text, null, null,
      null, null, null, null, null, null, null, null, null, null
    from (select distinct run, key, attempt from x where attempt is not null) x
    join ${n.runs} c
      on c.parent_run_id = x.run and c.parent_step_key = x.key and c.parent_attempt = x.attempt`
  return Effect.fnUntraced(function* (now, writes) {
    const rows = yield* database.read("commit", statement, [now, batch(keysOf(writes), (k) => k)])
    const found = new Map<string, Standing & Mutable>()
    for (const row of rows) {
      if (row["tag"] !== "run") continue
      found.set(text(row["run"]), {
        signals: toSignals(row),
        now: int(row["at"]),
        token: int(row["token"]),
        held: bool(row["held"]),
        records: new Map(),
        timers: new Map(),
        children: new Map(),
      })
    }
    for (const row of rows) {
      const run = found.get(text(row["run"]))
      if (run === undefined || row["tag"] === "run") continue
      const key = text(row["key"])
      if (row["tag"] === "timer") run.timers.set(key, int(row["at"]))
      else if (row["tag"] === "child") run.children.set(key, text(row["value"]))
      else {
        run.records.set(key, {
          token: int(row["token"]),
          attempts: int(row["attempts"]),
          completedAt: intOrNull(row["at"]),
          undoToken: intOrNull(row["undo_token"]),
        })
      }
    }
    return found
  })
}

interface Mutable {
  readonly records: Map<string, StandingRecord>
  readonly timers: Map<string, number>
  readonly children: Map<string, string>
}

interface Key extends Readonly<Record<string, string | number | null>> {
  readonly run: string
  readonly key: string | null
  /** With a child: the parent's attempt. */
  readonly attempt: number | null
}

const keysOf = (writes: ReadonlyArray<Write>): ReadonlyArray<Key> =>
  writes.flatMap((write): ReadonlyArray<Key> => {
    const run = write.workflowRunId
    const own = [...write.records, ...write.timers, ...write.compensations]
    return [
      { run, key: null, attempt: null },
      ...own.map(({ stepKey }) => ({ run, key: stepKey, attempt: null })),
      ...write.children.flatMap(({ parent }) =>
        parent === null ? [] : [{ run, key: parent.stepKey, attempt: parent.attempt }],
      ),
    ]
  })

/** `applied`: the batch held the claim, and only its parts that stood already were left out. */
export const answerStanding = (
  write: Write,
  applied: boolean,
  found: Standing | undefined,
): WriteAnswer => {
  const { workflowRunId, token } = write
  // Token 0 was never minted: nobody has claimed the run yet. Another token: somebody has, or the
  // sweep took it away; whatever stands, the holder must stop.
  if (found === undefined || found.token !== token || token === 0) {
    return { _tag: "lost", workflowRunId }
  }
  if (applied || (!found.held && releases(write)) || standsByRecords(write, found)) {
    return committed(write, found)
  }
  return { _tag: found.held ? "busy" : "lost", workflowRunId }
}

const releases = ({ transition }: Write): boolean =>
  transition !== null && transition._tag !== "Compensate"

/** Whether something of this write is in the store that only an earlier sending can have put there. */
const standsByRecords = (write: Write, found: Standing): boolean => {
  // An end that came too early is not written, and proves nothing either way.
  const proofs = write.records.filter((record) => !isRefused(record, found))
  if (proofs.length + write.compensations.length === 0) return false
  return (
    proofs.every(({ stepKey, attempts }) => {
      const record = found.records.get(stepKey)
      return record?.token === write.token && record.attempts >= attempts
    }) &&
    write.compensations.every(
      ({ stepKey }) => found.records.get(stepKey)?.undoToken === write.token,
    )
  )
}

/** An end by timer that has not been recorded. A mark that it began may stand. */
const isRefused = (record: RecordWrite, found: Standing): boolean =>
  endsByTimer(record) && found.records.get(record.stepKey)?.completedAt == null

/** The answer to a write that stands. */
export const committed = (write: Write, found: Standing): WriteAnswer => ({
  _tag: "committed",
  workflowRunId: write.workflowRunId,
  ...found.signals,
  now: committedAt(write, found),
  timers: timersOf(found, write.timers),
  refusedSleeps: timersOf(
    found,
    write.records.filter((record) => isRefused(record, found)),
  ),
  children: write.children.flatMap(({ parent }) => {
    const workflowRunId = found.children.get(parent?.stepKey ?? "")
    return workflowRunId === undefined ? [] : [{ stepKey: parent!.stepKey, workflowRunId }]
  }),
})

const timersOf = (
  found: Standing,
  keys: ReadonlyArray<{ readonly stepKey: string }>,
): ReadonlyArray<TimerRow> =>
  keys.flatMap(({ stepKey }) => {
    const wakeAt = found.timers.get(stepKey)
    return wakeAt === undefined ? [] : [{ stepKey, wakeAt }]
  })

/** When the records of this write were committed, perhaps by an earlier sending. */
const committedAt = (write: Write, found: Standing): number => {
  let latest: number | null = null
  for (const { stepKey } of write.records) {
    const record = found.records.get(stepKey)
    if (record?.token !== write.token || record.completedAt === null) continue
    latest = Math.max(latest ?? 0, record.completedAt)
  }
  return latest ?? found.now
}
