/**
 * Lengths of time as people write them, for sleeps, timeouts and windows of the promise API.
 *
 * The type is structural: no type of Effect shows in it. The result is a whole number of
 * milliseconds, rounded up (a sleep never ends early), from 0 to 100 years: beyond that, dates
 * leave what Postgres and JavaScript agree on. Months and years have no fixed length, so they are
 * refused.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import { InvalidInput } from "./FlowlyError.ts"

/**
 * Milliseconds, text (`"1h"`, `"30 seconds"`, `"1h 30m"`, `"500ms"`), or parts that are added up.
 *
 * @category models
 * @since 0.1.0
 */
export type DurationInput =
  | number
  | string
  | {
      readonly weeks?: number
      readonly days?: number
      readonly hours?: number
      readonly minutes?: number
      readonly seconds?: number
      readonly milliseconds?: number
    }

/**
 * The longest duration: 100 years of 365.25 days.
 *
 * @category limits
 * @since 0.1.0
 */
export const maxMillis = 36_525 * 86_400_000

/**
 * What is wrong with a time limit; `null`: nothing. One of NaN would never be reached.
 *
 * @category limits
 * @since 0.1.0
 */
export const limitMistake = (ms: number | null, field: string): InvalidInput | null => {
  if (ms === null || (ms > 0 && ms <= maxMillis)) return null
  return new InvalidInput({ field, reason: "must be more than zero, and at most a hundred years" })
}

/**
 * The duration in whole milliseconds. `field` names the argument in the error message.
 *
 * @category conversions
 * @since 0.1.0
 */
export const toMillis = (
  input: DurationInput,
  field: string,
): Result.Result<number, InvalidInput> => {
  const parsed = parse(input)
  const problem = typeof parsed === "string" ? parsed : rangeProblem(parsed)
  if (problem !== undefined) return Result.fail(new InvalidInput({ field, reason: problem }))
  return Result.succeed(wholeMillis(parsed as number))
}

const units = {
  milliseconds: { millis: 1, text: /^(ms|msecs?|millis?|milliseconds?)$/i },
  seconds: { millis: 1000, text: /^(s|secs?|seconds?)$/i },
  minutes: { millis: 60_000, text: /^(m|mins?|minutes?)$/i },
  hours: { millis: 3_600_000, text: /^(h|hrs?|hours?)$/i },
  days: { millis: 86_400_000, text: /^(d|days?)$/i },
  weeks: { millis: 604_800_000, text: /^(w|wks?|weeks?)$/i },
} as const

type Unit = keyof typeof units
const unitNames = Object.keys(units) as Array<Unit>

const forms = 'milliseconds, "1h 30m", or { hours: 1, minutes: 30 }'

/** Milliseconds, or what is wrong with the input. */
const parse = (input: unknown): number | string => {
  if (typeof input === "number") return input
  if (typeof input === "string") return parseText(input)
  if (typeof input === "object" && input !== null) return parseParts(input)
  return `${show(input)} is not a duration: write ${forms}`
}

// One sign is read so that "-5s" is told to be negative, not to be unreadable.
const partOfText = /([+-]?(?:\d+(?:\.\d+)?|\.\d+))\s*([a-zµμ]+)[\s,]*/iy

const parseText = (input: string): number | string => {
  const text = input.trim()
  if (text === "") return `an empty text is not a duration: write ${forms}`
  if (text.length > 100) return `a duration of ${text.length} characters cannot be meant`
  if (/^[+-]?[\d.]+$/.test(text)) {
    return `"${text}" has no unit: write "${text}ms" or "${text}s", or a number of milliseconds`
  }
  const seen = new Set<Unit>()
  let total = 0
  let rest = 0
  while (rest < text.length) {
    partOfText.lastIndex = rest
    const match = partOfText.exec(text)
    if (match === null) return `"${text}" is not a duration: write ${forms}`
    const unit = unitNames.find((name) => units[name].text.test(match[2]!))
    if (unit === undefined) return unitProblem(text, match[2]!)
    if (seen.has(unit)) return `"${text}" names ${unit} twice: write each unit once`
    if (match[1]!.startsWith("-")) return negative(`"${text}"`)
    seen.add(unit)
    total += Number(match[1]) * units[unit].millis
    rest = partOfText.lastIndex
  }
  return total
}

const parseParts = (input: object): number | string => {
  if (input instanceof Date) return "a Date is not a duration: to wait until a date use sleepUntil"
  const parts = Object.entries(input).filter(([, value]) => value !== undefined)
  if (parts.length === 0) return `${show(input)} holds no time: write ${forms}`
  let total = 0
  for (const [name, value] of parts) {
    if (!Object.hasOwn(units, name)) {
      return `"${name}" is not a unit of time: use ${unitNames.toReversed().join(", ")}`
    }
    if (typeof value !== "number" || Number.isNaN(value)) {
      return `${name} must be a number, and is ${show(value)}`
    }
    if (value < 0) return negative(`${name}: ${value}`)
    total += value * units[name as Unit].millis
  }
  return total
}

const unitProblem = (text: string, unit: string): string =>
  /^(mo|mon|mons|months?|y|yrs?|years?)$/i.test(unit)
    ? `"${text}": months and years have no fixed length: write days, or use sleepUntil with a date`
    : `"${text}": "${unit}" is not a unit of time: use w, d, h, m, s or ms`

const rangeProblem = (millis: number): string | undefined => {
  if (Number.isNaN(millis)) return `NaN is not a duration: write ${forms}`
  if (millis < 0) return negative(`${millis}`)
  if (millis === Infinity) {
    return "a duration must end: to wait without limit, leave the time out or wait for an event"
  }
  if (millis > maxMillis) return "a duration of more than 100 years is not supported: write less"
  return undefined
}

const negative = (text: string): string =>
  `${text} is negative, and time does not run back: write 0 or more`

/** Rounded up, but not for the noise of floating point (1.1 hours are 3960000.0000000005 ms). */
const wholeMillis = (millis: number): number => {
  const nearest = Math.round(millis)
  return Math.abs(millis - nearest) < 1e-3 ? nearest : Math.ceil(millis)
}

const show = (value: unknown): string => {
  if (typeof value === "string") return JSON.stringify(value.slice(0, 50))
  if (value === null || typeof value !== "object") return String(value)
  return Array.isArray(value) ? "an array" : "an object"
}
