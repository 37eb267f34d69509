/**
 * Inserting runs: idempotent by id, by idempotency key and by the parent's step.
 *
 * `on conflict do nothing` returns nothing for a loser, and the winner may be invisible to the same
 * statement (it committed after the statement's snapshot was taken). So losers are looked up by a
 * *following* statement. A winner may also be gone by then (rolled back, or the holder of a
 * concurrency key settled): such a run is inserted again, until it is found or inserted.
 *
 * An insert may wait for a foreign transaction that holds the same key: never call this on the
 * journal's lane.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { StoreUnavailable } from "../FlowlyError.ts"
import type { InsertAnswer, NewRun, StoreError } from "../WorkflowStore.ts"
import { insertAttributes } from "./attributes.ts"
import type { Database, Row } from "./database.ts"
import { newRunColumns, newRuns, newRunValues } from "./newRuns.ts"
import {
  bool,
  clock,
  int,
  intOrNull,
  ms,
  runColumns,
  steady,
  textOrNull,
  toRunRow,
} from "./rows.ts"
import { isDuplicate } from "./sqlErrors.ts"
import { isUuid } from "./uuids.ts"

// Each round lost means that a conflicting run came and went between two statements.
const maxRounds = 20

type Options = { readonly runs: ReadonlyArray<NewRun>; readonly claimFor: string | null }

export const insertRuns = (
  database: Database,
): ((options: Options) => Effect.Effect<ReadonlyArray<InsertAnswer>, StoreError>) => {
  const insert = insertMissing(database)
  const find = findWinners(database)
  const release = releaseKeys(database)
  return Effect.fnUntraced(function* ({ runs, claimFor }) {
    const answers = runs.map((): InsertAnswer | undefined => undefined)
    let open = runs.map((run, index) => ({ run, index }))
    for (let round = 0; open.length > 0; round++) {
      if (round === maxRounds) {
        return yield* new StoreUnavailable({
          operation: "insertRuns",
          outcome: "unknown",
          reason: `a conflicting run came and went ${maxRounds} times`,
        })
      }
      for (const [position, answer] of yield* insert(open, claimFor)) {
        answers[open[position]!.index] = answer
      }
      const losers = open.filter(({ index }) => answers[index] === undefined)
      if (losers.length > 0) {
        const expired: Array<string> = []
        for (const [position, answer, isExpired] of yield* find(losers, claimFor)) {
          if (isExpired && answer._tag === "Existing") expired.push(answer.run.workflowRunId)
          else answers[losers[position]!.index] = answer
        }
        // in the next round their keys are free, unless somebody was faster
        if (expired.length > 0) yield* release(expired, true)
      }
      open = losers.filter(({ index }) => answers[index] === undefined)
    }
    return answers as ReadonlyArray<InsertAnswer>
  })
}

type Open = ReadonlyArray<{ readonly run: NewRun; readonly index: number }>
type Found = ReadonlyArray<readonly [position: number, answer: InsertAnswer, isExpired: boolean]>

const insertMissing = (database: Database) => {
  const n = database.names
  const statement = (attributes: boolean, onConflict: "on conflict do nothing" | "") => `
    with clock as materialized (
      select ${clock("$1")} as at
    ),
    -- an eager start takes nothing unless its worker's lease is live, here and now
    lease as materialized (
      select w.worker_id from ${n.workers} w, clock
      where w.worker_id = $2::uuid and w.lease_expires_at > clock.at
    ),
    x as materialized (
      select * from ${newRuns.rows("x", 3)}
    ),
    inserted as (
      insert into ${n.runs} (${newRunColumns})
      select ${newRunValues("x", "clock.at", "lease.worker_id")}
      from x cross join clock left join lease on true
      -- one order of keys for everybody: two batches with the same keys must not wait for each other
      order by x.workflow, x.idempotency_key, x.concurrency_key, x.owner
      ${onConflict}
      returning workflow_run_id, worker_id, claim_token, created_at, deadline_at
    )${
      attributes
        ? `,
    described as (${insertAttributes(n, "x join inserted i on i.workflow_run_id = x.id")}
    )`
        : ""
    }
    select x.owner, ${answer("i.")}
    from inserted i
    join x on x.id = i.workflow_run_id`
  /** Where nothing is to be put in order, or found again among the inserted. */
  const direct = (rows: string, lease: string, onConflict: "on conflict do nothing" | "") => `
    with clock as materialized (
      select ${clock("$1")} as at
    )
    insert into ${n.runs} (${newRunColumns})
    select ${newRunValues("x", "clock.at", "lease.worker_id")}
    from ${rows}
    cross join clock
    left join ${lease}
    ${onConflict}
    returning ${answer("")}`
  const plain = statement(false, "on conflict do nothing")
  const described = statement(true, "on conflict do nothing")
  // One run has no order. (A round trip with its commit: 0.83 ms instead of 1.01; a bare insert: 0.62.)
  const leaseOf = `${n.workers} lease
      on lease.worker_id = $2::uuid and lease.lease_expires_at > clock.at`
  const lonePlain = direct(newRuns.row("x", 3), leaseOf, "on conflict do nothing")
  // no speculative insertion (500 runs, two plays on a busy machine: 6 and 21 % less)
  const loneCertain = direct(newRuns.row("x", 3), leaseOf, "")
  const certain = direct(
    newRuns.rows("x", 3),
    `(
      select w.worker_id from ${n.workers} w, clock
      where w.worker_id = $2::uuid and w.lease_expires_at > clock.at
      offset 0
    ) lease on true`,
    "",
  )
  return (open: Open, claimFor: string | null): Effect.Effect<Found, StoreError> =>
    Effect.gen(function* () {
      const hasAttributes = open.some(({ run }) => run.attributes != null)
      const [only] = open
      const isLone = open.length === 1 && only !== undefined && !hasAttributes
      const parameters = [
        yield* database.now,
        claimFor,
        ...(isLone
          ? newRuns.parametersOfRow({ run: only.run, owner: 0 })
          : newRuns.parameters(open.map(({ run }, owner) => ({ run, owner })))),
      ]
      const write = (text: string) => database.write("insertRuns", text, parameters)
      const usual = write(isLone ? lonePlain : hasAttributes ? described : plain)
      // an error would end the caller's transaction
      const isCertain = open.every(({ run }) => isFresh(run)) && !(yield* database.inTransaction)
      const rows = yield* isCertain
        ? Effect.catchIf(write(isLone ? loneCertain : certain), isDuplicate, () => usual)
        : usual
      // a direct statement tells no owner: its ids are each other's no duplicates
      const owners = new Map(open.map(({ run }, owner) => [run.workflowRunId.toLowerCase(), owner]))
      return rows.map((row) => {
        const answer = inserted(row)
        return [int(row["owner"] ?? owners.get(answer.workflowRunId)), answer, false] as const
      })
    })
}

/** Nothing can stand in its way, if it is right that its id is new. */
const isFresh = (run: NewRun): boolean =>
  run.fresh === true &&
  run.idempotencyKey === null &&
  run.concurrencyKey === null &&
  run.parent === null &&
  run.attributes == null

/** SQL: of an inserted row, what `inserted` reads. */
const answer = (i: "i." | ""): string => `${i}workflow_run_id::text as workflow_run_id,
      case when ${i}worker_id is not null then ${i}claim_token end as token,
      ${ms(`${i}created_at`)} as created_at, ${ms(`${i}deadline_at`)} as deadline_at`

const inserted = (row: Row): Extract<InsertAnswer, { readonly _tag: "Inserted" }> => ({
  _tag: "Inserted",
  workflowRunId: String(row["workflow_run_id"]),
  token: intOrNull(row["token"]),
  createdAt: int(row["created_at"]),
  deadlineAt: intOrNull(row["deadline_at"]),
})

/** In the contract's order: id, idempotency key, parent's step, concurrency key. */
const findWinners = (database: Database) => {
  const n = database.names
  const text = `
    with x as materialized (
      select * from ${newRuns.rows("x", 2)}
    )
    select x.owner, found.rank, ${runColumns(n, "r")},
      (found.rank = 2 and r.completed_at is not null
        and r.idempotency_expires_at <= ${steady("$1")}) as expired
    from x
    cross join lateral (
      select * from (
        select 1 as rank, r.workflow_run_id from ${n.runs} r
        where r.workflow_run_id = x.id
        union all
        select 2, r.workflow_run_id from ${n.runs} r
        where r.workflow = x.workflow and r.idempotency_key = x.idempotency_key
        union all
        select 3, r.workflow_run_id from ${n.runs} r
        where r.parent_run_id = x.parent_run_id and r.parent_step_key = x.parent_step_key
          and r.parent_attempt = x.parent_attempt
        union all
        select 4, r.workflow_run_id from ${n.runs} r
        where r.workflow = x.workflow and r.concurrency_key = x.concurrency_key
          and r.completed_at is null
      ) any_of
      order by rank
      limit 1
    ) found
    join ${n.runs} r on r.workflow_run_id = found.workflow_run_id`
  return (losers: Open, claimFor: string | null): Effect.Effect<Found, StoreError> =>
    Effect.gen(function* () {
      const rows = yield* database.read("insertRuns", text, [
        yield* database.now,
        ...newRuns.parameters(losers.map(({ run }, owner) => ({ run, owner }))),
      ])
      return rows.map(
        (row) => [int(row["owner"]), winner(row, claimFor), bool(row["expired"])] as const,
      )
    })
}

/** Takes their idempotency keys from terminal runs; answers from how many. */
const releaseKeys = (database: Database) => {
  const statement = `
    with released as (
      update ${database.names.runs} r
      set idempotency_key = null
      where r.workflow_run_id = any($2::uuid[])
        and r.completed_at is not null and r.idempotency_key is not null
        and ($3::text = 'any' or r.idempotency_expires_at <= ${steady("$1")})
      returning 1
    )
    select count(*)::int4 as released from released`
  return Effect.fnUntraced(function* (ids: ReadonlyArray<string>, expiredOnly: boolean) {
    const now = yield* database.now
    const which = expiredOnly ? "expired" : "any"
    const rows = yield* database.write("releaseIdempotencyKey", statement, [now, ids, which])
    return int(rows[0]?.["released"])
  })
}

/** Of one run, expired or not. */
export const releaseIdempotencyKey = (
  database: Database,
): ((workflowRunId: string) => Effect.Effect<boolean, StoreError>) => {
  const release = releaseKeys(database)
  return (workflowRunId) =>
    isUuid(workflowRunId)
      ? Effect.map(release([workflowRunId], false), (released) => released > 0)
      : Effect.succeed(false)
}

const winner = (row: Row, claimFor: string | null): InsertAnswer => {
  const rank = int(row["rank"])
  const run = toRunRow(row)
  if (rank === 4) return { _tag: "ConcurrencyHeld", workflowRunId: run.workflowRunId }
  if (rank !== 1) return { _tag: "Existing", run }
  // Only the insert's own claim (token 1): the same worker may have claimed the run since, and would
  // run it twice if it took that claim for this one.
  const ours =
    claimFor !== null &&
    textOrNull(row["worker_id"])?.toLowerCase() === claimFor.toLowerCase() &&
    bool(row["claimed_by_insert"]) &&
    run.token === 1
  return {
    _tag: "Inserted",
    workflowRunId: run.workflowRunId,
    token: ours ? 1 : null,
    createdAt: run.createdAt,
    deadlineAt: run.deadlineAt,
  }
}
