/**
 * Every identifier that reaches SQL text is made here, and nowhere else.
 *
 * The schema comes from configuration, so it is held to an allow-list (which forbids dots, quotes
 * and upper case) *and* quoted. Its length leaves room for the longest derived name within
 * Postgres's 63 bytes. Tables are always qualified: a hostile `search_path` changes nothing.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import { InvalidInput } from "../FlowlyError.ts"

/** The schema unless the user names another. */
export const defaultSchema = "durable_workflow"

/** Qualified, quoted table names, and the channel of hints. */
export interface Names {
  /** As configured: for values (`where nspname = $1`) and messages. */
  readonly schema: string
  readonly quotedSchema: string
  readonly runs: string
  readonly steps: string
  readonly timers: string
  readonly events: string
  readonly wakes: string
  readonly attributes: string
  readonly workers: string
  readonly schedules: string
  readonly ticks: string
  readonly migrations: string
  /** At most 63 bytes, since the schema has at most 48. */
  readonly channel: string
}

const allowed = /^[a-z_][a-z0-9_]{0,47}$/

/** The names in a schema, or why the schema cannot be used. */
export const makeNames = (schema: string): Result.Result<Names, InvalidInput> => {
  if (typeof schema !== "string" || !allowed.test(schema)) {
    return Result.fail(
      new InvalidInput({
        field: "schema",
        reason: `must match ${allowed.source} (lower case, at most 48 characters)`,
      }),
    )
  }
  if (schema.startsWith("pg_") || schema === "information_schema") {
    return Result.fail(new InvalidInput({ field: "schema", reason: "belongs to Postgres" }))
  }
  const quotedSchema = quote(schema)
  const table = (name: string) => `${quotedSchema}.${quote(name)}`
  return Result.succeed({
    schema,
    quotedSchema,
    runs: table("workflow_runs"),
    steps: table("workflow_steps"),
    timers: table("sleep_timers"),
    events: table("workflow_events"),
    wakes: table("workflow_wakes"),
    attributes: table("workflow_attributes"),
    workers: table("workflow_workers"),
    schedules: table("cron_schedules"),
    ticks: table("schedule_ticks"),
    migrations: table("flowly_migrations"),
    channel: `${schema}_hints`,
  })
}

/** A quoted identifier. Refuses what quoting cannot make safe. */
export const quote = (identifier: string): string => {
  if (identifier.includes("\0")) throw new Error("an identifier holds a NUL character")
  return `"${identifier.replaceAll('"', '""')}"`
}
