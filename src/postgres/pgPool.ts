/**
 * A `SqlClient` over the user's own `pg.Pool`, which we borrow from and never end.
 *
 * Each statement checks a client out itself (not `pool.query`), so that an interrupted or late
 * statement destroys its connection: `pg` can neither cancel nor tell when the answer came too late,
 * and a connection that still works on our statement must not go back to the user.
 * Statements are prepared under a hash of their text: a counter would clash with another copy of this
 * library on the same pool. Behind a pooler that cannot keep names, `prepare: false`.
 * While the client lives, the pool has an `error` listener: without one, an idle connection that the
 * server ends would end the process.
 *
 * @since 0.1.0
 */
import { createHash } from "node:crypto"
import { makeCompiler } from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Reactivity from "effect/reactivity/Reactivity"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import { ConnectionError, SqlError, UniqueViolation, UnknownError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import { TransactionBroken } from "../FlowlyError.ts"
import type { Listening } from "./hints.ts"
import { quote } from "./names.ts"

/** The part of `pg.Pool` that is used: `pg` itself is not a dependency. */
export interface PgPoolLike {
  readonly connect: () => Promise<PgPoolClientLike>
  readonly options?: { readonly max?: number | undefined } | undefined
  on(event: "error", listener: (error: Error) => void): unknown
  on(event: "connect" | "remove", listener: (client: any) => void): unknown
  removeListener(event: string, listener: (value: any) => void): unknown
}

/** The part of `pg.PoolClient` that is used. */
export interface PgPoolClientLike {
  query(config: {
    readonly text: string
    readonly values: Array<unknown>
    readonly name?: string
    readonly rowMode?: "array"
  }): Promise<{ readonly rows: Array<any>; readonly command: string }>
  release: (destroy?: boolean) => void
  on(event: string, listener: (value: any) => void): unknown
  removeListener(event: string, listener: (value: any) => void): unknown
}

/** The client of a pool: with `listen`, and what `verify` needs to know of its size. */
export interface PgPoolSqlClient extends SqlClient.SqlClient, Listening {
  readonly config: { readonly maxConnections: number }
}

/** pg's own default. */
const defaultMax = 10

export const makePoolClient = (
  pool: PgPoolLike,
): Effect.Effect<PgPoolSqlClient, never, Scope.Scope> =>
  Effect.gen(function* () {
    yield* Effect.acquireRelease(
      Effect.sync(() => pool.on("error", ignore)),
      () => Effect.sync(() => pool.removeListener("error", ignore)),
    )
    yield* guardNewClients(pool)
    const borrow = <A, E, R>(f: (connection: Connection) => Effect.Effect<A, E, R>) =>
      Effect.scoped(Effect.flatMap(checkout(pool), (client) => f(connectionOf(client))))
    const acquirer = Effect.map(checkout(pool), connectionOf)
    const client = yield* SqlClient.make({
      driver: "flowly/pg",
      acquirer,
      borrower: borrow,
      transactionAcquirer: acquirer,
      compiler: makeCompiler(),
      releaseSavepoint: (name) => `RELEASE SAVEPOINT ${name}`,
      commit: commitTransaction,
      // the session of a doomed one is ended, which rolls back more surely than a statement
      isTransaction: (connection) => !doomed.has(clients.get(connection) as PgPoolClientLike),
      spanAttributes: [["db.system.name", "postgresql"]],
    })
    return Object.assign(client, {
      listen: listenOn(pool),
      config: { maxConnections: pool.options?.max ?? defaultMax },
    })
  }).pipe(Effect.provide(Reactivity.layer))

const ignore = (): void => {}

const clients = new WeakMap<Connection, PgPoolClientLike>()
const doomed = new WeakSet<PgPoolClientLike>()

/** The pool's own client behind a connection of ours. */
export const poolClientOf = (connection: Connection): PgPoolClientLike | undefined =>
  clients.get(connection)

const kept = new WeakMap<PgPoolClientLike, PgPoolClientLike["release"]>()

/**
 * The client behind this connection is given away, and back to the pool by us alone: a `release` in a
 * `finally`, as everybody writes it, would lend it to others amid the transaction.
 */
export const keep = (client: PgPoolClientLike): void => {
  kept.set(client, client.release)
  client.release = () => {
    throw new TransactionBroken({ reason: "released" })
  }
}

/**
 * A statement may be under way on this connection that nobody waits for any more: it must be destroyed,
 * not rolled back in its turn, and not go back to the pool.
 */
export const doom = (connection: Connection): void => {
  const client = clients.get(connection)
  if (client !== undefined) doomed.add(client)
}

/**
 * The pool takes its own `error` listener off a new client before the promise of `connect` can give
 * us the client to put ours on. The end of the session may be in the very packet that completed the
 * connection: without a listener in between, that `error` would end the process.
 */
const guardNewClients = (pool: PgPoolLike): Effect.Effect<void, never, Scope.Scope> => {
  const guarded = new Set<PgPoolClientLike>()
  const onConnect = (client: PgPoolClientLike): void => {
    guarded.add(client)
    client.on("error", ignore)
  }
  const onRemove = (client: PgPoolClientLike): void => {
    guarded.delete(client)
  }
  return Effect.acquireRelease(
    Effect.sync(() => {
      pool.on("connect", onConnect)
      pool.on("remove", onRemove)
    }),
    () =>
      Effect.sync(() => {
        pool.removeListener("connect", onConnect)
        pool.removeListener("remove", onRemove)
        for (const client of guarded) client.removeListener("error", ignore)
      }),
  )
}

/** A client of the pool, until the scope closes. Destroyed unless what it did ended well. */
const checkout = (pool: PgPoolLike): Effect.Effect<PgPoolClientLike, SqlError, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.suspend(() => {
      let arrived: PgPoolClientLike | undefined
      let isWanted = true
      const waiting = Effect.callback<PgPoolClientLike, SqlError>((resume) => {
        const onClient = (client: PgPoolClientLike): void => {
          if (!isWanted) return client.release()
          arrived = client
          // A client that is in use and loses its session emits `error`, besides failing its query.
          client.on("error", ignore)
          resume(Effect.succeed(client))
        }
        const onError = (error: unknown): void =>
          resume(Effect.fail(toSqlError(error, "acquireConnection")))
        void pool.connect().then(onClient, onError)
      })
      return restore(waiting).pipe(
        // Waiting cannot be called off: a client that comes too late, or in the very moment of the
        // interrupt, goes straight back.
        Effect.onExit((exit) =>
          Effect.sync(() => {
            isWanted = false
            if (arrived === undefined || Exit.isSuccess(exit)) return
            arrived.removeListener("error", ignore)
            arrived.release()
          }),
        ),
        Effect.tap((client) =>
          Effect.addFinalizer((exit) =>
            Effect.sync(() => {
              const destroy = doomed.has(client) || (Exit.isFailure(exit) && !leavesSession(exit))
              // one that is destroyed may still hear of its end
              if (!destroy) client.removeListener("error", ignore)
              const release = kept.get(client)
              if (release !== undefined) {
                kept.delete(client)
                client.release = release
              }
              client.release(destroy)
            }),
          ),
        ),
      )
    }),
  )

/** An ordinary error of a statement leaves the session in order. */
const leavesSession = (exit: Exit.Failure<unknown, unknown>): boolean =>
  exit.cause.reasons.every(
    (reason) =>
      reason._tag === "Fail" &&
      !(reason.error instanceof SqlError && reason.error.reason._tag === "ConnectionError"),
  )

const names = new Map<string, string>()

/** Bounded: texts come from this library only, but a name costs memory on every connection. */
const nameOf = (text: string): string | undefined => {
  const known = names.get(text)
  if (known !== undefined) return known
  if (names.size >= 200) return undefined
  const name = `flowly_${createHash("sha256").update(text).digest("hex").slice(0, 32)}`
  names.set(text, name)
  return name
}

const connectionOf = (client: PgPoolClientLike): Connection => {
  const run = (
    text: string,
    parameters: ReadonlyArray<unknown>,
    options: { readonly name?: string | undefined; readonly rowMode?: "array" },
  ): Effect.Effect<{ readonly rows: ReadonlyArray<any>; readonly command: string }, SqlError> => {
    const { name, rowMode } = options
    return Effect.tryPromise({
      try: () =>
        client.query({
          text,
          values: parameters.map(parameterOf),
          ...(name === undefined ? {} : { name }),
          ...(rowMode === undefined ? {} : { rowMode }),
        }),
      catch: (error) => toSqlError(error, "query"),
    })
  }
  const connection: Connection = {
    execute: (text, parameters, transform) =>
      Effect.map(run(text, parameters, { name: nameOf(text) }), transformed(transform)),
    executeRaw: (text, parameters) => run(text, parameters, {}),
    executeValues: (text, parameters) =>
      Effect.map(
        run(text, parameters, { name: nameOf(text), rowMode: "array" }),
        ({ rows }) => rows,
      ),
    executeValuesUnprepared: (text, parameters) =>
      Effect.map(run(text, parameters, { rowMode: "array" }), ({ rows }) => rows),
    executeUnprepared: (text, parameters, transform) =>
      Effect.map(run(text, parameters, {}), transformed(transform)),
    executeStream: (text, parameters, transform) =>
      Stream.fromIterableEffect(Effect.map(run(text, parameters, {}), transformed(transform))),
  }
  clients.set(connection, client)
  return connection
}

const transformed =
  (transform: ((rows: ReadonlyArray<any>) => ReadonlyArray<any>) | undefined) =>
  ({ rows }: { readonly rows: ReadonlyArray<any> }): ReadonlyArray<any> =>
    transform === undefined ? rows : transform(rows)

/** `sql.json(x)` compiles to a parameter of the native driver. */
const parameterOf = (value: unknown): unknown =>
  typeof value === "object" && value !== null && "~@effect/sql-pg/PgTypes/Parameter" in value
    ? JSON.stringify((value as { readonly value?: unknown }).value)
    : value

/** Postgres answers ROLLBACK, without an error, to the COMMIT of an aborted transaction. */
const commitTransaction = (connection: Connection): Effect.Effect<void, SqlError> =>
  Effect.flatMap(connection.executeRaw("COMMIT", []), (result) =>
    (result as { readonly command?: unknown }).command === "ROLLBACK"
      ? Effect.fail(toSqlError(new Error("COMMIT rolled back an aborted transaction"), "commit"))
      : Effect.void,
  )

/** LISTEN on a client of its own, for the life of the scope. The queue fails when it is lost. */
const listenOn =
  (pool: PgPoolLike): Listening["listen"] =>
  (channel) =>
    Effect.gen(function* () {
      const client = yield* checkout(pool)
      const queue = yield* Queue.unbounded<{ readonly payload: string }, SqlError>()
      const onNotification = (message: { channel: string; payload?: string }) => {
        if (message.channel !== channel) return
        Queue.offerUnsafe(queue, { payload: message.payload ?? "" })
      }
      const onLost = (error?: unknown) => {
        const cause = error ?? new Error("the listening connection ended")
        Queue.failCauseUnsafe(queue, Cause.fail(toSqlError(cause, "listen")))
      }
      const events = [
        ["notification", onNotification],
        ["error", onLost],
        ["end", onLost],
      ] as const
      yield* Effect.acquireRelease(
        Effect.sync(() => events.forEach(([event, listener]) => client.on(event, listener))),
        () =>
          Effect.gen(function* () {
            events.forEach(([event, listener]) => client.removeListener(event, listener))
            // The client goes back to the user's pool: without our subscription.
            yield* Effect.ignore(
              connectionOf(client).executeUnprepared("UNLISTEN *", [], undefined),
            )
            yield* Queue.shutdown(queue)
          }),
      )
      yield* connectionOf(client).executeUnprepared(`LISTEN ${quote(channel)}`, [], undefined)
      return queue
    })

/** The error of a `pg` client, as effect/sql knows errors. */
export const toSqlError = (cause: unknown, operation: string): SqlError => {
  const { code, constraint, message } = (cause ?? {}) as {
    readonly code?: unknown
    readonly constraint?: unknown
    readonly message?: unknown
  }
  const properties = { cause, message: String(message ?? "query failed"), operation }
  const isServerError = typeof code === "string" && /^[0-9A-Z]{5}$/.test(code)
  if (isServerError && code === "23505") {
    const name = typeof constraint === "string" ? constraint : "unknown"
    return new SqlError({ reason: new UniqueViolation({ ...properties, constraint: name }) })
  }
  return new SqlError({
    reason:
      isServerError && !/^(08|57P0|EPIPE|EPERM)/.test(code)
        ? new UnknownError(properties)
        : new ConnectionError(properties),
  })
}
