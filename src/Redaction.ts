/**
 * Redaction: what an application takes out of the errors of its code before they are stored or logged.
 *
 * It owns the way through a stored error to every text that somebody's data may stand in. Whatever
 * kept an error is told the redacted one: the record, the body that catches it (the first time as on
 * replay), hooks, logs. Names, classes and tags are what code is matched by, and stay. A redaction
 * that throws, or answers no text, must not let the text through: nothing is left of it.
 *
 * @since 0.1.0
 */
import type { StoredError } from "./ErrorPayload.ts"

/**
 * Answers the text without what must not be kept. `field` says where it stood: `message`, `stack`,
 * `code`, or the path of a property (`details.card`), of a thrown value (`thrown.card`) or of a typed
 * failure (`fail.card`). Numbers are offered as text, and stay numbers unless they are changed.
 *
 * It may be given what it has answered before: a body may throw on what it caught.
 *
 * @category models
 * @since 0.1.0
 */
export type Redact = (text: string, field: string) => string

const failed = "[redaction failed]"

/** As many characters of a text that was cut are dropped: half a secret matches no pattern. */
const maxSecret = 1024
const cut = "… (cut)"
const maxText = 8192

/**
 * One text as the redaction leaves it.
 *
 * @category redacting
 * @since 0.1.0
 */
export const redactText = (redact: Redact, text: string, field: string): string => {
  try {
    const answer: unknown = redact(text, field)
    if (typeof answer !== "string") return failed
    const whole = text.endsWith(cut) ? answer.slice(0, -(maxSecret + cut.length)) + cut : answer
    return whole.slice(0, maxText).replaceAll("\0", "\uFFFD").toWellFormed()
  } catch {
    return failed
  }
}

/**
 * A stored error without what must not be stored: its causes and parts too. Never throws.
 *
 * @category redacting
 * @since 0.1.0
 */
export const redactError = (redact: Redact, stored: StoredError): StoredError => {
  const text = (value: string, field: string) => redactText(redact, value, field)
  const inner = (one: StoredError) => redactError(redact, one)
  const { message, code, stack, cause, errors, props, thrown, fail } = stored
  const kept = thrown === undefined ? null : redactThrown(redact, thrown)
  return {
    ...stored,
    message: kept === null ? text(message, "message") : kept.message,
    ...(code === undefined ? {} : { code: redactValue(redact, code, "code") as string | number }),
    ...(stack === undefined ? {} : { stack: text(stack, "stack") }),
    ...(cause === undefined ? {} : { cause: inner(cause) }),
    ...(errors === undefined ? {} : { errors: errors.map(inner) }),
    ...(props === undefined
      ? {}
      : { props: redactValue(redact, props, "") as Readonly<Record<string, unknown>> }),
    ...(kept === null ? {} : { thrown: { codec: "json" as const, json: kept.json } }),
    ...(fail === undefined ? {} : { fail: redactValue(redact, fail, "fail") }),
  }
}

/** Of plain JSON: what it is. Of anything else nobody knows where a secret may hide: what it was. */
const redactThrown = (
  redact: Redact,
  { codec, json }: NonNullable<StoredError["thrown"]>,
): { readonly message: string; readonly json: string } => {
  const value: unknown =
    codec === "json" ? redactValue(redact, JSON.parse(json), "thrown") : "a value that is not kept"
  const text = JSON.stringify(value)
  return { message: typeof value === "string" ? value : text.slice(0, 1000), json: text }
}

/** Plain JSON, each of its texts and numbers as the redaction leaves it. */
const redactValue = (redact: Redact, value: unknown, field: string): unknown => {
  if (typeof value === "string") {
    return field === "_tag" || field.endsWith("._tag") ? value : redactText(redact, value, field)
  }
  if (typeof value === "number") {
    const text = redactText(redact, String(value), field)
    return text === String(value) ? value : text
  }
  if (typeof value !== "object" || value === null) return value
  if (Array.isArray(value)) {
    return value.map((one, i) => redactValue(redact, one, `${field}[${i}]`))
  }
  const entries = Object.entries(value).map(([key, one]) => {
    const path = field === "" ? key : `${field}.${key}`
    return [key, redactValue(redact, one, path)] as const
  })
  // defines each key, also one named __proto__
  return Object.fromEntries(entries)
}
