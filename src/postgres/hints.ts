/**
 * Hints between processes, over LISTEN and NOTIFY: to look sooner, never to know.
 *
 * NOTIFY takes a lock of the whole database at commit, so a hint is sent alone, never in a commit of
 * work, coalesced by the caller, and with `synchronous_commit = off` (a hint needs no durability).
 * One channel with a payload of one letter, not one channel per kind with no payload: the driver's
 * `listen` holds a connection per channel, and the pool has few. Equal hints of one transaction are
 * merged by Postgres all the same.
 *
 * Whoever listens is told `reconnected` after every (re)subscription: what was sent in between is
 * lost, so look now.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { StoreRejected } from "../FlowlyError.ts"
import type { Hint, StoreError } from "../WorkflowStore.ts"
import type { Database } from "./database.ts"
import { toStoreError } from "./sqlErrors.ts"

/** What `PgClient` and our client over a `pg.Pool` offer beyond a `SqlClient`. */
export interface Listening {
  readonly listen: (
    channel: string,
  ) => Effect.Effect<Queue.Dequeue<{ readonly payload: string }, SqlError>, SqlError, Scope.Scope>
}

const letters: ReadonlyArray<readonly [hint: Hint, letter: string]> = [
  ["work", "w"],
  ["settled", "t"],
  ["signal", "s"],
  ["wakes", "k"],
]

const letterOf = new Map(letters)
const hintOf = new Map(letters.map(([hint, letter]) => [letter, hint]))

export const notify = (
  database: Database,
): ((hints: ReadonlyArray<Hint>) => Effect.Effect<void, StoreError>) => {
  // Both in one statement: the setting lasts until the end of its own transaction, the commit included.
  const statement = `
    select set_config('synchronous_commit', 'off', true), pg_notify($1::text, x.letter)
    from pg_catalog.unnest($2::text[]) x(letter)`
  return Effect.fnUntraced(function* (hints) {
    const sent = [...new Set(hints.flatMap((hint) => letterOf.get(hint) ?? []))]
    if (sent.length === 0) return
    yield* database.write("notify", statement, [database.names.channel, sent])
  })
}

/**
 * As a part of the transaction that the calling fiber is in: delivered at its commit, and only then.
 * Without touching `synchronous_commit`, for the commit is the caller's. It costs that commit the lock
 * of the whole database that NOTIFY takes.
 */
export const notifyWithin =
  (database: Database) =>
  (hints: ReadonlyArray<Hint>): Effect.Effect<void, StoreError> => {
    const sent = [...new Set(hints.flatMap((hint) => letterOf.get(hint) ?? []))]
    const statement = `select pg_notify($1::text, x.letter) from pg_catalog.unnest($2::text[]) x(letter)`
    return Effect.asVoid(database.write("notify", statement, [database.names.channel, sent]))
  }

const firstDelayMs = 250
const maxDelayMs = 15_000

/**
 * Hints for as long as the caller's scope and the store live. The store ends the subscription before
 * its client closes: a pool waits for the connection that LISTEN holds, perhaps for ever. Fails only
 * if the first subscription does.
 */
export const listen = (
  sql: SqlClient,
  database: Database,
  storeScope: Scope.Scope,
): Effect.Effect<Queue.Dequeue<Hint>, StoreError, Scope.Scope> =>
  Effect.gen(function* () {
    if (!isListening(sql)) {
      return yield* new StoreRejected({
        operation: "listen",
        sqlState: null,
        reason: "this SqlClient cannot LISTEN: turn `useNotify` off, polling finds everything",
      })
    }
    const hints = yield* Queue.unbounded<Hint>()
    const subscribed = yield* Deferred.make<void, StoreError>()
    yield* Effect.acquireRelease(
      forward(sql, database.names.channel, hints, subscribed).pipe(
        Effect.ensuring(Queue.shutdown(hints)),
        Effect.forkIn(storeScope),
      ),
      Fiber.interrupt,
    )
    yield* Deferred.await(subscribed)
    return hints
  }).pipe(
    // Backoff in real time: a test's clock says nothing about the network.
    Effect.provideService(Clock.Clock, Clock.Clock.defaultValue()),
    Effect.withTracerEnabled(false),
  )

const isListening = (sql: SqlClient): sql is SqlClient & Listening =>
  typeof (sql as Partial<Listening>).listen === "function"

/** Subscribes, again and again, until its scope closes. */
const forward = (
  sql: Listening,
  channel: string,
  hints: Queue.Queue<Hint>,
  subscribed: Deferred.Deferred<void, StoreError>,
): Effect.Effect<void> =>
  Effect.gen(function* () {
    let delayMs = firstDelayMs
    const session = Effect.gen(function* () {
      const notifications = yield* sql.listen(channel)
      delayMs = firstDelayMs
      yield* Queue.offer(hints, "reconnected")
      yield* Deferred.succeed(subscribed, undefined)
      for (;;) {
        const hint = hintOf.get((yield* Queue.take(notifications)).payload)
        if (hint !== undefined) yield* Queue.offer(hints, hint)
      }
    })
    for (;;) {
      const error = yield* Effect.flip(Effect.scoped(session))
      const failure = toStoreError("listen", "reads", error)
      // The first subscription is the caller's to judge; later ones are made until they hold.
      if (yield* Deferred.fail(subscribed, failure)) return
      yield* Effect.sleep(Duration.millis(delayMs * (0.5 + (yield* Random.next))))
      delayMs = Math.min(delayMs * 2, maxDelayMs)
    }
  })
