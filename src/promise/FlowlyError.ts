/**
 * The one error class of the promise API.
 *
 * `code` is the tag of the error underneath (`IdempotencyConflict`, `StoreUnavailable` …), `details`
 * its fields: the ids it speaks of, the limit that was passed, whether the outcome is unknown.
 */
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import { decodeError, type Revive, type StoredError } from "../ErrorPayload.ts"
import * as tagged from "../FlowlyError.ts"

/**
 * What flowly's promises reject with.
 */
export class FlowlyError extends Error {
  override readonly name = "FlowlyError"
  readonly code: string
  /** The same call may succeed later. */
  readonly retryable: boolean
  readonly details: Readonly<Record<string, unknown>>

  constructor(
    code: string,
    message: string,
    options?: {
      readonly retryable?: boolean
      readonly details?: Readonly<Record<string, unknown>>
      readonly cause?: unknown
    },
  ) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.retryable = options?.retryable ?? false
    this.details = options?.details ?? {}
  }
}

/**
 * An error of flowly as a `FlowlyError`; anything else as it is.
 */
export const toFlowlyError = (error: unknown): unknown => {
  if (error instanceof FlowlyError || !(error instanceof Error)) return error
  const { _tag, name, code, retryable, details } = error as {
    readonly [K in "_tag" | "name" | "code" | "retryable" | "details"]?: unknown
  }
  if (typeof retryable !== "boolean") return error
  const { message, cause } = error
  // one that was stored, as a FlowlyError
  if (name === "FlowlyError" && typeof code === "string") {
    return new FlowlyError(code, message, { retryable, details: recordOf(details), cause })
  }
  if (typeof _tag !== "string" || !Object.hasOwn(tagged, _tag)) return error
  const fields = Object.entries(error).filter(([key]) => !notDetails.has(key))
  return new FlowlyError(_tag, message, { retryable, details: Object.fromEntries(fields), cause })
}

const notDetails = new Set(["_tag", "cause", "name", "message", "stack", "retryable"])

const recordOf = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null ? { ...value } : {}

/**
 * The error, or other thrown value, of a stored form, as the promise API shows it.
 */
export const errorOf = (stored: StoredError, revive?: Revive): unknown =>
  toFlowlyError(decodeError(stored, revive))

/**
 * The error for an argument that cannot be used.
 */
export const invalid = (field: string, reason: string): unknown =>
  toFlowlyError(new tagged.InvalidInput({ field, reason }))

/**
 * The value, or the error thrown.
 */
export const orThrow = <A>(result: Result.Result<A, unknown>): A => {
  if (Result.isFailure(result)) throw toFlowlyError(result.failure)
  return result.success
}

/**
 * The value of an effect that was run, or its error as a plain one.
 */
export const toPromise = async <A>(
  running: Exit.Exit<A, unknown> | Promise<Exit.Exit<A, unknown>>,
): Promise<A> => {
  const exit = await running
  if (Exit.isSuccess(exit)) return exit.value
  if (Cause.hasInterruptsOnly(exit.cause)) {
    throw new FlowlyError("EngineStopped", "the engine was stopped before this call had ended")
  }
  throw toFlowlyError(Cause.squash(exit.cause))
}
