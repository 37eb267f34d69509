/**
 * Classes of errors that come back as themselves: registered with the engine, matched by name.
 *
 * What is stored of an error is data, and data revives no code: only a class in the list is ever
 * used, and it is found in a Map, never as a property. Its constructor is not called, for its
 * parameters are nobody's to guess: the error gets the prototype of the class. A class whose instances are
 * more than their own properties (private fields) has a static `fromStored`.
 */
import * as Context from "effect/Context"
import type { Revive } from "../ErrorPayload.ts"
import { NonRetryableError, RetryAfterError } from "../StepError.ts"
import { invalid } from "./FlowlyError.ts"

/**
 * A class of errors. `fromStored` is given the error as it was stored, a plain `Error` with name,
 * message, code, cause, stack and properties; what it answers must be an instance of the class.
 */
export interface ErrorClass {
  readonly name: string
  readonly prototype: Error
  readonly fromStored?: (stored: Error) => Error
}

/**
 * How a body's errors come back to it. Default: as plain errors.
 */
export const ErrorClasses: Context.Reference<Revive> = Context.Reference<Revive>(
  "flowly/promise/ErrorClasses",
  { defaultValue: () => (_, plain) => plain },
)

/** Known without being named: flowly's own. */
const own: ReadonlyArray<ErrorClass> = [NonRetryableError, RetryAfterError]

/**
 * Throws what is wrong with a list of classes.
 */
export const checkErrorClasses = (classes: unknown): void => {
  if (classes === undefined) return
  if (!Array.isArray(classes)) throw invalid("errors", "must be an array of classes of errors")
  const taken = new Map<string, unknown>()
  for (const [i, given] of (classes as ReadonlyArray<unknown>).entries()) {
    const field = `errors[${i}]`
    if (typeof given !== "function" || !(given.prototype instanceof Error)) {
      throw invalid(field, "must be a class that extends Error")
    }
    const { fromStored } = given as { readonly fromStored?: unknown }
    if (fromStored !== undefined && typeof fromStored !== "function") {
      throw invalid(field, `${given.name}.fromStored must be a function`)
    }
    const names = namesOf(given as unknown as ErrorClass)
    if (names.length === 0) throw invalid(field, "must have a name")
    for (const name of names) {
      if (taken.has(name)) throw invalid(field, `there are two classes of the name "${name}"`)
      taken.set(name, given)
    }
  }
}

/**
 * Gives errors of these classes back as instances.
 */
export const reviveErrors = (classes: ReadonlyArray<ErrorClass> = []): Revive => {
  const byName = new Map<string, ErrorClass>()
  for (const one of [...own, ...classes]) for (const name of namesOf(one)) byName.set(name, one)
  return (stored, plain) => {
    const found =
      (stored.class === undefined ? undefined : byName.get(stored.class)) ?? byName.get(stored.name)
    if (found === undefined) return plain
    return fromStored(found, plain) ?? Object.setPrototypeOf(plain, found.prototype)
  }
}

/** What the class makes of it; `null` where it makes nothing of its own kind. */
const fromStored = (found: ErrorClass, plain: Error): Error | null => {
  if (typeof found.fromStored !== "function") return null
  try {
    const made: unknown = found.fromStored(plain)
    return found.prototype.isPrototypeOf(made as object) ? (made as Error) : null
  } catch {
    return null
  }
}

/** The class's own name, and the one that its prototype gives to its errors. */
const namesOf = ({ name, prototype }: ErrorClass): ReadonlyArray<string> => {
  const given = Object.hasOwn(prototype, "name") ? prototype.name : ""
  const names = [name, given].filter((one) => typeof one === "string" && one !== "")
  return [...new Set(names)]
}
