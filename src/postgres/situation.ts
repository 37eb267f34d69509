/**
 * What stands around a run: for the explanation why it does not move.
 *
 * Some reads, one after the other: an explanation is of one moment, and says which.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type {
  ParkedWait,
  Situation,
  StoreError,
  WorkerState,
  WorkflowRef,
} from "../WorkflowStore.ts"
import type { Database, Row } from "./database.ts"
import { loadSources } from "./history.ts"
import { getRuns } from "./reads.ts"
import { bool, clock, int, ms, steady, text, textOrNull } from "./rows.ts"
import { isUuid } from "./uuids.ts"

const mostWorkers = 1000
const mostCounted = 1000

export const getSituation = (
  database: Database,
): ((workflowRunId: string) => Effect.Effect<Situation | null, StoreError>) => {
  const n = database.names
  const runs = getRuns(database)
  const sources = loadSources(database)
  // of a run that is not due, also where its priority alone would decide, none is ahead
  const ahead = (isDue: string) => `
        (select 1 from ${n.runs} o
        where o.workflow = r.workflow and coalesce(o.version, '') = coalesce(r.version, '')
          and ${isDue} and o.crash_count < 2 and o.workflow_run_id <> r.workflow_run_id
          and r.due_at is not null and (o.priority, o.due_at) < (r.priority, r.due_at)
        limit ${mostCounted})`
  // Every arm is bounded, and reads an index.
  const around = `
    select r.waits::text as waits,
      (select row_to_json(l)::text from (
        select s.step_key as key, ${ms("s.completed_at")} as at
        from ${n.steps} s
        where s.workflow_run_id = r.workflow_run_id and s.position is not null
        order by s.position desc
        limit 1
      ) l) as last_step,
      (select count(*) from (
        ${ahead("o.ready")}
        -- what has become due since it was stored is claimed as well: the claim reads both
        union all
        ${ahead(`not o.ready and o.due_at <= ${steady("$2")}`)}
        limit ${mostCounted}
      ) o) as ahead,
      (select o.workflow_run_id::text from ${n.runs} o
        where o.workflow = r.workflow and o.concurrency_key = r.concurrency_key
          and o.completed_at is null) as key_holder
    from ${n.runs} r
    where r.workflow_run_id = $1::uuid`
  const workers = `
    select w.worker_id::text as worker_id, w.label, w.capacity, w.workflows::text as workflows,
      ${ms("w.lease_expires_at")} as lease_expires_at, ${ms("w.heartbeat_at")} as heartbeat_at,
      w.lease_expires_at > ${clock("$1")} as is_live
    from ${n.workers} w
    where w.worker_id = $2::uuid or w.lease_expires_at > ${clock("$1")}
    order by w.worker_id = $2::uuid desc nulls last, w.heartbeat_at desc
    limit ${mostWorkers}`
  return Effect.fnUntraced(function* (workflowRunId) {
    if (!isUuid(workflowRunId)) return null
    const [run] = yield* runs([workflowRunId])
    const [source] = yield* sources([workflowRunId])
    const now = yield* database.now
    const [row] = yield* database.read("getSituation", around, [workflowRunId, now])
    if (run === undefined || source === undefined || row === undefined) return null
    const states = (yield* database.read("getSituation", workers, [now, run.workerId])).map(
      toWorkerState,
    )
    const last = row["last_step"] == null ? null : (JSON.parse(text(row["last_step"])) as Row)
    return {
      now: source.now,
      run,
      waits:
        run.completedAt !== null || row["waits"] == null
          ? []
          : (JSON.parse(text(row["waits"])) as ReadonlyArray<ParkedWait>),
      children: source.children,
      dueTimes: source.dueTimes,
      lastStep: last === null ? null : { stepKey: text(last["key"]), completedAt: int(last["at"]) },
      holder: states.find((one) => one.workerId === run.workerId) ?? null,
      workers: states.filter((one) => one.isLive),
      ahead: int(row["ahead"]),
      keyHolder: textOrNull(row["key_holder"]),
    }
  })
}

const toWorkerState = (row: Row): WorkerState => ({
  workerId: text(row["worker_id"]),
  label: text(row["label"]),
  capacity: int(row["capacity"]),
  workflows: JSON.parse(text(row["workflows"])) as ReadonlyArray<WorkflowRef>,
  leaseExpiresAt: int(row["lease_expires_at"]),
  heartbeatAt: int(row["heartbeat_at"]),
  isLive: bool(row["is_live"]),
})
