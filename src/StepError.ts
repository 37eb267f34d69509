/**
 * Errors by which a step decides about its own tries, whatever its retry policy says.
 *
 * They speak of the tries of the step that fails with them. What the body makes of the failure, and
 * whether the whole run gets another attempt (`maxAttempts`), is another matter.
 *
 * @since 0.1.0
 */
import { maxMillis } from "./DurationInput.ts"
import { InvalidInput } from "./FlowlyError.ts"

/**
 * The step fails at once: no further try helps.
 *
 * @category errors
 * @since 0.1.0
 */
export class NonRetryableError extends Error {
  override readonly name = "NonRetryableError"
}

/**
 * The next try must not begin before a time that somebody else has named, as in `Retry-After`. It
 * takes the place of the policy's delay, and `maxDelayMs` does not shorten it.
 *
 * @category errors
 * @since 0.1.0
 */
export class RetryAfterError extends Error {
  override readonly name = "RetryAfterError"
  /** From the failure on; `null` where a date was given. */
  readonly delayMs: number | null
  /** By the store's clock; `null` where a delay was given. */
  readonly date: Date | null

  constructor(
    message: string,
    options: { readonly cause?: unknown } & (
      | { readonly delayMs: number; readonly date?: undefined }
      | { readonly date: Date; readonly delayMs?: undefined }
    ),
  ) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause })
    const after = checkAfter(options?.date ?? options?.delayMs)
    this.delayMs = "delayMs" in after ? after.delayMs : null
    this.date = "at" in after ? new Date(after.at) : null
  }
}

/**
 * What an error says about further tries.
 *
 * @category models
 * @since 0.1.0
 */
export type Verdict = { readonly _tag: "NonRetryable" } | ({ readonly _tag: "RetryAfter" } & After)

type After = { readonly delayMs: number } | { readonly at: number }

const verdicts = new WeakMap<object, Verdict>()

/**
 * What this error says about further tries, by its class or by a mark; `null`: nothing.
 *
 * @category guards
 * @since 0.1.0
 */
export const verdictOf = (error: unknown): Verdict | null => {
  if (typeof error !== "object" || error === null) return null
  if (error instanceof NonRetryableError) return { _tag: "NonRetryable" }
  if (error instanceof RetryAfterError) {
    const { date, delayMs } = error
    const after = date === null ? { delayMs: delayMs ?? 0 } : { at: date.getTime() }
    return { _tag: "RetryAfter", ...after }
  }
  return verdicts.get(error) ?? null
}

/**
 * Marks an error of any class: the step that fails with it is not tried again.
 *
 * @category constructors
 * @since 0.1.0
 */
export const markNonRetryable = <E extends object>(error: E): E => {
  verdicts.set(error, { _tag: "NonRetryable" })
  return error
}

/**
 * Marks an error of any class: the next try begins after so many milliseconds, or at the date.
 *
 * @category constructors
 * @since 0.1.0
 */
export const markRetryAfter = <E extends object>(error: E, after: number | Date): E => {
  verdicts.set(error, { _tag: "RetryAfter", ...checkAfter(after) })
  return error
}

const checkAfter = (after: unknown): After => {
  if (after instanceof Date) {
    const at = after.getTime()
    if (!Number.isNaN(at)) return { at }
  } else if (typeof after === "number" && after >= 0 && after <= maxMillis) {
    return { delayMs: after }
  }
  throw new InvalidInput({
    field: "RetryAfterError",
    reason: "needs a valid date, or milliseconds from 0 to 100 years",
  })
}
