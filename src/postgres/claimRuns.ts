/**
 * The claim: a bounded index scan per known workflow and version, then locks on what was found, in order.
 *
 * Candidates are read without locks, a few more than asked for, because other workers read the same
 * ones (and many more, once they have been seen to); then at most `limit` of them are locked, skipping what others hold, and the predicate is
 * checked again on the locked row (under read committed a lock yields the newest row). One
 * statement, so a claim that is answered is durable. Foreign workflows and future work are in ranges
 * of the index that are never read.
 *
 * The sizes stand in subselects: a planner that knows them finds each claim's own plan cheaper than the
 * general one, and makes it anew each time (0.7 ms of 1.8 for one run, of 8.9 for 112).
 *
 * Rows only: the row is the newest, but every other table is seen as of the statement's start. A run
 * handed back in between would come with a history that lacks its last record. So history is read by
 * a statement that begins after this one committed (`history.ts`).
 *
 * Postgres 15, 2 vCPU shared with other work, 20,000 ready runs of three workflows: a claim of 32
 * executes in 2.6 ms, and in the same with 50,000 foreign and 50,000 future runs beside them. It
 * reads 80 entries of each workflow's range, whatever the table holds.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Claim, ClaimedRun, RunSignals, StoreError, WorkflowRef } from "../WorkflowStore.ts"
import { batch } from "./batch.ts"
import type { Database, Row } from "./database.ts"
import type { Names } from "./names.ts"
import {
  bool,
  clock,
  encoded,
  errorOrNull,
  int,
  intOrNull,
  ms,
  signalColumns,
  steady,
  text,
  textOrNull,
  toParent,
  toSignals,
} from "./rows.ts"

type Options = {
  readonly workerId: string
  readonly workflows: ReadonlyArray<WorkflowRef>
  readonly limit: number
  readonly suspects: boolean
}

export const claimRuns = (
  database: Database,
): ((options: Options) => Effect.Effect<ReadonlyArray<ClaimedRun>, StoreError>) => {
  const { healthy, suspects } = claimStatements(database.names)
  /** Claims that read many spare candidates, since one came back short of what is there. */
  let crowded = 0

  const claim = Effect.fnUntraced(function* (options: Options, spare: number) {
    const candidates = options.limit + spare
    const rows = yield* database.write("claimRuns", options.suspects ? suspects : healthy, [
      yield* database.now,
      options.workerId,
      options.workflows.map(({ name }) => name),
      String(options.limit),
      String(candidates),
      options.workflows.map(({ version }) => version ?? ""),
    ])
    return {
      runs: rows.flatMap((row) => (row["workflow_run_id"] == null ? [] : [toClaimedRun(row)])),
      isFull: int(rows[0]?.["seen"] ?? 0) >= candidates,
    }
  })

  return Effect.fnUntraced(function* (given) {
    if (given.limit <= 0 || given.workflows.length === 0) return []
    // a workflow named twice would give each candidate twice
    const workflows = given.workflows.filter(
      (one, at, all) =>
        at === all.findIndex(({ name, version }) => name === one.name && version === one.version),
    )
    const options = { ...given, workflows }
    const { limit } = options
    const first = yield* claim(options, crowded > 0 ? manySpare(limit) : fewSpare(limit))
    if (crowded > 0) crowded--
    if (first.runs.length >= limit || !first.isFull) return first.runs
    // Others hold what we read, and there may be more behind it: "short" must mean "nothing left".
    crowded = crowdedFor
    const rest = { ...options, limit: limit - first.runs.length }
    const second = yield* claim(rest, manySpare(limit))
    return [...first.runs, ...second.runs]
  })
}

/** Candidates that others may hold: a few, or, where there are others, as many again as are wanted. */
const fewSpare = (limit: number): number => 16 + Math.ceil(limit / 8)
const manySpare = (limit: number): number => 16 + limit
const crowdedFor = 50

/** As in the indexes: no version is ''. */
const ofWorkflow = `r.workflow = w.workflow and coalesce(r.version, '') = w.version`

const healthyCandidates = (n: Names): string => `
      (select r.workflow_run_id, r.priority, r.due_at
        from ${n.runs} r
        where ${ofWorkflow} and r.ready and r.crash_count < 2
        order by r.priority, r.due_at
        limit (select $5::int))
      union all
      (select r.workflow_run_id, r.priority, r.due_at
        from ${n.runs} r
        where ${ofWorkflow} and not r.ready and r.crash_count < 2
          and r.due_at <= ${steady("$1")}
        order by r.due_at
        limit (select $5::int))`

const suspectCandidates = (n: Names): string => `
      (select r.workflow_run_id, r.priority, r.due_at
        from ${n.runs} r
        where ${ofWorkflow} and r.crash_count >= 1 and r.crash_count >= 2
          and r.worker_id is null
          and r.due_at <= ${steady("$1")}
        order by r.due_at
        limit (select $5::int))`

/** Exported for the tests that read their plans. */
export const claimStatements = (n: Names) => ({
  healthy: claimStatement(n, healthyCandidates(n)),
  suspects: claimStatement(n, suspectCandidates(n)),
})

const claimStatement = (n: Names, candidates: string): string => `
  with lease as materialized (
    -- A worker whose lease lapsed takes nothing: its runs would be swept from under it.
    select 1
    from ${n.workers}
    where worker_id = $2::uuid and lease_expires_at > ${clock("$1")}
  ),
  candidates as materialized (
    select c.workflow_run_id, c.priority, c.due_at
    from rows from (
      pg_catalog.unnest((select $3::text[])), pg_catalog.unnest((select $6::text[])))
      w(workflow, version)
    cross join lateral (${candidates}
    ) c
    where exists (select 1 from lease)
    order by c.priority, c.due_at
    limit (select $5::int)
  ),
  locked as materialized (
    select r.workflow_run_id, c.priority, c.due_at, r.started_at, r.wake_counter
    from candidates c
    join ${n.runs} r on r.workflow_run_id = c.workflow_run_id
    -- Checked again on the newest version of the row, which is what the lock yields: it may have
    -- been claimed, parked, cancelled or pushed back since the candidates were read.
    where r.worker_id is null
      and (r.ready or r.due_at <= ${steady("$1")})
    order by c.priority, c.due_at
    limit (select $4::int)
    for no key update of r skip locked
  ),
  claimed as (
    update ${n.runs} r
    set worker_id = $2::uuid,
      claim_token = r.claim_token + 1,
      status = case when r.status = 'compensating' then r.status else 'running' end,
      ready = false,
      due_at = null,
      pause_reason = null,
      started_at = coalesce(r.started_at, ${clock("$1")})
    from locked l
    where r.workflow_run_id = l.workflow_run_id
    returning r.*, l.priority as at_priority, l.due_at as was_due,
      -- A first claim of a run that nothing has woken has nothing to read.
      (l.started_at is not null or l.wake_counter > 0) as has_history
  )
  select s.seen, r.workflow_run_id::text as workflow_run_id, r.workflow, r.version, r.claim_token,
    r.compensating, r.attempt, r.max_attempts, r.input_codec, r.input::text as input,
    r.error::text as error, coalesce(r.seed, r.workflow_run_id)::text as seed,
    r.parent_run_id::text as parent_run_id, r.parent_step_key, r.parent_attempt,
    ${ms("r.created_at")} as created_at, ${ms("r.started_at")} as started_at,
    ${ms("r.deadline_at")} as deadline_at, r.crash_count, r.has_history,
    ${signalColumns("r", steady("$1"))}
  from (select count(*)::int as seen from candidates) s
  left join claimed r on true
  order by r.at_priority, r.was_due, r.workflow_run_id`

const toClaimedRun = (row: Row): ClaimedRun => ({
  ...toSignals(row),
  workflowRunId: text(row["workflow_run_id"]),
  workflow: text(row["workflow"]),
  version: textOrNull(row["version"]),
  seed: text(row["seed"]),
  token: int(row["claim_token"]),
  compensating: bool(row["compensating"]),
  attempt: int(row["attempt"]),
  maxAttempts: intOrNull(row["max_attempts"]),
  input: encoded(row["input_codec"], row["input"]),
  error: errorOrNull(row["error"]),
  parent: toParent(row),
  createdAt: int(row["created_at"]),
  startedAt: int(row["started_at"]),
  deadlineAt: intOrNull(row["deadline_at"]),
  crashCount: int(row["crash_count"]),
  hasHistory: bool(row["has_history"]),
})

const claimBatch = (claims: ReadonlyArray<Claim>): string =>
  batch(claims, (claim) => ({ id: claim.workflowRunId, token: claim.token }))

const toHeld = (row: Row): RunSignals & { readonly workflowRunId: string } => {
  return { workflowRunId: text(row["workflow_run_id"]), ...toSignals(row) }
}

/** Signals of the claims that are still held. */
export const readSignals = (
  database: Database,
): ((
  claims: ReadonlyArray<Claim>,
) => Effect.Effect<ReadonlyArray<RunSignals & { readonly workflowRunId: string }>, StoreError>) => {
  const statement = `
    select r.workflow_run_id::text as workflow_run_id, ${signalColumns("r", steady("$1"))}
    from json_to_recordset($2::json) as x(id uuid, token bigint)
    join ${database.names.runs} r on r.workflow_run_id = x.id
    where r.claim_token = x.token and r.worker_id is not null`
  return Effect.fnUntraced(function* (claims) {
    if (claims.length === 0) return []
    const now = yield* database.now
    const rows = yield* database.read("readSignals", statement, [now, claimBatch(claims)])
    return rows.map(toHeld)
  })
}

/**
 * Hands claims back. A fresh token: a write that is still under way for the released claim must find
 * neither "held by me" nor "released by me", for it was never applied.
 */
export const releaseClaims = (
  database: Database,
): ((claims: ReadonlyArray<Claim>) => Effect.Effect<number, StoreError>) => {
  const n = database.names
  const statement = `
    with locked as materialized (
      select r.workflow_run_id
      from json_to_recordset($2::json) as x(id uuid, token bigint)
      join ${n.runs} r on r.workflow_run_id = x.id
      where r.claim_token = x.token and r.worker_id is not null
      -- A batch that is committing keeps its run: the next reconcile sees what became of it.
      for no key update of r skip locked
    ),
    released as (
      update ${n.runs} r
      set worker_id = null,
        claim_token = r.claim_token + 1,
        status = case when r.status = 'compensating' then r.status else 'pending' end,
        ready = true,
        due_at = ${clock("$1")}
      from locked l
      where r.workflow_run_id = l.workflow_run_id
      returning 1
    )
    select count(*)::int4 as released from released`
  return Effect.fnUntraced(function* (claims) {
    if (claims.length === 0) return 0
    const now = yield* database.now
    const rows = yield* database.write("releaseClaims", statement, [now, claimBatch(claims)])
    return int(rows[0]?.["released"])
  })
}
