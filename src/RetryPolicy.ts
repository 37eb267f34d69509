/**
 * Retry policies are data: how often to try, and how long to wait between tries.
 *
 * A policy must be storable and comparable, so that a backoff can outlive the process that began
 * it; which failures are worth a retry is a function beside it (`retryIf`), evaluated at once.
 *
 * @since 0.1.0
 */

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
