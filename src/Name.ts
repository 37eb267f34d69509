/**
 * Names and keys: what they may be, in both APIs and every store.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import { InvalidInput } from "./FlowlyError.ts"

/**
 * What flowly's own events begin with: not for users.
 *
 * @category limits
 * @since 0.1.0
 */
export const reservedPrefix = "flowly:"

const maxNameLength = 255

/**
 * A name or key is text of 1 to 255 characters.
 *
 * @category guards
 * @since 0.1.0
 */
export const checkName = (value: unknown, field: string): Result.Result<string, InvalidInput> => {
  const fail = (reason: string) => Result.fail(new InvalidInput({ field, reason }))
  if (typeof value !== "string") return fail(`must be text, not ${typeof value}`)
  if (value.length === 0) return fail("must not be empty")
  if (value.length > maxNameLength) {
    return fail(`is ${value.length} characters, more than the limit of ${maxNameLength}`)
  }
  if (value.includes("\0") || !value.isWellFormed()) {
    return fail("must not contain NUL or lone surrogates, which Postgres cannot store")
  }
  return Result.succeed(value)
}

/**
 * The name of an event that users send and wait for, or the id of a sending.
 *
 * @category guards
 * @since 0.1.0
 */
export const checkEventName = (
  value: unknown,
  field = "event name",
): Result.Result<string, InvalidInput> =>
  Result.flatMap(checkName(value, field), (name) =>
    name.startsWith(reservedPrefix)
      ? Result.fail(new InvalidInput({ field, reason: `must not begin with "${reservedPrefix}"` }))
      : Result.succeed(name),
  )
