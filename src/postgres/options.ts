/**
 * What the store is told about its database, checked before any connection is made. No message shows
 * a url, which holds a password.
 *
 * @since 0.1.0
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { InvalidInput } from "../FlowlyError.ts"
import type { Options, UrlOptions } from "../PostgresStore.ts"
import { defaultSchema, makeNames, type Names } from "./names.ts"

/** What is used of the options, with defaults. */
export interface Checked {
  readonly names: Names
  readonly statementTimeoutMs: number
  readonly prepare: boolean
}

export const checkOptions = (options: Options): Result.Result<Checked, InvalidInput> =>
  Result.gen(function* () {
    const { schema = defaultSchema, statementTimeoutMs = 10_000, prepare = true } = options
    const names = yield* makeNames(schema)
    // beyond that, neither timers nor Postgres can count it
    if (!isWhole(statementTimeoutMs, 100, 86_400_000)) {
      const reason = "must be a whole number of milliseconds, from 100 to 86400000"
      return yield* invalid("statementTimeoutMs", reason)
    }
    if (typeof prepare !== "boolean") return yield* invalid("prepare", "must be true or false")
    return { names, statementTimeoutMs, prepare }
  })

export const checkUrlOptions = (options: UrlOptions): Result.Result<Checked, InvalidInput> =>
  Result.gen(function* () {
    const { maxConnections = 10, applicationName = "", startupParameters = {} } = options
    if (!isPostgresUrl(options.url)) {
      const reason = 'must be a connection string, like "postgres://user@host:5432/database"'
      return yield* invalid("url", reason)
    }
    if (!isWhole(maxConnections, 1, 10_000)) {
      return yield* invalid("maxConnections", "must be a whole number from 1 to 10000")
    }
    if (typeof applicationName !== "string" || !isPlain(applicationName, 63)) {
      return yield* invalid("applicationName", "must be at most 63 printable ASCII characters")
    }
    if (typeof startupParameters !== "object" || startupParameters === null) {
      return yield* invalid("startupParameters", "must be an object of text")
    }
    for (const [name, value] of Object.entries(startupParameters)) {
      const field = `startupParameters.${name.slice(0, 80)}`
      if (!/^[a-zA-Z_][\w.]{0,62}$/.test(name)) {
        return yield* invalid(field, "is no name of a parameter")
      }
      if (typeof value !== "string" || value.includes("\0") || value.length > 1000) {
        return yield* invalid(field, "must be text of at most 1000 characters, without NUL")
      }
    }
    return yield* checkOptions(options)
  })

const isPostgresUrl = (given: unknown): boolean => {
  const url: unknown = Redacted.isRedacted(given) ? Redacted.value(given) : given
  return typeof url === "string" && /^postgres(ql)?:$/.test(URL.parse(url)?.protocol ?? "")
}

const isWhole = (value: unknown, least: number, most: number): boolean =>
  typeof value === "number" && Number.isInteger(value) && value >= least && value <= most

/** As Postgres keeps names of applications: it would cut, or replace, the rest. */
const isPlain = (text: string, most: number): boolean =>
  text.length <= most && /^[\x20-\x7e]*$/.test(text)

const invalid = (field: string, reason: string): Result.Result<never, InvalidInput> =>
  Result.fail(new InvalidInput({ field, reason }))
