/**
 * Options are refused where they have a name that none has. One that is misspelt (`timezone`,
 * `idempotencykey`, `timeoutMs` of a wait) would be as if it were not there: the compiler finds it in
 * a literal, and nobody in plain JavaScript or in an object that was put together elsewhere.
 */
import { invalid } from "./FlowlyError.ts"

/** The names of the options of one kind: all of them, as the compiler sees to. */
export type Names<T> = Readonly<Record<T extends unknown ? keyof T : never, true>>

/**
 * Throws unless each option is one of `names`, or `undefined`. `fieldOf` names one in the error.
 */
export const checkKnown = (
  options: unknown,
  names: Readonly<Record<string, true>>,
  fieldOf: (name: string) => string,
): void => {
  if (options === undefined) return
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw invalid(fieldOf("options"), `must be an object with ${listed(names)}`)
  }
  for (const name in options) {
    if (Object.hasOwn(names, name)) continue
    if ((options as Readonly<Record<string, unknown>>)[name] === undefined) continue
    throw invalid(fieldOf(name.slice(0, 80)), `is not known: there is ${listed(names)}`)
  }
}

/** How an option of something is named. */
export const optionOf =
  (what: string): ((name: string) => string) =>
  (name) =>
    `${name} of ${what}`

const listed = (names: object): string => Object.keys(names).join(", ")
