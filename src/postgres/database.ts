/**
 * Runs the store's statements: bounded in time, classified, and on the real clock.
 *
 * - Each statement has a deadline of its own: the driver has none, TCP keepalive does not bound a
 *   statement, and a call that never ends would keep a lane waiting for ever. A late statement is
 *   interrupted behind the caller's back, because the driver may need seconds to give up a session;
 *   only inside a caller's transaction is its end awaited, for the session is still in use.
 * - The driver reads the clock of the calling fiber (for its connect timeout). Under TestClock that
 *   clock stands still or jumps, so statements run on the real one.
 * - Statement spans are off: thousands per second, and they would hold SQL text.
 * - Parameters are strings, `null`, or arrays of strings, cast in SQL. Batches are the text of arrays
 *   (`columns.ts`) or of JSON (`batch.ts`): the drivers disagree about arrays with nulls, empty arrays
 *   and numbers beyond 32 bits.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as References from "effect/References"
import type { SqlClient } from "effect/sql/SqlClient"
import { SqlError } from "effect/sql/SqlError"
import { StoreRejected, StoreUnavailable } from "../FlowlyError.ts"
import type { StoreError } from "../WorkflowStore.ts"
import type { Names } from "./names.ts"
import { deadlinePassed, type Effects, toStoreError } from "./sqlErrors.ts"

/** A row as the driver gives it. Read it through `rows.ts`. */
export type Row = Readonly<Record<string, unknown>>

/** What can be bound. */
export type Parameter = string | null | ReadonlyArray<string>

type Run = (
  operation: string,
  text: string,
  parameters: ReadonlyArray<Parameter>,
) => Effect.Effect<ReadonlyArray<Row>, StoreError>

/** What a statement needs. */
export interface Database {
  readonly names: Names
  readonly read: Run
  readonly write: Run
  /** `$now`: epoch milliseconds of a test's clock, `null` where the database's own is to be read. */
  readonly now: Effect.Effect<string | null>
  /** Several statements in one commit. Only where one statement cannot do: each costs a round trip. */
  readonly transaction: <A>(
    operation: string,
    statements: Effect.Effect<A, StoreError>,
  ) => Effect.Effect<A, StoreError>
  /** Whether the calling fiber is inside `sql.withTransaction` on this client. */
  readonly inTransaction: Effect.Effect<boolean>
}

/** The database behind a client. */
export const makeDatabase = (options: {
  readonly sql: SqlClient
  readonly names: Names
  readonly now: Effect.Effect<number | null>
  readonly statementTimeoutMs: number
  readonly prepare: boolean
  /** A statement is given up. */
  readonly onLate?: () => void
}): Database => {
  // A client that renames result columns would rename the keys inside payloads, too.
  const sql = options.sql.withoutTransforms()
  const { statementTimeoutMs } = options

  const run =
    (effects: Effects): Run =>
    (operation, text, parameters) =>
      Effect.flatMap(Effect.context<never>(), (context) => {
        const prepared = sql.unsafe<Row>(text, parameters)
        const statement = options.prepare ? prepared : prepared.unprepared
        const bounded = Option.isSome(Context.getOption(context, sql.transactionService))
          ? withinTransaction(statement, statementTimeoutMs)
          : detached(statement, context, statementTimeoutMs)
        return Effect.mapError(bounded, (error) => {
          if (error !== late) return toStoreError(operation, effects, error)
          options.onLate?.()
          return deadlinePassed(operation, effects, statementTimeoutMs)
        })
      })

  return {
    names: options.names,
    read: run("reads"),
    write: run("writes"),
    transaction: (operation, statements) =>
      sql.withTransaction(statements).pipe(
        Effect.catchCause((cause) => {
          const failure = Option.getOrUndefined(Cause.findErrorOption(cause))
          if (failure !== undefined) return Effect.fail(failure)
          // when the ROLLBACK fails too (a cut connection), both errors come out as defects
          const defect = Cause.squash(cause)
          const isTyped =
            defect instanceof SqlError ||
            defect instanceof StoreUnavailable ||
            defect instanceof StoreRejected
          return isTyped ? Effect.fail(defect) : Effect.failCause(cause)
        }),
        Effect.mapError((error) =>
          error instanceof SqlError ? toStoreError(operation, "writes", error) : error,
        ),
        Effect.provideService(Clock.Clock, Clock.Clock.defaultValue()),
        Effect.withTracerEnabled(false),
      ),
    now: Effect.map(options.now, (now) => (now === null ? null : String(now))),
    inTransaction: Effect.map(Effect.serviceOption(sql.transactionService), Option.isSome),
  }
}

const late = Symbol("late")

/** One for each fiber's context: a lane's stays the same, and making one copies it. */
const realClocks = new WeakMap<Context.Context<never>, Context.Context<never>>()

const onRealClock = (context: Context.Context<never>): Context.Context<never> => {
  const known = realClocks.get(context)
  if (known !== undefined) return known
  const made = context.pipe(
    Context.add(Clock.Clock, Clock.Clock.defaultValue()),
    Context.add(References.TracerEnabled, false),
  )
  realClocks.set(context, made)
  return made
}

/** On a fiber of its own, so that a late one holds nobody up. */
const detached = <A>(
  statement: Effect.Effect<A, SqlError>,
  context: Context.Context<never>,
  milliseconds: number,
): Effect.Effect<A, SqlError | typeof late> =>
  Effect.callback((resume) => {
    const fiber = Effect.runForkWith(onRealClock(context))(statement)
    // Not Effect.timeout: an uninterruptible caller must be released in time as well.
    const timer = setTimeout(() => {
      resume(Effect.fail(late))
      fiber.interruptUnsafe()
    }, milliseconds)
    fiber.addObserver((exit) => {
      clearTimeout(timer)
      resume(exit)
    })
    return Effect.sync(() => {
      clearTimeout(timer)
      fiber.interruptUnsafe()
    })
  })

const withinTransaction = <A>(
  statement: Effect.Effect<A, SqlError>,
  milliseconds: number,
): Effect.Effect<A, SqlError | typeof late> =>
  Effect.timeoutOrElse(statement, {
    duration: milliseconds,
    orElse: () => Effect.fail<SqlError | typeof late>(late),
  }).pipe(
    Effect.provideService(Clock.Clock, Clock.Clock.defaultValue()),
    Effect.withTracerEnabled(false),
  )
