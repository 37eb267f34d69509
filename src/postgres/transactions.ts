/**
 * Transactional steps: what the step's code does and the record of the step are one commit.
 *
 * - **The fence comes last.** The code may take its time; the run's row is locked, and the record's
 *   place in the order of completion drawn, when nothing but the commit is left. Whoever took the
 *   claim meanwhile is found there, and all is rolled back.
 * - **A commit without an answer** is looked up, never repeated. The session that may still commit
 *   holds the lock of the fence until it has ended: so whoever gets that lock after it, and finds no
 *   record by a *following* statement, knows that there will never be one.
 * - **The error of the code survives.** `withTransaction` makes a defect of it where the rollback
 *   fails; so it is kept apart, and the transaction is told of a failure of our own.
 * - A journal's batch skips a locked row; here the lock is waited for, since the code would have to run
 *   again. It is held for one statement and a commit.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Semaphore from "effect/Semaphore"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import { SqlError } from "effect/sql/SqlError"
import { PoolTooSmall, StoreUnavailable, TransactionBroken } from "../FlowlyError.ts"
import type { Claim, RecordWrite, RunWrite, Transaction, WriteAnswer } from "../WorkflowStore.ts"
import type { WorkflowStore } from "../WorkflowStore.ts"
import { commit } from "./commit.ts"
import type { Database } from "./database.ts"
import { makePgShaped } from "./pgShaped.ts"
import { doom, keep, poolClientOf } from "./pgPool.ts"
import { faultOf, toStoreError } from "./sqlErrors.ts"
import { committed, readStanding } from "./standing.ts"

type Verbs = WorkflowStore["Service"]

/** Connections that transactions may hold at once. */
export interface Room {
  /** Of all; `undefined`: not known. */
  readonly max: number | undefined
  /** Those that others need, and must never wait for. */
  readonly reserved: () => number
}

/** Where nothing is known of the pool. */
const cautious = 5

export const transact = (
  sql: SqlClient.SqlClient,
  database: Database,
  room: Room,
): Verbs["transact"] => {
  const write = commit(database, true)
  let slots: Semaphore.Semaphore | null = null
  /** Counted at the first use: by then the worker has said whether it listens. */
  const slot: Effect.Effect<Semaphore.Semaphore, PoolTooSmall> = Effect.suspend(() => {
    if (slots !== null) return Effect.succeed(slots)
    const { max } = room
    const free = max === undefined ? cautious : max - room.reserved()
    if (free < 1 && max !== undefined) {
      const why = `${room.reserved()} for the engine itself, one for a transactional step`
      return Effect.fail(new PoolTooSmall({ max, needed: room.reserved() + 1, why }))
    }
    slots = Semaphore.makeUnsafe(free)
    return Effect.succeed(slots)
  })

  return ({ claim, isolation, use }) => {
    // the driver's timeouts run on the real clock, the step's code on its own
    const once = Effect.flatMap(Clock.Clock, (clock) => {
      let ended: Exit.Failure<never, any> | undefined
      let answer: WriteAnswer | undefined
      const body = Effect.gen(function* () {
        const context = yield* Effect.context<never>()
        const [connection] = Context.getUnsafe(context, sql.transactionService)
        const opened = open(sql, connection)
        const exit = yield* Effect.exit(
          Effect.provideService(use(opened.transaction), Clock.Clock, clock),
        )
        opened.close()
        if (Exit.isFailure(exit)) {
          ended = exit as Exit.Failure<never, any>
          // its code may still be at work on the client
          if (!exit.cause.reasons.every(Cause.isFailReason)) doom(connection)
          return yield* Effect.fail(rolledBack)
        }
        // fails outside of a transaction, and in one that has failed
        yield* database.write("transact", "savepoint flowly_record", [])
        const [one] = yield* write([writeOf(claim, exit.value)])
        answer = one
        if (one?._tag !== "committed") return yield* Effect.fail(rolledBack)
      })
      return sql.withTransaction(body).pipe(
        Effect.provideService(SqlClient.BeginTransaction, beginOf(isolation)),
        Effect.provideService(Clock.Clock, Clock.Clock.defaultValue()),
        Effect.matchCauseEffect({
          onSuccess: () => Effect.succeed(answer as Exclude<WriteAnswer, { _tag: "busy" }>),
          onFailure: (cause) => {
            if (ended !== undefined) return ended
            if (answer !== undefined && answer._tag !== "committed") {
              return Effect.succeed({ _tag: "lost" as const, workflowRunId: claim.workflowRunId })
            }
            return Effect.failCause(
              Cause.map(asFailure(cause), (error) => told(error, answer !== undefined)),
            )
          },
        }),
      )
    })
    // waiting may be given up; what began is brought to an end
    return Effect.flatMap(slot, (semaphore) =>
      Effect.acquireUseRelease(
        Effect.interruptible(semaphore.take(1)),
        () => Effect.uninterruptible(once),
        () => semaphore.release(1),
      ),
    ) as never
  }
}

const rolledBack = Symbol("rolledBack")

/** Where the rollback fails too, `withTransaction` makes defects of what the connection told. */
const asFailure = (cause: Cause.Cause<unknown>): Cause.Cause<unknown> => {
  if (!cause.reasons.every(Cause.isDieReason)) return cause
  const lost = cause.reasons.find(
    ({ defect }) => defect instanceof SqlError || defect instanceof StoreUnavailable,
  )
  return lost === undefined ? cause : Cause.fail(lost.defect)
}

const beginOf = (isolation: string | null): string | undefined =>
  isolation === null ? undefined : `BEGIN ISOLATION LEVEL ${isolation.toUpperCase()}`

/** Before the commit was sent nothing can have been applied, whatever the connection says. */
const told = (error: unknown, committing: boolean): unknown => {
  const known =
    error instanceof SqlError
      ? toStoreError("transact", committing ? "writes" : "reads", error)
      : error
  if (known instanceof StoreUnavailable && !committing && known.outcome === "unknown") {
    const { operation, reason } = known
    return new StoreUnavailable({ operation, reason, outcome: "not-applied" })
  }
  const { sqlState } = known as { readonly sqlState?: unknown }
  if (sqlState === "25P01") return new TransactionBroken({ reason: "ended" })
  if (sqlState === "25P02") return new TransactionBroken({ reason: "failed" })
  return known
}

const open = (
  sql: SqlClient.SqlClient,
  connection: Connection,
): { readonly transaction: Transaction; readonly close: () => void } => {
  const own = poolClientOf(connection)
  if (own !== undefined) {
    keep(own)
    return { transaction: { client: own, sql, faultOf }, close: () => undefined }
  }
  const { client, close } = makePgShaped(connection)
  return { transaction: { client, sql, faultOf }, close }
}

const writeOf = ({ workflowRunId, token }: Claim, record: RecordWrite): RunWrite => ({
  workflowRunId,
  token,
  timers: [],
  records: [record],
  children: [],
  emitted: [],
  compensations: [],
  transition: null,
})

export const transactionOutcome = (database: Database): Verbs["transactionOutcome"] => {
  const stand = readStanding(database)
  const lock = `
    select r.workflow_run_id
    from ${database.names.runs} r
    where r.workflow_run_id = $1::uuid
    for no key update of r`
  return Effect.fnUntraced(function* ({ claim, record }) {
    const { workflowRunId } = claim
    // behind whoever may still commit
    yield* database.write("transactionOutcome", lock, [workflowRunId])
    const write = writeOf(claim, record)
    const found = (yield* stand(yield* database.now, [write])).get(workflowRunId)
    if (found === undefined || found.token !== claim.token) return { _tag: "lost", workflowRunId }
    const standing = found.records.get(record.stepKey)
    if (standing?.token === claim.token && standing.completedAt !== null) {
      return committed(write, found) as Extract<WriteAnswer, { _tag: "committed" }>
    }
    return found.held ? null : { _tag: "lost", workflowRunId }
  })
}
