/**
 * The stored form of whatever was thrown: bounded, plain JSON, readable in the database.
 *
 * Errors come back as `Error` (never as their class: stored data revives no code) with name,
 * message, code, tag, cause chain, stack and small plain properties; anything else that was thrown
 * comes back as itself where it can be stored, and as a description where it cannot.
 * `encodeError` never throws: a failure must be recorded even when its error is a trap. Everything
 * has a bound, and text that Postgres refuses (NUL, half surrogates) becomes U+FFFD.
 *
 * @since 0.1.0
 */
import { inspect } from "node:util"
import { plainJson } from "./payload/plainJson.ts"
import { decodeRich, encodeRich, isError } from "./payload/richJson.ts"

/**
 * What is kept of a thrown value. Either an error, or (`thrown`) any other value with its text.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoredError {
  readonly name: string
  /** Of its class, where that is another: most classes of errors do not set the name. */
  readonly class?: string
  readonly message: string
  readonly code?: string | number
  /** `_tag` of the error, for errors of Effect programs. */
  readonly tag?: string
  readonly stack?: string
  readonly cause?: StoredError
  /** The errors of an AggregateError. */
  readonly errors?: ReadonlyArray<StoredError>
  /** Other own properties of the error that are plain JSON and small. */
  readonly props?: Readonly<Record<string, unknown>>
  /** A thrown value that is not an error, as `Payload` stores values. */
  readonly thrown?: { readonly codec: "json" | "devalue"; readonly json: string }
  /** A typed failure of an Effect program, as its Schema encodes it. */
  readonly fail?: unknown
  /** The whole error, as a payload codec stored it; the rest is what may be known without it. */
  readonly coded?: { readonly codec: string; readonly json: string }
}

const maxText = 8192 // characters of one message
const maxStack = 8192 // characters of all stacks together
const maxProps = 4096 // characters of the other properties of one error
const maxThrown = 65_536 // characters of a thrown value that is no error
const maxCauses = 8 // length of a chain of causes
const maxErrors = 50 // errors in the whole tree

/**
 * The stored form of anything thrown. Never throws.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeError = (error: unknown): StoredError => {
  try {
    return store(error, { stackLeft: maxStack, errorsLeft: maxErrors, open: new Set() })
  } catch {
    return { name: "Error", message: "an error that could not be read" }
  }
}

/**
 * Makes of a decoded error what it was: may change the plain error, or answer another.
 *
 * @category decoding
 * @since 0.1.0
 */
export type Revive = (stored: StoredError, plain: Error) => Error

const asPlain: Revive = (_, plain) => plain

/** The class that a decoded error had, should it be stored again. */
const classes = new WeakMap<object, string>()

/**
 * The error, or other thrown value, of a stored form.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeError = (stored: StoredError, revive: Revive = asPlain): unknown => {
  if (stored.thrown !== undefined) return restoreThrown(stored.thrown, revive)
  const decode = (one: StoredError) => decodeError(one, revive)
  const error =
    stored.errors === undefined
      ? new Error(stored.message)
      : new AggregateError(stored.errors.map(decode), stored.message)
  hide(error, "name", stored.name)
  hide(error, "stack", stored.stack ?? `${stored.name}: ${stored.message}`)
  if (stored.cause !== undefined) hide(error, "cause", decode(stored.cause))
  if (stored.tag !== undefined) show(error, "_tag", stored.tag)
  if (stored.code !== undefined) show(error, "code", stored.code)
  for (const [key, value] of Object.entries(stored.props ?? {})) {
    if (key !== "__proto__") show(error, key, value)
  }
  if (stored.class !== undefined) classes.set(error, stored.class)
  return revive(stored, error)
}

/**
 * One line for logs and lists: `CardError [card_declined]: no funds, caused by Error: 402`.
 *
 * @category formatting
 * @since 0.1.0
 */
export const summarize = (stored: StoredError): string => {
  const parts: Array<string> = []
  for (let at: StoredError | undefined = stored; at && parts.length < 3; at = at.cause) {
    const code = at.code === undefined ? "" : ` [${at.code}]`
    parts.push(`${oneLine(at.name, 80)}${code}: ${oneLine(at.message, 200)}`)
  }
  return parts.join(", caused by ")
}

interface Budget {
  stackLeft: number
  errorsLeft: number
  /** The errors on the way down from the root: meeting one again is a cycle. */
  readonly open: Set<unknown>
}

const store = (value: unknown, budget: Budget): StoredError => {
  budget.errorsLeft--
  if (!attempt(() => isError(value), false)) return storeThrown(value, budget)
  const error = value as Error
  const code = storeCode(read(error, "code"))
  const tag = read(error, "_tag")
  const stack = storeStack(read(error, "stack"), budget)
  const props = storeProps(error)
  const name = cleanText(read(error, "name"), 256) || "Error"
  const ofClass = storeClass(error, name)
  budget.open.add(error)
  const nested = { ...storeCause(error, budget), ...storeErrors(error, budget) }
  budget.open.delete(error)
  return {
    name,
    ...(ofClass === undefined ? {} : { class: ofClass }),
    message: cleanText(read(error, "message"), maxText),
    ...(code === undefined ? {} : { code }),
    ...(typeof tag === "string" ? { tag: cleanText(tag, 256) } : {}),
    ...(stack === undefined ? {} : { stack }),
    ...(props === undefined ? {} : { props }),
    ...nested,
  }
}

const storeCause = (error: Error, budget: Budget): { cause?: StoredError } => {
  const cause = read(error, "cause")
  if (cause === undefined || budget.open.size > maxCauses || budget.errorsLeft <= 0) return {}
  return budget.open.has(cause) ? {} : { cause: store(cause, budget) }
}

const storeErrors = (error: Error, budget: Budget): { errors?: Array<StoredError> } => {
  const errors = read(error, "errors")
  if (!attempt(() => error instanceof AggregateError && Array.isArray(errors), false)) return {}
  const stored: Array<StoredError> = []
  for (let i = 0; i < (errors as Array<unknown>).length; i++) {
    if (budget.errorsLeft <= 0 || budget.open.size > maxCauses) break
    const item = (errors as Array<unknown>)[i]
    if (!budget.open.has(item)) stored.push(store(item, budget))
  }
  return { errors: stored }
}

const storeClass = (error: Error, name: string): string | undefined => {
  const known = classes.get(error)
  if (known !== undefined) return known
  const ofClass = attempt(() => error.constructor.name, "")
  if (typeof ofClass !== "string" || ofClass === "" || ofClass === "Error") return undefined
  return ofClass === name ? undefined : cleanText(ofClass, 256)
}

const storeCode = (code: unknown): string | number | undefined => {
  if (typeof code === "string") return cleanText(code, 256)
  return typeof code === "number" && Number.isFinite(code) ? code : undefined
}

const storeStack = (stack: unknown, budget: Budget): string | undefined => {
  if (typeof stack !== "string" || budget.stackLeft < 32) return undefined
  const text = cleanText(stack, budget.stackLeft)
  budget.stackLeft -= text.length
  return text
}

const ownFields = new Set(["name", "message", "stack", "cause", "errors", "code", "_tag"])

const storeProps = (error: Error): Readonly<Record<string, unknown>> | undefined => {
  const kept: Record<string, unknown> = {}
  let left = maxProps
  for (const key of attempt(() => Object.keys(error), []).slice(0, 64)) {
    if (ownFields.has(key) || key === "__proto__") continue
    const text = plainJson({ [key]: read(error, key) }, left)
    if (typeof text !== "string") continue
    left -= text.length
    Object.assign(kept, JSON.parse(text))
  }
  // Once more as a whole, for the order of keys that jsonb will give them on a later read.
  const text = plainJson(kept, maxProps * 2)
  return typeof text === "string" && text !== "{}" ? JSON.parse(text) : undefined
}

const storeThrown = (value: unknown, budget: Budget): StoredError => {
  const thrown = attempt((): StoredError["thrown"] => {
    const text = plainJson(value, maxThrown)
    if (typeof text === "string") return { codec: "json", json: text }
    if (typeof text === "number") return undefined
    const rich = encodeRich(value, (error) => storeInside(error, budget))
    return rich.length > maxThrown ? undefined : { codec: "devalue", json: JSON.stringify(rich) }
  }, undefined)
  const message = typeof value === "string" ? cleanText(value, maxText) : describe(value)
  return {
    name: "Thrown",
    message,
    thrown: thrown ?? { codec: "json", json: JSON.stringify(message) },
  }
}

/** An error inside a thrown value, which may lead back to one that is being stored. */
const storeInside = (error: Error, budget: Budget): StoredError =>
  budget.open.has(error) || budget.errorsLeft <= 0 || budget.open.size > maxCauses
    ? { name: "Error", message: cleanText(read(error, "message"), 256) }
    : store(error, budget)

const restoreThrown = (
  { codec, json }: NonNullable<StoredError["thrown"]>,
  revive: Revive,
): unknown =>
  codec === "json"
    ? JSON.parse(json)
    : decodeRich(JSON.parse(json), (stored) => decodeError(stored as StoredError, revive))

const describe = (value: unknown): string => {
  const options = {
    depth: 1,
    customInspect: false,
    maxArrayLength: 20,
    maxStringLength: 500,
    breakLength: Infinity,
  }
  return cleanText(
    attempt(() => inspect(value, options), `a ${typeof value} that could not be read`),
    1000,
  )
}

/** Storable text of at most `max` characters; the end of longer text says that it was cut. */
const cleanText = (value: unknown, max: number): string => {
  const text = typeof value === "string" ? value : attempt(() => String(value ?? ""), "")
  const fitting = text.length <= max ? text : `${text.slice(0, max - 16)}… (cut)`
  return fitting.replaceAll("\0", "\uFFFD").toWellFormed()
}

const oneLine = (text: string, max: number): string => {
  const line = text.replace(/[\s\p{Cc}]+/gu, " ").trim()
  return line.length <= max ? line : `${line.slice(0, max - 1).toWellFormed()}…`
}

const read = (target: object, key: string): unknown =>
  attempt(() => (target as Record<string, unknown>)[key], undefined)

const attempt = <A>(body: () => A, fallback: A): A => {
  try {
    return body()
  } catch {
    return fallback
  }
}

/** As the engine sets the fields of errors: not enumerable, so that they do not show as data. */
const hide = (error: Error, key: string, value: unknown): void => {
  Object.defineProperty(error, key, { value, configurable: true, writable: true })
}

const show = (error: Error, key: string, value: unknown): void => {
  Object.defineProperty(error, key, { value, configurable: true, writable: true, enumerable: true })
}
