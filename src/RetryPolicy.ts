/**
 * Retry policies are data: how often to try, and how long to wait between tries.
 *
 * A policy must be storable and comparable, so that a backoff can outlive the process that began
 * it; which failures are worth a retry is a function beside it (`retryIf`), evaluated at once.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import { maxMillis } from "./DurationInput.ts"
import { InvalidInput } from "./FlowlyError.ts"

/**
 * A resolved policy. All delays are milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface RetryPolicy {
  /** Tries in all, the first included; 1 means no retry. */
  readonly maxAttempts: number
  readonly backoff: "exponential" | "linear" | "fixed"
  readonly initialDelayMs: number
  readonly maxDelayMs: number
  /** Growth per retry of an exponential backoff. */
  readonly factor: number
  /** Take a uniformly random part of the delay's second half away. */
  readonly jitter: boolean
}

/**
 * The most attempts that a run or a step may have.
 *
 * @category limits
 * @since 0.1.0
 */
export const mostAttempts = 1_000_000

/**
 * One try.
 *
 * @category constructors
 * @since 0.1.0
 */
export const none: RetryPolicy = {
  maxAttempts: 1,
  backoff: "exponential",
  initialDelayMs: 1000,
  maxDelayMs: 30_000,
  factor: 2,
  jitter: false,
}

/**
 * A policy from its parts; what is not given is the default (`maxAttempts` 1, exponential from
 * 1 s by a factor of 2, at most 30 s or the first delay if that is longer, no jitter).
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: {
  readonly [K in keyof RetryPolicy]?: RetryPolicy[K] | undefined
}) => ({
  maxAttempts: options.maxAttempts ?? none.maxAttempts,
  backoff: options.backoff ?? none.backoff,
  initialDelayMs: options.initialDelayMs ?? none.initialDelayMs,
  // a longer first delay is meant
  maxDelayMs:
    options.maxDelayMs ?? Math.max(none.maxDelayMs, options.initialDelayMs ?? none.initialDelayMs),
  factor: options.factor ?? none.factor,
  jitter: options.jitter ?? none.jitter,
})

/**
 * The policy from its parts, or the part that cannot be. `fieldOf` names one in the error.
 *
 * @category constructors
 * @since 0.1.0
 */
export const check = (
  options: Parameters<typeof make>[0],
  fieldOf: (name: string) => string,
): Result.Result<RetryPolicy, InvalidInput> => {
  const { maxAttempts, backoff, jitter } = options
  const invalid = (name: string, reason: string) =>
    Result.fail(new InvalidInput({ field: fieldOf(name), reason }))
  if (maxAttempts !== undefined && !isAttempts(maxAttempts)) {
    return invalid("maxAttempts", `must be a whole number from 1 to ${mostAttempts}`)
  }
  for (const name of ["initialDelayMs", "maxDelayMs", "factor"] as const) {
    const value = options[name]
    if (value !== undefined && !(Number.isFinite(value) && value >= 0 && value <= maxMillis)) {
      return invalid(name, "must be a finite number of at least 0")
    }
  }
  if (backoff !== undefined && !["exponential", "linear", "fixed"].includes(backoff)) {
    return invalid("backoff", 'must be "exponential", "linear" or "fixed"')
  }
  if (jitter !== undefined && typeof jitter !== "boolean") {
    return invalid("jitter", "must be true or false")
  }
  return Result.succeed(make(options))
}

/**
 * Whether a step or a run may have so many attempts.
 *
 * @category limits
 * @since 0.1.0
 */
export const isAttempts = (attempts: unknown): boolean =>
  Number.isInteger(attempts) && (attempts as number) >= 1 && (attempts as number) <= mostAttempts

/**
 * Exponential backoff, in the shape of `Schedule.exponential`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const exponential = (
  initialDelayMs: number,
  options: { readonly maxAttempts: number; readonly factor?: number; readonly maxDelayMs?: number },
): RetryPolicy => make({ ...options, backoff: "exponential", initialDelayMs })

/**
 * The same delay each time, in the shape of `Schedule.spaced`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const spaced = (delayMs: number, options: { readonly maxAttempts: number }): RetryPolicy =>
  make({ ...options, backoff: "fixed", initialDelayMs: delayMs, maxDelayMs: delayMs })

/**
 * Tries without a delay between them, in the shape of `Schedule.recurs`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const immediate = (maxAttempts: number): RetryPolicy =>
  make({ maxAttempts, backoff: "fixed", initialDelayMs: 0, maxDelayMs: 0 })

/**
 * The delay after the `attempt`-th try (from 1) failed, in milliseconds. `random` is in [0, 1).
 *
 * @category combinators
 * @since 0.1.0
 */
export const delayAfter = (policy: RetryPolicy, attempt: number, random: () => number): number => {
  const raw =
    policy.backoff === "fixed"
      ? policy.initialDelayMs
      : policy.backoff === "linear"
        ? policy.initialDelayMs * attempt
        : policy.initialDelayMs * Math.pow(policy.factor, attempt - 1)
  const capped = Math.min(raw, policy.maxDelayMs)
  return Math.round(policy.jitter ? capped * (1 - random() / 2) : capped)
}
