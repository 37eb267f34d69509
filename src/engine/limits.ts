/**
 * The limits of an engine: what its callers may put into the store, beyond what each value may be.
 *
 * What a worker limits of the runs that it executes is in `worker/options.ts`.
 */
import * as Result from "effect/Result"
import * as Cron from "../Cron.ts"
import { InvalidInput } from "../FlowlyError.ts"

/**
 * Limits of an engine.
 */
export interface EngineLimits {
  /** Events that wait in one run, taken by no wait. Default 10,000. */
  readonly maxPendingEvents: number
  /**
   * The least that lies between two ticks of a schedule, in milliseconds. Default 1000, which is what
   * a cron rule can say; raise it where others may write the rules. Schedules that stand go on.
   */
  readonly minTickDistanceMs: number
}

/** Of each limit: default, least, most. */
const bounds: Readonly<Record<keyof EngineLimits, readonly [number, number, number]>> = {
  maxPendingEvents: [10_000, 1, 2 ** 31 - 1],
  minTickDistanceMs: [1000, 1000, 2 ** 31 - 1],
}

/**
 * The limits with their defaults, or what is wrong with them.
 */
export const checkLimits = (given: unknown): Result.Result<EngineLimits, InvalidInput> => {
  if (
    given !== undefined &&
    (typeof given !== "object" || given === null || Array.isArray(given))
  ) {
    return fail("limits", "must be an object")
  }
  for (const name of Object.keys(given ?? {})) {
    if (!Object.hasOwn(bounds, name)) return fail(`limits.${name.slice(0, 80)}`, "is not known")
  }
  const limits: Record<string, number> = {}
  for (const [name, [or, least, most]] of Object.entries(bounds)) {
    const asked = (given as Partial<Record<string, unknown>> | undefined)?.[name]
    const value = asked === undefined ? or : asked
    if (
      !(typeof value === "number" && Number.isInteger(value) && value >= least && value <= most)
    ) {
      const shown = typeof value === "number" ? String(value) : typeof value
      const reason = `must be a whole number of at least ${least} and at most ${most}, not ${shown}`
      return fail(`limits.${name}`, reason)
    }
    limits[name] = value
  }
  return Result.succeed(limits as unknown as EngineLimits)
}

const fail = (field: string, reason: string): Result.Result<never, InvalidInput> =>
  Result.fail(new InvalidInput({ field, reason }))

/**
 * A rule whose ticks come no faster than they may.
 */
export const checkDistance = (
  rule: Cron.CronRule,
  { minTickDistanceMs }: EngineLimits,
): Result.Result<Cron.CronRule, InvalidInput> => {
  const distance = Cron.leastDistance(rule)
  if (distance >= minTickDistanceMs) return Result.succeed(rule)
  const reason =
    `"${rule.expression}" ticks every ${distance} ms, and ${minTickDistanceMs} ms is the least ` +
    `that may lie between two ticks (minTickDistanceMs)`
  return fail("cron", reason)
}
