/**
 * Workers and their leases. What fences is the claim's token; a lease only says when others may
 * take over. A lapsed lease is never renewed, even if nobody swept it: its holder must register anew.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Claim, StoreError, WorkerRegistration } from "../WorkflowStore.ts"
import type { Database } from "./database.ts"
import { bool, clock, int, interval, text } from "./rows.ts"

const workflowsOf = (worker: WorkerRegistration): string =>
  JSON.stringify(worker.workflows.map(({ name, version }) => ({ name, version })))

/** Registers a fresh incarnation, and removes rows of the long dead. */
export const registerWorker = (
  database: Database,
): ((worker: WorkerRegistration) => Effect.Effect<void, StoreError>) => {
  const n = database.names
  const forget = `
    delete from ${n.workers} w
    where w.lease_expires_at < ${clock("$1")} - interval '1 hour'
      -- A claim that committed late still names its worker: the sweep needs the row to find it.
      and not exists (select 1 from ${n.runs} r where r.worker_id = w.worker_id)`
  const register = `
    insert into ${n.workers}
      (worker_id, label, lease_ms, lease_expires_at, workflows, capacity, started_at, heartbeat_at)
    select $2::uuid, $3::text, $4::bigint, c.at + ${interval("$4")}, $5::jsonb, $6::int, c.at, c.at
    from (select ${clock("$1")} as at) c`
  return Effect.fnUntraced(function* (worker) {
    const now = yield* database.now
    yield* database.write("registerWorker", forget, [now])
    yield* database.write("registerWorker", register, [
      now,
      worker.workerId,
      worker.label,
      String(worker.leaseMs),
      workflowsOf(worker),
      String(worker.capacity),
    ])
  })
}

/** Renews a lease that has not lapsed; lists what the store holds for the worker. */
export const renewLease = (
  database: Database,
): ((
  worker: WorkerRegistration,
) => Effect.Effect<
  { readonly renewed: boolean; readonly claims: ReadonlyArray<Claim> },
  StoreError
>) => {
  const n = database.names
  const statement = `
    with renewed as (
      update ${n.workers} w
      -- clock_timestamp: a heartbeat that waited for a lock grants from the grant, not from the wait
      set lease_expires_at = ${clock("$1")} + ${interval("$3")},
        lease_ms = $3::bigint,
        heartbeat_at = ${clock("$1")},
        workflows = $4::jsonb,
        capacity = $5::int
      where w.worker_id = $2::uuid
        -- a lapsed lease cannot be renewed: its runs may be somebody else's by now
        and w.lease_expires_at > ${clock("$1")}
        and w.retired_at is null
      returning 1
    )
    select exists (select 1 from renewed) as renewed,
      r.workflow_run_id::text as workflow_run_id, r.claim_token
    from (values (1)) one(row)
    left join ${n.runs} r on r.worker_id = $2::uuid`
  return Effect.fnUntraced(function* (worker) {
    const rows = yield* database.write("renewLease", statement, [
      yield* database.now,
      worker.workerId,
      String(worker.leaseMs),
      workflowsOf(worker),
      String(worker.capacity),
    ])
    return {
      renewed: bool(rows[0]?.["renewed"]),
      claims: rows.flatMap((row) =>
        row["workflow_run_id"] == null
          ? []
          : [{ workflowRunId: text(row["workflow_run_id"]), token: int(row["claim_token"]) }],
      ),
    }
  })
}

/** Ends a lease. The row stays: leftover claims are found through it. */
export const retireWorker = (
  database: Database,
): ((workerId: string) => Effect.Effect<void, StoreError>) => {
  const statement = `
    update ${database.names.workers} w
    set lease_expires_at = least(w.lease_expires_at, ${clock("$1")}),
      retired_at = coalesce(w.retired_at, ${clock("$1")})
    where w.worker_id = $2::uuid`
  return Effect.fnUntraced(function* (workerId) {
    yield* database.write("retireWorker", statement, [yield* database.now, workerId])
  })
}
