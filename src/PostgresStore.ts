/**
 * The store on Postgres: what the database promises, runs can rely on.
 *
 * One statement per verb, or one and a read; no procedures, no triggers, no session state, so that it
 * works behind a transaction pooler (without LISTEN) and on a promoted standby. The rules are in the
 * contract (`WorkflowStore`); how each is kept stands over the clause that keeps it, in `postgres/`.
 *
 * - `layerUrl`: on `@effect/sql-pg`, with connections of our own, which carry time limits.
 * - `layerPool`: on the application's `pg.Pool`. Ours to borrow from, never to end.
 * - `layer`: on any Postgres `SqlClient` that is there; a trigger then takes part in the
 *   application's `sql.withTransaction`.
 *
 * Connections a worker needs: one for the journal and whatever else is asked, one for the heartbeat,
 * one more for LISTEN (`verify` says so). What is left is for transactional steps, which need at least
 * one: each holds a connection for as long as its code runs.
 *
 * @since 0.1.0
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import type { SqlError } from "effect/sql/SqlError"
import { EngineClock } from "./EngineClock.ts"
import { type InvalidInput, type SchemaTooNew, PoolTooSmall } from "./FlowlyError.ts"
import { claimRuns, readSignals, releaseClaims } from "./postgres/claimRuns.ts"
import { commit } from "./postgres/commit.ts"
import { pauseRuns, rescheduleRuns, terminateRuns, wakeRuns } from "./postgres/control.ts"
import { getControls } from "./postgres/controlLog.ts"
import { reviseCompensation } from "./postgres/compensation.ts"
import { makeDatabase } from "./postgres/database.ts"
import { sendEvents, tailEvents } from "./postgres/events.ts"
import { forkRuns } from "./postgres/forkRuns.ts"
import { type GrantOptions, grantStatements } from "./postgres/grants.ts"
import { connectionOfCaller } from "./postgres/callersClient.ts"
import { listen, notify, notifyWithin } from "./postgres/hints.ts"
import { getEvents, getSteps, loadHistory, loadSources } from "./postgres/history.ts"
import { laneTo } from "./postgres/lane.ts"
import { insertRuns, releaseIdempotencyKey } from "./postgres/insertRuns.ts"
import { cancelOrphans } from "./postgres/orphans.ts"
import { migrate, verifySchema } from "./postgres/migrate.ts"
import { checkOptions, checkUrlOptions } from "./postgres/options.ts"
import { makePoolClient, type PgPoolLike } from "./postgres/pgPool.ts"
import { countRuns, getRuns, listRuns, readClock } from "./postgres/reads.ts"
import { requestCancel, resumeRun, retryRun } from "./postgres/requests.ts"
import {
  dueSchedules,
  fireTick,
  listSchedules,
  removeSchedule,
  upsertSchedule,
} from "./postgres/schedules.ts"
import { findToken } from "./postgres/tokens.ts"
import { getSituation } from "./postgres/situation.ts"
import { deadLetterPoison, refundCrashes, sweep } from "./postgres/sweep.ts"
import { transact, transactionOutcome } from "./postgres/transactions.ts"
import { registerWorker, renewLease, retireWorker } from "./postgres/workers.ts"
import { type StoreError, WorkflowStore } from "./WorkflowStore.ts"

export type { GrantOptions } from "./postgres/grants.ts"
export type { PgPoolClientLike, PgPoolLike } from "./postgres/pgPool.ts"

/**
 * How the store uses its database.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Where the tables are. Default `durable_workflow`. */
  readonly schema?: string | undefined
  /** The deadline of each statement, default 10,000. Keep it below a third of the lease. */
  readonly statementTimeoutMs?: number | undefined
  /** `false` for poolers that cannot keep prepared statements. Default `true`. */
  readonly prepare?: boolean | undefined
}

/**
 * The connections of `layerUrl`.
 *
 * @category models
 * @since 0.1.0
 */
export interface UrlOptions extends Options {
  readonly url: string | Redacted.Redacted
  /**
   * Default 10. A worker needs 3 (2 without LISTEN). From 5 on, one is the journal's own (not with
   * `prepare: false`).
   */
  readonly maxConnections?: number | undefined
  readonly applicationName?: string | undefined
  /**
   * Session defaults. Unless given: time limits, and no JIT. Poolers refuse parameters that they do
   * not know: give `{}` there. With `prepare: false` there are none by default.
   */
  readonly startupParameters?: Readonly<Record<string, string>> | undefined
}

/**
 * The store on the `SqlClient` that is there.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options = {},
): Layer.Layer<WorkflowStore, InvalidInput, SqlClient.SqlClient | EngineClock> =>
  Layer.effect(
    WorkflowStore,
    Effect.flatMap(SqlClient.SqlClient, (sql) => make(sql, options)),
  )

/**
 * The store on connections of its own.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerUrl = (
  options: UrlOptions,
): Layer.Layer<WorkflowStore, InvalidInput | SqlError, EngineClock> =>
  Layer.unwrap(
    Effect.map(Effect.fromResult(checkUrlOptions(options)), ({ statementTimeoutMs, prepare }) => {
      const url = typeof options.url === "string" ? Redacted.make(options.url) : options.url
      const max = options.maxConnections ?? defaultMaxConnections
      // A pooler is not told of what comes behind an end that it waits for.
      const lane = prepare && max >= sparing + 1 ? laneTo(Redacted.value(url), keepAlive) : null
      const connections = {
        url,
        applicationName: options.applicationName ?? "flowly",
        prepare,
        keepAlive,
        connectTimeout: Duration.millis(statementTimeoutMs),
        startupParameters:
          options.startupParameters ?? (prepare ? sessionDefaults(statementTimeoutMs) : {}),
      }
      // The pool's own timers, too, run on the real clock: see `postgres/database.ts`.
      const realClock = Layer.succeed(Clock.Clock, Clock.Clock.defaultValue())
      const clientOf = (more: Partial<Parameters<typeof PgClient.layer>[0]>) =>
        Layer.provide(PgClient.layer({ ...connections, ...more }), realClock)
      if (lane === null) return Layer.provide(layer(options), clientOf({ maxConnections: max }))
      const { stream, cut } = lane
      return Layer.effect(
        WorkflowStore,
        Effect.gen(function* () {
          const own = yield* Layer.build(clientOf({ maxConnections: 1, multiplex: true, stream }))
          const sql = Context.get(own, SqlClient.SqlClient)
          return yield* make(yield* SqlClient.SqlClient, options, { sql, cut })
        }),
      ).pipe(Layer.provide(clientOf({ maxConnections: max - 1 })))
    }),
  )

/**
 * The store on the application's `pg.Pool`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerPool = (
  options: Options & { readonly pool: PgPoolLike },
): Layer.Layer<WorkflowStore, InvalidInput, EngineClock> =>
  Layer.provide(layer(options), layerPoolClient(options.pool))

/**
 * The `SqlClient` over a `pg.Pool` that `layerPool` uses: for applications that want both.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerPoolClient = (pool: PgPoolLike): Layer.Layer<SqlClient.SqlClient> =>
  Layer.effectContext(
    Effect.map(makePoolClient(pool), (client) => Context.make(SqlClient.SqlClient, client)),
  )

/**
 * A store whose tables are brought up to date before it is used: safe from many processes at once.
 *
 * **Example** (Tables made at the start)
 *
 * ```ts
 * const Store = PostgresStore.layerUrl({ url }).pipe(
 *   PostgresStore.migrated,
 *   Layer.provide(EngineClock.layerStore)
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const migrated = <E, R>(
  store: Layer.Layer<WorkflowStore, E, R>,
): Layer.Layer<WorkflowStore, E | StoreError | SchemaTooNew, R> =>
  Layer.effect(
    WorkflowStore,
    Effect.tap(WorkflowStore, (made) => made.migrate),
  ).pipe(Layer.provide(store))

/**
 * The GRANT statements for the owner of the tables to run after `migrate`. The worker gets rows, and
 * no right to create or alter anything; the reader looks, payloads included.
 *
 * @category roles
 * @since 0.1.0
 */
export const grants = (options: GrantOptions): Effect.Effect<string, InvalidInput> =>
  Effect.fromResult(grantStatements(options))

const defaultMaxConnections = 10

/** A peer that is gone without a word is noticed by it, not by the next statement. */
const keepAlive = Duration.seconds(30)

/** The server gives up a little after we do: what we no longer wait for must not hold locks. */
const sessionDefaults = (timeoutMs: number): Readonly<Record<string, string>> => ({
  statement_timeout: String(timeoutMs + 1000),
  lock_timeout: String(timeoutMs),
  idle_in_transaction_session_timeout: "60000",
  // The big statements look expensive to the planner and run for a millisecond: never worth a compile.
  jit: "off",
})

/**
 * The store on a client.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  options: Options = {},
  lane?: { readonly sql: SqlClient.SqlClient; readonly cut: () => void },
) {
  const checked = yield* Effect.fromResult(checkOptions(options))
  const { names, statementTimeoutMs, prepare } = checked
  const scope = yield* Effect.scope
  const { now } = yield* EngineClock
  const database = makeDatabase({ sql, names, now, statementTimeoutMs, prepare })
  const journal =
    lane === undefined
      ? database
      : makeDatabase({
          sql: lane.sql,
          names,
          now,
          statementTimeoutMs,
          prepare,
          onLate: lane.cut,
        })
  /** Connections in transactions of which we do not see the end. */
  const joined = new WeakSet<Connection>()
  let reserved = connectionsFor({ worker: true, listen: true })
  const room = { max: maxConnectionsOf(sql), reserved: () => reserved }
  return WorkflowStore.of({
    name: "postgres",
    migrate: migrate(sql, database),
    verify: (needs) => {
      if (needs.worker) reserved = connectionsFor(needs)
      return Effect.andThen(verifyPool(maxConnectionsOf(sql), needs), verifySchema(database))
    },
    now: readClock(database),
    callersTransaction: Effect.map(Effect.serviceOption(sql.transactionService), (inside) =>
      Option.match(inside, {
        onNone: () => null,
        onSome: ([connection]) => ({
          afterCommit: (hints, then) =>
            joined.has(connection)
              ? notifyWithin(database)(hints)
              : sql.afterCommit(Effect.sync(then)),
        }),
      }),
    ),
    joinTransaction: (client) =>
      Effect.map(Effect.fromResult(connectionOfCaller(client)), (connection) => {
        joined.add(connection)
        return { run: Effect.provideService(sql.transactionService, [connection, 0]) }
      }),
    registerWorker: registerWorker(database),
    renewLease: renewLease(database),
    retireWorker: retireWorker(database),
    refundCrashes: refundCrashes(database),
    sweep: sweep(database),
    deadLetterPoison: deadLetterPoison(database),
    cancelOrphans: cancelOrphans(database),
    claimRuns: claimRuns(database),
    loadHistory: loadHistory(database),
    loadSources: loadSources(database),
    readSignals: readSignals(database),
    releaseClaims: releaseClaims(database),
    insertRuns: insertRuns(database),
    releaseIdempotencyKey: releaseIdempotencyKey(database),
    commit: commit(journal),
    transact: transact(sql, database, room),
    transactionOutcome: transactionOutcome(database),
    requestCancel: requestCancel(database),
    resumeRun: resumeRun(database),
    retryRun: retryRun(database),
    reviseCompensation: reviseCompensation(database),
    sendEvents: sendEvents(database),
    findToken: findToken(database),
    terminateRuns: terminateRuns(database),
    pauseRuns: pauseRuns(database),
    wakeRuns: wakeRuns(database),
    rescheduleRuns: rescheduleRuns(database),
    forkRuns: forkRuns(database),
    getControls: getControls(database),
    getRuns: getRuns(database),
    listRuns: listRuns(database),
    countRuns: countRuns(database),
    getSituation: getSituation(database),
    getSteps: getSteps(database),
    getEvents: getEvents(database),
    tailEvents: tailEvents(database),
    upsertSchedule: upsertSchedule(database),
    removeSchedule: removeSchedule(database),
    listSchedules: listSchedules(database),
    dueSchedules: dueSchedules(database),
    fireTick: fireTick(database),
    notify: notify(database),
    listen: listen(sql, database, scope),
    sparesConnection: (configOf(sql)?.maxConnections ?? 0) >= sparing,
    overlap: lane === undefined ? { commits: 1, from: 1 } : { commits: 2, from: worthACommit },
  })
})

/** As `PgClient` and our own client tell it. */
const configOf = (sql: SqlClient.SqlClient) =>
  (sql as { readonly config?: { readonly maxConnections?: number | undefined } }).config

/** Of another client's pool nothing is known. */
const maxConnectionsOf = (sql: SqlClient.SqlClient): number | undefined => {
  const config = configOf(sql)
  return config === undefined ? undefined : (config.maxConnections ?? defaultMaxConnections)
}

/** Runs that are worth a commit beside another: what a statement costs by itself must be little of it. */
const worthACommit = 80

/** One to work with, one to LISTEN, and as many again for what else the application does. */
const sparing = 4

/** The journal's lane and the heartbeat must never wait for each other. */
const connectionsFor = (needs: { readonly worker: boolean; readonly listen: boolean }): number =>
  (needs.worker ? 2 : 1) + (needs.listen ? 1 : 0)

const verifyPool = (
  max: number | undefined,
  needs: { readonly worker: boolean; readonly listen: boolean },
): Effect.Effect<void, PoolTooSmall> => {
  const needed = connectionsFor(needs)
  if (max === undefined || max >= needed) return Effect.void
  const parts = [
    ...(needs.worker ? ["one for the heartbeat", "one for everything else"] : ["one to work with"]),
    ...(needs.listen ? ["one for LISTEN (useNotify)"] : []),
  ]
  return Effect.fail(new PoolTooSmall({ max, needed, why: parts.join(", ") }))
}
