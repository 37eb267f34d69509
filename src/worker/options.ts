/**
 * The options of a worker: their defaults, and within which bounds they are taken.
 *
 * Bounds are wide, and there for what no one means: what overflows its column, text where a number
 * belongs. Durations may be ages: tests jump over years, and must neither poll nor lose a lease.
 */
import * as Result from "effect/Result"
import type { ExecutionLimits } from "../engine/Execution.ts"
import { InvalidInput } from "../FlowlyError.ts"
import type { WorkerOptions } from "../Worker.ts"

/** Milliseconds that Postgres can still add to a date: 31,700 years. */
const ages = 1e15

const defaultLimits: ExecutionLimits = {
  divergenceGraceMs: 1000,
  parkGraceMs: 20,
  shortWaitMs: 1000,
  maxRecords: 50_000,
  maxFanOut: 10_000,
  maxHistoryBytes: 64 * 1_048_576,
  drainMs: 30_000,
}

/**
 * The options with their defaults, or what is wrong with them.
 */
export const checkOptions = (options: WorkerOptions) =>
  Result.gen(function* () {
    yield* record("worker", options)
    yield* record("worker.limits", options.limits === undefined ? {} : options.limits)
    return {
      pollIntervalMs: yield* whole("pollIntervalMs", options.pollIntervalMs, 1000, [10, ages]),
      maxConcurrent: yield* whole("maxConcurrent", options.maxConcurrent, 5, [1, 100_000]),
      leaseMs: yield* whole("leaseMs", options.leaseMs, 30_000, [1000, ages]),
      shutdownTimeoutMs: yield* whole("shutdownTimeoutMs", options.shutdownTimeoutMs, 30_000, [
        0,
        ages,
      ]),
      maxCrashes: yield* whole("maxCrashes", options.maxCrashes, 5, [1, 1_000_000]),
      label: yield* labelOf(options.workerId),
      useNotify: yield* truth("worker.useNotify", options.useNotify, true),
      limits: yield* limitsOf(options.limits ?? {}),
    }
  })

const limitsOf = (given: Partial<ExecutionLimits>) =>
  Result.gen(function* () {
    const limits: Record<string, number> = { ...defaultLimits }
    for (const [name, value] of Object.entries(given)) {
      if (!Object.hasOwn(defaultLimits, name)) {
        return yield* invalid(`worker.limits.${name.slice(0, 80)}`, "is not known")
      }
      const or = limits[name] ?? 0
      limits[name] = yield* whole(`limits.${name}`, value, or, [0, 2 ** 31 - 1])
    }
    return limits as unknown as ExecutionLimits
  })

const labelOf = (workerId: unknown): Result.Result<string, InvalidInput> => {
  const field = "worker.workerId"
  if (workerId === undefined) return Result.succeed(`pid-${process.pid}`)
  if (typeof workerId !== "string" || workerId.length > 255) {
    return invalid(field, "must be text of at most 255 characters")
  }
  return workerId.includes("\0") || !workerId.isWellFormed()
    ? invalid(field, "must not contain NUL or lone surrogates, which Postgres cannot store")
    : Result.succeed(workerId)
}

const whole = (
  field: string,
  value: unknown,
  or: number,
  [least, most]: readonly [number, number],
): Result.Result<number, InvalidInput> => {
  if (value === undefined) return Result.succeed(or)
  return typeof value === "number" && Number.isInteger(value) && value >= least && value <= most
    ? Result.succeed(value)
    : invalid(
        `worker.${field}`,
        `must be a whole number of at least ${least} and at most ${most}, not ${shown(value)}`,
      )
}

const truth = (
  field: string,
  value: unknown,
  or: boolean,
): Result.Result<boolean, InvalidInput> => {
  if (value === undefined) return Result.succeed(or)
  return typeof value === "boolean"
    ? Result.succeed(value)
    : invalid(field, `must be true or false, not ${shown(value)}`)
}

const record = (field: string, value: unknown): Result.Result<void, InvalidInput> =>
  typeof value === "object" && value !== null && !Array.isArray(value)
    ? Result.succeed(undefined)
    : invalid(field, `must be an object, not ${shown(value)}`)

/** Numbers are shown; what somebody took for one is not, for it may be anything. */
const shown = (value: unknown): string =>
  typeof value === "number" || value === null ? String(value) : typeof value

const invalid = (field: string, reason: string): Result.Result<never, InvalidInput> =>
  Result.fail(new InvalidInput({ field, reason }))
