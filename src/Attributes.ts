/**
 * What a run tells about itself: searchable attributes, and a text of its status.
 *
 * Both are write-only for the run's body, and kept beside the run's row, in a table that is written
 * only when they are used. The status text is stored as the attribute whose name is empty, which no
 * user can set otherwise.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import { InvalidInput } from "./FlowlyError.ts"
import { isRecord } from "./payload/plainJson.ts"

/**
 * The value of an attribute.
 *
 * @category models
 * @since 0.1.0
 */
export type AttributeValue = string | number | boolean

/**
 * Attributes of a run, by name.
 *
 * @category models
 * @since 0.1.0
 */
export type Attributes = Readonly<Record<string, AttributeValue>>

/**
 * The name under which the status text is stored.
 *
 * @category models
 * @since 0.1.0
 */
export const statusName = ""

// a name and a value must fit an index entry of Postgres, which holds 2,704 bytes
const maxLength = 255
const maxStatusLength = 1000
const maxAttributes = 64

const invalid = (field: string, reason: string) => Result.fail(new InvalidInput({ field, reason }))

const textProblem = (text: string, limit: number): string | undefined => {
  if (text.length > limit) return `is ${text.length} characters, more than the limit of ${limit}`
  if (text.includes("\0") || !text.isWellFormed()) {
    return "must not contain NUL or lone surrogates, which Postgres cannot store"
  }
  return undefined
}

/**
 * Attributes as they are stored: a flat object of text, finite numbers and booleans. Those that are
 * `undefined` are left out.
 *
 * @category guards
 * @since 0.1.0
 */
export const check = (value: unknown, field: string): Result.Result<Attributes, InvalidInput> => {
  if (typeof value !== "object" || value === null || !isRecord(value)) {
    return invalid(field, "must be a plain object of text, numbers and booleans")
  }
  const entries = Object.entries(value).filter(([, one]) => one !== undefined)
  if (entries.length > maxAttributes) {
    return invalid(
      field,
      `has ${entries.length} attributes, more than the limit of ${maxAttributes}`,
    )
  }
  for (const [name, one] of entries) {
    const at = `${field}.${name.slice(0, 80)}`
    if (name === statusName) return invalid(field, "an attribute must have a name")
    const inName = textProblem(name, maxLength)
    if (inName !== undefined) return invalid(field, `the name of an attribute ${inName}`)
    if (typeof one === "string") {
      const inValue = textProblem(one, maxLength)
      if (inValue !== undefined) return invalid(at, inValue)
    } else if (typeof one === "number") {
      if (!Number.isFinite(one)) return invalid(at, "must be a finite number")
    } else if (typeof one !== "boolean") {
      return invalid(at, `must be text, a number or a boolean, not ${typeof one}`)
    }
  }
  return Result.succeed(Object.fromEntries(entries) as Attributes)
}

/**
 * A status text as it is stored.
 *
 * @category guards
 * @since 0.1.0
 */
export const checkStatus = (text: unknown): Result.Result<string, InvalidInput> => {
  if (typeof text !== "string") return invalid("status text", `must be text, not ${typeof text}`)
  const problem = textProblem(text, maxStatusLength)
  return problem === undefined ? Result.succeed(text) : invalid("status text", problem)
}
