/**
 * Looks at the database from aside, by SQL of its own: what is under way, what is stranded, who idles in
 * a transaction; and, when nothing moves any more, everything that may tell why.
 */
import pg from "pg"
import { isTerminal, type RunStatus } from "../../src/Run.ts"

export interface Look {
  readonly open: number
  /** Those that somebody had asked to pause: any other reason is not ours to lift. */
  readonly paused: ReadonlyArray<string>
  /** Runs that nobody will ever look at. */
  readonly stranded: ReadonlyArray<{ readonly id: string; readonly why: string }>
  readonly fresh: ReadonlyArray<{ readonly id: string; readonly workflow: string }>
  /** Sessions of the engine that idle in a transaction. */
  readonly idling: ReadonlyArray<{
    readonly role: string
    readonly ms: number
    readonly query: string
  }>
  /** The last change that was audited. */
  readonly seq: number
}

export interface Observer {
  /** `null`: the server did not answer. */
  readonly look: () => Promise<Look | null>
  readonly query: <Row extends pg.QueryResultRow>(
    text: string,
    values?: Array<unknown>,
  ) => Promise<ReadonlyArray<Row>>
  /** What might tell why nothing moves. */
  readonly dump: () => Promise<ReadonlyArray<string>>
  readonly close: () => Promise<void>
}

export const makeObserver = (url: string): Observer => {
  const pool = new pg.Pool({
    connectionString: url,
    max: 3,
    application_name: "torture-observer",
    connectionTimeoutMillis: 3000,
    // its own sessions come and go with a server that is read-only
    options: "-c default_transaction_read_only=off",
  })
  pool.on("error", () => {})
  const known = new Set<string>()
  let since = new Date(0)
  const query: Observer["query"] = async (text, values = []) =>
    (await pool.query(text, values)).rows

  const look = async (): Promise<Look> => {
    const runs = await query<{
      id: string
      workflow: string
      status: RunStatus
      created_at: Date
      reason: string | null
    }>(
      `select workflow_run_id as id, workflow, status, created_at,
        pause_reason->>'tag' as reason
      from durable_workflow.workflow_runs
      where completed_at is null or completed_at > clock_timestamp() - interval '10 seconds'
        or created_at >= $1`,
      [since],
    )
    const fresh = []
    let open = 0
    const paused = []
    let newest = since
    for (const { id, workflow, status, created_at, reason } of runs) {
      if (!known.has(id)) fresh.push({ id, workflow })
      if (created_at > newest) newest = created_at
      if (!isTerminal(status)) {
        open++
        if (status === "paused" && reason === "RunPaused") paused.push(id)
      }
    }
    const stranded = await query<{ id: string; why: string }>(
      `select r.workflow_run_id as id, case
          when r.worker_id is not null then 'is held by a worker that nobody knows'
          when r.status = 'running' then 'is running, and nobody holds it'
          else 'is ' || r.status || ', unclaimed, and never due' end as why
      from durable_workflow.workflow_runs r
      where r.completed_at is null and r.status <> 'paused' and case
        when r.worker_id is not null then not exists (
          select from durable_workflow.workflow_workers w where w.worker_id = r.worker_id)
        when r.status = 'running' then true
        when r.due_at is not null or r.ready then false
        when r.status <> 'waiting' then true
        else exists (
            select from durable_workflow.workflow_runs c where c.parent_run_id = r.workflow_run_id)
          and not exists (
            select from durable_workflow.workflow_runs c
            where c.parent_run_id = r.workflow_run_id and c.completed_at is null)
          -- it waits for no event either
          and r.waits is not null and r.waits::text not like '%event%'
      end`,
    )
    const idling = await query<{ role: string; ms: number; query: string }>(
      `select usename as role, (extract(epoch from clock_timestamp() - state_change) * 1000)::float8 as ms,
        left(query, 80) as query
      from pg_stat_activity
      where datname = current_database() and state like 'idle in transaction%'
        and application_name like 'flowly%'`,
    )
    const [last] = await query<{ seq: number }>(
      "select last_value::float8 as seq from torture.audit_seq",
    )
    // a look that breaks off has shown nobody anything
    for (const { id } of fresh) known.add(id)
    // one that commits late was created before
    since = new Date(newest.getTime() - 5000)
    return { open, paused, stranded, fresh, idling, seq: last?.seq ?? 0 }
  }

  const table = async (title: string, text: string): Promise<ReadonlyArray<string>> => {
    const rows = await query(text).catch((error: unknown) => [{ error: String(error) }])
    return [`${title}:`, ...rows.map((row) => `  ${JSON.stringify(row)}`)]
  }

  return {
    look: () => look().catch(() => null),
    query,
    dump: async () => [
      ...(await table(
        "runs that have not ended",
        `select r.workflow_run_id, r.workflow, r.status, r.worker_id, r.claim_token, r.ready, r.due_at,
          r.wake_counter, r.crash_count, r.attempt, r.waits, r.pause_reason, r.cancel_requested_at
        from durable_workflow.workflow_runs r where r.completed_at is null limit 20`,
      )),
      ...(await table(
        "their newest records",
        `select s.workflow_run_id, s.step_key, s.kind, s.status, s.position, s.claim_token,
          s.completed_at, s.retry_at
        from durable_workflow.workflow_steps s
        join durable_workflow.workflow_runs r using (workflow_run_id)
        where r.completed_at is null
        order by s.completed_at desc nulls first limit 30`,
      )),
      ...(await table(
        "workers",
        `select worker_id, label, lease_expires_at - clock_timestamp() as lease, retired_at
        from durable_workflow.workflow_workers order by started_at desc limit 12`,
      )),
      ...(await table(
        "sessions",
        `select pid, usename, application_name, state, wait_event_type, wait_event,
          clock_timestamp() - state_change as since, left(query, 100) as query
        from pg_stat_activity where datname = current_database() limit 60`,
      )),
      ...(await table(
        "locks that are waited for",
        `select l.pid, l.locktype, l.relation::regclass::text as relation, l.mode,
          pg_blocking_pids(l.pid) as blocked_by
        from pg_locks l where not l.granted`,
      )),
    ],
    close: () => pool.end(),
  }
}
