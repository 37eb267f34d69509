/**
 * Brings a schema to the current version, once, however many processes ask at the same time.
 *
 * `create schema if not exists` is not safe against itself (two sessions both see none, one fails on
 * the catalog's unique index), and `if not exists` asks for the right to create even where nothing is
 * to be done. So: look first, and change under an advisory lock that ends with the transaction. The
 * lock has two keys, the second a hash of the schema, so that it meets no lock of the application.
 * One transaction applies everything: a process killed half way leaves nothing behind.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlClient } from "effect/sql/SqlClient"
import { SqlError } from "effect/sql/SqlError"
import { SchemaNotMigrated, SchemaTooNew, StoreUnavailable } from "../FlowlyError.ts"
import type { StoreError } from "../WorkflowStore.ts"
import type { Database } from "./database.ts"
import { currentVersion, migrations } from "./migrations/index.ts"
import type { Names } from "./names.ts"
import { int } from "./rows.ts"
import { toStoreError } from "./sqlErrors.ts"

/** Waiting for another process's migration, and running one, may take this long. */
const migrationTimeoutMs = 300_000

/** First key of the advisory lock: "flow" in ASCII. */
const lockNamespace = 0x666c6f77

/** FNV-1a, as a signed 32-bit integer. */
const hash32 = (text: string): number => {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash | 0
}

/** Migrates. Safe to call from any number of processes at once, and when nothing is to be done. */
export const migrate = (
  sql: SqlClient,
  database: Database,
): Effect.Effect<void, StoreError | SchemaTooNew> =>
  Effect.gen(function* () {
    const found = yield* schemaVersion(database)
    if (found === currentVersion) return
    if (found > currentVersion) return yield* tooNew(database.names, found)
    yield* inOneTransaction(sql.withoutTransforms(), applyAll(sql.withoutTransforms(), database))
  })

/** Fails unless the schema is at the version that this library needs. */
export const verifySchema = (
  database: Database,
): Effect.Effect<void, StoreError | SchemaNotMigrated | SchemaTooNew> =>
  Effect.gen(function* () {
    const found = yield* schemaVersion(database)
    if (found > currentVersion) return yield* tooNew(database.names, found)
    if (found < currentVersion) {
      const { schema } = database.names
      return yield* new SchemaNotMigrated({ schema, found, needed: currentVersion })
    }
  })

const tooNew = ({ schema }: Names, found: number) =>
  new SchemaTooNew({ schema, found, known: currentVersion })

/** 0: there is no schema, or no table of migrations in it. */
const schemaVersion = (database: Database): Effect.Effect<number, StoreError> => {
  const { names } = database
  return Effect.gen(function* () {
    const exists = yield* database.read(
      "migrate",
      `select 1 from pg_catalog.pg_class c
        join pg_catalog.pg_namespace s on s.oid = c.relnamespace
        where s.nspname = $1::text and c.relname = 'flowly_migrations'`,
      [names.schema],
    )
    if (exists.length === 0) return 0
    const rows = yield* database.read(
      "migrate",
      `select coalesce(max(id), 0)::int4 as version from ${names.migrations}`,
      [],
    )
    return int(rows[0]?.["version"])
  })
}

const executeOn =
  (sql: SqlClient) =>
  (text: string, parameters: ReadonlyArray<string> = []) =>
    sql.unsafe<Record<string, unknown>>(text, parameters).unprepared

const applyAll = (
  sql: SqlClient,
  { names }: Database,
): Effect.Effect<void, SqlError | SchemaTooNew> =>
  Effect.gen(function* () {
    const execute = executeOn(sql)
    // Waiting for the lock is not a stuck statement.
    yield* execute("set local statement_timeout = 0")
    yield* execute("set local lock_timeout = 0")
    yield* execute("select pg_advisory_xact_lock($1::int4, $2::int4)", [
      String(lockNamespace),
      String(hash32(names.schema)),
    ])
    const schemas = yield* execute(
      "select 1 from pg_catalog.pg_namespace where nspname = $1::text",
      [names.schema],
    )
    if (schemas.length === 0) yield* execute(`create schema ${names.quotedSchema}`)
    yield* execute(
      `create table if not exists ${names.migrations} (
        id integer primary key,
        name text not null,
        applied_at timestamptz not null default clock_timestamp()
      )`,
    )
    // Under the lock, by a statement that began after it was granted: another process may be done.
    const rows = yield* execute(
      `select coalesce(max(id), 0)::int4 as version from ${names.migrations}`,
    )
    const version = int(rows[0]?.["version"])
    if (version > currentVersion) return yield* tooNew(names, version)
    for (const migration of migrations.slice(version)) {
      for (const statement of migration.statements(names)) yield* execute(statement)
      yield* execute(`insert into ${names.migrations} (id, name) values ($1::int4, $2::text)`, [
        String(migration.id),
        migration.name,
      ])
    }
  })

/**
 * `withTransaction`, with its sharp edge taken off: when the ROLLBACK fails too (a cut connection),
 * both errors come out as defects; here they are the typed error they were.
 */
const inOneTransaction = <A, E>(
  sql: SqlClient,
  body: Effect.Effect<A, E | SqlError>,
): Effect.Effect<A, Exclude<E, SqlError> | StoreError> =>
  sql.withTransaction(body).pipe(
    Effect.catchCause((cause) => {
      const failure = Option.getOrUndefined(Cause.findErrorOption(cause))
      if (failure !== undefined) return Effect.fail(failure)
      const defect = Cause.squash(cause)
      return defect instanceof SqlError ? Effect.fail(defect) : Effect.failCause(cause)
    }),
    Effect.mapError((error) =>
      error instanceof SqlError
        ? toStoreError("migrate", "writes", error)
        : (error as Exclude<E, SqlError>),
    ),
    Effect.timeoutOrElse({
      duration: migrationTimeoutMs,
      orElse: () =>
        Effect.fail(
          new StoreUnavailable({
            operation: "migrate",
            outcome: "unknown",
            reason: `not done within ${migrationTimeoutMs} ms`,
          }),
        ),
    }),
    Effect.provideService(Clock.Clock, Clock.Clock.defaultValue()),
    Effect.withTracerEnabled(false),
  ) as Effect.Effect<A, Exclude<E, SqlError> | StoreError>
