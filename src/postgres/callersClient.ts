/**
 * Clients on which applications open transactions: `pg`, Drizzle (node-postgres) and Kysely. None of
 * them is a dependency: each is known by its shape.
 *
 * Statements go out unprepared: a name on a connection of somebody else's could clash, or outlive what
 * a pooler keeps. Rows are read by `rows.ts`, which bears whatever parsers are set.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { Connection } from "effect/sql/SqlConnection"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import { InvalidInput } from "../FlowlyError.ts"
import { toSqlError } from "./pgPool.ts"

type Query = (
  text: string,
  values: ReadonlyArray<unknown>,
) => PromiseLike<{ readonly rows: ReadonlyArray<any> }>

/** A connection over the client's transaction. */
export const connectionOfCaller = (client: unknown): Result.Result<Connection, InvalidInput> =>
  Result.map(queryOf(client), connectionOf)

const refused = (reason: string): Result.Result<never, InvalidInput> =>
  Result.fail(new InvalidInput({ field: "client", reason }))

/** What is looked at, of any of them. */
interface Looked {
  readonly query?: unknown
  readonly totalCount?: unknown
  readonly getTransactionStatus?: unknown
  readonly session?: { readonly client?: unknown }
  readonly executeQuery?: unknown
  readonly isTransaction?: unknown
  readonly withoutPlugins?: unknown
}

const queryOf = (client: unknown): Result.Result<Query, InvalidInput> => {
  if (typeof client !== "object" || client === null) return refused("must be a client")
  const looked = client as Looked
  if (typeof looked.executeQuery === "function") return ofKysely(client as KyselyLike)
  // Drizzle: the tx of db.transaction keeps the pg client in its session
  const inner = looked.session?.client
  if (typeof inner === "object" && inner !== null) return ofPg(inner, "drizzle: ")
  return ofPg(client, "")
}

const ofPg = (client: object, whose: string): Result.Result<Query, InvalidInput> => {
  const { query, totalCount, getTransactionStatus } = client as Looked
  if (typeof query !== "function") {
    return refused(
      `${whose}must be a pg client, a Drizzle transaction on pg, or a Kysely transaction`,
    )
  }
  if (typeof totalCount === "number") {
    return refused(
      `${whose}is a pool, which has no transaction: give the client that you sent BEGIN on ` +
        `(with Drizzle the tx of db.transaction)`,
    )
  }
  // newer versions of pg know: outside of a transaction the run would be there at once
  if (typeof getTransactionStatus === "function") {
    const status: unknown = getTransactionStatus.call(client)
    if (status === "I") return refused(`${whose}is in no transaction: send BEGIN first`)
  }
  const send = query.bind(client) as (text: string, values: Array<unknown>) => ReturnType<Query>
  return Result.succeed((text, values) => send(text, [...values]))
}

interface KyselyLike {
  readonly isTransaction: boolean
  readonly withoutPlugins: () => KyselyLike
  readonly executeQuery: (query: object) => ReturnType<Query>
}

const ofKysely = (client: KyselyLike): Result.Result<Query, InvalidInput> => {
  if (!client.isTransaction) {
    return refused("kysely: must be the trx of db.transaction() or of startTransaction()")
  }
  // plugins may rename the columns of results
  const plain = client.withoutPlugins()
  return Result.succeed((sql, parameters) =>
    plain.executeQuery({
      sql,
      parameters: [...parameters],
      query: { kind: "RawNode", sqlFragments: [sql], parameters: [] },
      queryId: { queryId: "flowly" },
    }),
  )
}

const connectionOf = (query: Query): Connection => {
  const run = (
    text: string,
    values: ReadonlyArray<unknown>,
  ): Effect.Effect<{ readonly rows: ReadonlyArray<any> }, SqlError> =>
    Effect.tryPromise({
      try: () => Promise.resolve(query(text, values)),
      // a query builder may wrap the driver's error
      catch: (error) => toSqlError(driversError(error), "query"),
    })
  const rows = (text: string, values: ReadonlyArray<unknown>) =>
    Effect.map(run(text, values), (result) => result.rows)
  const values = (text: string, parameters: ReadonlyArray<unknown>) =>
    Effect.map(rows(text, parameters), (all) => all.map((row) => Object.values(row as object)))
  return {
    execute: rows,
    executeUnprepared: rows,
    executeRaw: run,
    executeValues: values,
    executeValuesUnprepared: values,
    executeStream: (text, parameters) => Stream.fromIterableEffect(rows(text, parameters)),
  }
}

const driversError = (error: unknown): unknown => {
  const { cause } = (error ?? {}) as { readonly cause?: unknown }
  return (cause as { readonly code?: unknown } | undefined)?.code === undefined ? error : cause
}
