/**
 * What the roles of a deployment may do, as the statements that say so.
 *
 * Three roles: the owner migrates (it may create), the worker runs, starts and steers runs (rows of our
 * tables, nothing else), the reader looks. Each table is named: others may live in the same schema,
 * and are none of our business. Printed, not executed: whoever runs this in production reads it first.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import { InvalidInput } from "../FlowlyError.ts"
import { defaultSchema, makeNames, type Names, quote } from "./names.ts"

/**
 * Who gets what.
 *
 * @category models
 * @since 0.1.0
 */
export interface GrantOptions {
  /** Where the tables are. Default `durable_workflow`. */
  readonly schema?: string | undefined
  /** The role of processes that start, run or steer runs. */
  readonly worker?: string | undefined
  /** The role of whoever may look at runs, their payloads included, and change nothing. */
  readonly reader?: string | undefined
}

/**
 * The statements, for the owner of the tables to run after each migration.
 */
export const grantStatements = (options: GrantOptions): Result.Result<string, InvalidInput> =>
  Result.gen(function* () {
    const { schema = defaultSchema, worker, reader } = options
    const names = yield* makeNames(schema)
    if (worker === undefined && reader === undefined) {
      const reason = "name at least one of worker and reader"
      return yield* Result.fail(new InvalidInput({ field: "grants", reason }))
    }
    const tables = tablesOf(names)
    const statements: Array<string> = []
    if (worker !== undefined) {
      const role = yield* roleName(worker, "worker")
      statements.push(
        `grant usage on schema ${names.quotedSchema} to ${role}`,
        `grant select, insert, update, delete on ${tables.join(", ")} to ${role}`,
        `grant select on ${names.migrations} to ${role}`,
      )
    }
    if (reader !== undefined) {
      const role = yield* roleName(reader, "reader")
      statements.push(
        `grant usage on schema ${names.quotedSchema} to ${role}`,
        `grant select on ${[...tables, names.migrations].join(", ")} to ${role}`,
      )
    }
    return statements.map((one) => `${one};\n`).join("")
  })

const tablesOf = (n: Names): ReadonlyArray<string> => [
  n.runs,
  n.steps,
  n.timers,
  n.events,
  n.wakes,
  n.attributes,
  n.workers,
  n.schedules,
  n.ticks,
]

/** Any name that Postgres takes whole, quoted. `public` is everybody, quoted or not. */
const roleName = (name: unknown, field: string): Result.Result<string, InvalidInput> => {
  const fail = (reason: string) => Result.fail(new InvalidInput({ field, reason }))
  if (typeof name !== "string" || name === "") return fail("must be the name of a role")
  if (Buffer.byteLength(name) > 63) return fail("is more than the 63 bytes of a role's name")
  if (/\p{Cc}/u.test(name) || !name.isWellFormed()) {
    return fail("must not contain control characters or lone surrogates")
  }
  if (name === "public") return fail(`"public" is every role: name one`)
  return Result.succeed(quote(name))
}
