/**
 * A client in the shape of `pg`, over a connection of the store's own: for the code of transactional
 * steps where the store was given a connection string and not a `pg.Pool`.
 *
 * Values are those of the store's driver: an int8 is a `bigint` there and text in `pg`; json is
 * parsed in both. A plain object is no parameter: bind its JSON text.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Connection } from "effect/sql/SqlConnection"
import type { SqlError } from "effect/sql/SqlError"
import { sqlStateOf } from "./sqlErrors.ts"

/** What `pg` answers, as far as code depends on it. */
export interface PgResult {
  readonly rows: ReadonlyArray<any>
  readonly rowCount: number | null
  readonly command: string
  readonly fields: ReadonlyArray<unknown>
}

export interface PgShaped {
  readonly client: {
    readonly query: (
      query: string | { readonly text: string; readonly values?: ReadonlyArray<unknown> },
      values?: ReadonlyArray<unknown>,
    ) => Promise<PgResult>
  }
  /** From now on it refuses everything, and gives up what it is at. */
  readonly close: () => void
}

export const makePgShaped = (connection: Connection): PgShaped => {
  const running = new Set<Fiber.Fiber<PgResult, unknown>>()
  let closed = false
  return {
    client: {
      query: (query, values) => {
        if (closed) return Promise.reject(new Error("the transaction of this client has ended"))
        const { text, values: own } = typeof query === "string" ? { text: query } : query
        const parameters = values ?? own ?? []
        const fiber = Effect.runFork(
          Effect.mapBoth(connection.executeRaw(text, parameters), {
            onSuccess: resultOf,
            onFailure: driversError,
          }),
        )
        running.add(fiber)
        fiber.addObserver(() => running.delete(fiber))
        return Effect.runPromise(Effect.flatten(fiberExit(fiber)))
      },
    },
    close: () => {
      closed = true
      for (const fiber of running) fiber.interruptUnsafe()
    },
  }
}

const fiberExit = <A, E>(fiber: Fiber.Fiber<A, E>): Effect.Effect<Effect.Effect<A, E>> =>
  Effect.callback((resume) => {
    fiber.addObserver((exit) => resume(Effect.succeed(exit)))
  })

const resultOf = (raw: unknown): PgResult => {
  const { rows, rowCount, command, fields } = raw as Partial<PgResult>
  return {
    rows: rows ?? [],
    rowCount: rowCount ?? null,
    command: command ?? "",
    fields: fields ?? [],
  }
}

/**
 * As `pg` would throw it: with `code`, `constraint`, `detail`. What the server did not say, a connection
 * that closed, is told by effect/sql's error alone.
 */
const driversError = (error: SqlError): unknown =>
  sqlStateOf(error) !== null && error.reason.cause instanceof Error ? error.reason.cause : error
