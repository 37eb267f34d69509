/**
 * Cron rules: what they mean, which ones are refused, and when their ticks fall.
 *
 * Effect's `Cron` parses the fields and steps through the calendar, in wall-clock time without any
 * zone; this module alone maps wall clocks to instants. Effect's own mapping (4.1.0) is right but
 * for gaps, where it loses ticks: on 2026-10-04 "10,35 2 * * *" in Australia/Lord_Howe loses 02:35.
 *
 * When clocks change, what holds depends on the hour field:
 * - **every hour** (`*`, `0-23`, a step of 1): the rule follows real time. It fires at each instant
 *   whose local time matches: in both passes of a repeated hour, and not in a skipped one.
 * - **certain hours** (`2`, `9-17`, also a step such as every 6 hours): each local time fires once
 *   a day. In a repeated hour the first pass fires; a skipped time fires late by the length of the
 *   gap (02:30 at 03:30). So a daily job runs once a day, always.
 *
 * Day of month and day of week, both restricted: either is enough, as in classic cron; but where
 * one begins with `*` (a step from `*`) both must match, as in Vixie's. The default zone is UTC.
 * Invariant: `next` is strictly later than its argument, and no tick lies between the two.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import * as EffectCron from "effect/Cron"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { InvalidInput } from "./FlowlyError.ts"

/**
 * A rule that has been checked: it has a tick in the future of any date.
 *
 * @category models
 * @since 0.1.0
 */
export interface CronRule {
  /** As it was written, blanks made single. */
  readonly expression: string
  /** As it was written: an IANA name, or an offset such as `+02:00`. */
  readonly timeZone: string
  readonly zone: DateTime.TimeZone
  /** The rule over wall-clock time, as if that were UTC. */
  readonly wallClock: EffectCron.Cron
  readonly everyHour: boolean
}

/**
 * Parses five fields (minute, hour, day of month, month, day of week), six (seconds first), or a
 * name such as `@daily`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const parse = (
  expression: string,
  timeZone: string = "UTC",
): Result.Result<CronRule, InvalidInput> => {
  const text = String(expression).trim().replace(/\s+/g, " ")
  const problem = syntaxProblem(text)
  if (problem !== undefined) return invalid("cron", problem)
  const fields = fieldsOf(text)
  const parsed = EffectCron.parse(fields.join(" "), "UTC")
  if (Result.isFailure(parsed)) return invalid("cron", explain(text, parsed.failure))
  if (!hasTick(parsed.success)) {
    return invalid("cron", `"${text}" never happens: no month of it has such a day`)
  }
  if (String(timeZone).length > maxZone) {
    return invalid("timeZone", `is more than the ${maxZone} characters of a time zone's name`)
  }
  const zone = DateTime.zoneFromString(String(timeZone))
  if (Option.isNone(zone) || isImpossible(zone.value)) {
    return invalid(
      "timeZone",
      `"${timeZone}" is not a time zone: write an IANA name such as "Europe/Berlin", or "UTC"`,
    )
  }
  return Result.succeed({
    expression: text,
    timeZone: String(timeZone),
    zone: zone.value,
    wallClock: parsed.success,
    everyHour: parsed.success.hours.size === 0 || parsed.success.hours.size === 24,
  })
}

const maxZone = 64

/**
 * The first tick after a date.
 *
 * @category stepping
 * @since 0.1.0
 */
export const next = (rule: CronRule, after: Date): Date =>
  new Date(nextMillis(rule, after.getTime()))

/**
 * The newest tick that is later than `since` and not later than `now`; null when there is none.
 * What a schedule that was down needs to catch up: some 30 steps however many ticks were missed
 * (3 ms for ten years).
 *
 * @category stepping
 * @since 0.1.0
 */
export const latestAtOrBefore = (rule: CronRule, now: Date, since: Date): Date | null => {
  let newest = next(rule, since).getTime()
  let end = now.getTime()
  if (!(newest <= end)) return null
  // `newest` is a tick, and there is none in (end, now]. Ticks are whole seconds.
  while (end - newest >= 1000) {
    const middle = newest + Math.floor((end - newest) / 2)
    const tick = next(rule, new Date(middle)).getTime()
    if (tick <= now.getTime()) newest = tick
    else end = middle
  }
  return new Date(newest)
}

/**
 * The least that lies between two ticks by the wall clock, in milliseconds, at most a day. Days that
 * do not follow each other count as if they did.
 *
 * @category stepping
 * @since 0.1.0
 */
export const leastDistance = ({ wallClock }: CronRule): number => {
  const fields = [
    [wallClock.seconds, 60, 1],
    [wallClock.minutes, 60, 60],
    [wallClock.hours, 24, 3600],
  ] as const
  let least = 86_400
  /** From the first tick to the last one of a minute, an hour, a day: of the unit below. */
  let span = 0
  for (const [field, size, seconds] of fields) {
    const given = field.size === 0 ? Array.from({ length: size }, (_, i) => i) : [...field]
    const values = given.toSorted((a, b) => a - b)
    for (let i = 1; i < values.length; i++) {
      least = Math.min(least, (values[i]! - values[i - 1]!) * seconds - span)
    }
    span += (values.at(-1)! - values[0]!) * seconds
  }
  return Math.min(least, 86_400 - span) * 1000
}

const nextMillis = (rule: CronRule, after: number): number => {
  const change = changeNear(after, rule.zone)
  if (change === undefined) return fromWall(rule, after + offsetAt(after, rule.zone))
  // Around a change two lines map wall clocks to instants, the old offset and the new. Which wall
  // clocks are on which line is all the difference between the two kinds of rules.
  const { at, before, behind } = change
  const endOfOld = at + (rule.everyHour ? before : Math.max(before, behind))
  const startOfNew = at + (rule.everyHour ? behind : Math.max(before, behind))
  const old = nextWall(rule, after + before)
  const onOld = old < endOfOld ? old - before : Infinity
  const fresh = nextWall(rule, Math.max(after + behind, startOfNew - 1))
  const isNear = fresh < at + Math.max(before, behind)
  return Math.min(onOld, isNear ? fresh - behind : fromWall(rule, fresh - 1))
}

/** The first tick whose wall clock is later, where no change of offset is near before it. */
const fromWall = (rule: CronRule, after: number): number => {
  const wall = nextWall(rule, after)
  const [earlier, later] = [resolve(wall, rule.zone, "earlier"), resolve(wall, rule.zone, "later")]
  return earlier === later ? earlier : nextMillis(rule, earlier - 1)
}

const nextWall = (rule: CronRule, after: number): number =>
  EffectCron.next(rule.wallClock, after).getTime()

/** The instant of a wall clock. The two differ where it reads so twice, or never. */
const resolve = (wall: number, zone: DateTime.TimeZone, disambiguation: "earlier" | "later") =>
  DateTime.makeZonedUnsafe(wall, { timeZone: zone, adjustForTimeZone: true, disambiguation })
    .epochMilliseconds

const offsetAt = (instant: number, zone: DateTime.TimeZone): number =>
  DateTime.zonedOffset(DateTime.makeZonedUnsafe(instant, { timeZone: zone }))

interface Change {
  /** The first instant of the new offset. */
  readonly at: number
  /** The offsets in milliseconds, before the change and behind it. */
  readonly before: number
  readonly behind: number
}

/** The change of offset within 26 hours of an instant (the longest gap is a skipped day). */
const changeNear = (instant: number, zone: DateTime.TimeZone): Change | undefined => {
  if (zone._tag === "Offset" || zone.id === "UTC") return undefined
  const second = Math.floor(instant / 1000)
  const offset = (seconds: number) => offsetAt(seconds * 1000, zone)
  const [past, here, future] = [offset(second - reach), offset(second), offset(second + reach)]
  if (past === here && here === future) return undefined
  const [before, behind] = past === here ? [here, future] : [past, here]
  let [low, high] = past === here ? [second, second + reach] : [second - reach, second]
  while (high - low > 1) {
    const middle = low + Math.floor((high - low) / 2)
    if (offset(middle) === before) low = middle
    else high = middle
  }
  return { at: high * 1000, before, behind }
}

const reach = 26 * 3600 // seconds

const names: Readonly<Record<string, string>> = {
  "@hourly": "0 * * * *",
  "@daily": "0 0 * * *",
  "@midnight": "0 0 * * *",
  "@weekly": "0 0 * * 0",
  "@monthly": "0 0 1 * *",
  "@yearly": "0 0 1 1 *",
  "@annually": "0 0 1 1 *",
}

const fieldsOf = (text: string): ReadonlyArray<string> => {
  const fields = (names[text.toLowerCase()] ?? text).split(" ")
  const days = fields.at(-1)!
  // Sunday is 7 at the end of a range, so that MON-SUN is a week.
  const untilSunday = /(?<=^|,)(mon|tue|wed|thu|fri|sat|[1-6])-(sun|0)(?=$|[,/])/gi
  return [...fields.slice(0, -1), days.replace(untilSunday, "$1-7")]
}

const syntaxProblem = (text: string): string | undefined => {
  if (text === "") return `it is empty: write five fields such as "0 9 * * 1", or "@daily"`
  if (text.length > 256) return `${text.length} characters are too many for a cron expression`
  if (text.startsWith("@")) return nameProblem(text)
  const count = text.split(" ").length
  if (count < 5 || count > 6) {
    const years = count === 7 ? " (years are not supported)" : ""
    return (
      `"${text}" has ${count} ${count === 1 ? "field" : "fields"}${years}: write minute, hour, ` +
      `day of month, month and day of week ("30 9 * * 1-5"), with seconds before them if needed`
    )
  }
  return undefined
}

const nameProblem = (text: string): string | undefined => {
  if (Object.hasOwn(names, text.toLowerCase())) return undefined
  if (/^@reboot$/i.test(text)) return `@reboot is not supported: trigger a run when you start`
  if (/^@every\b/i.test(text)) return `@every is not supported: write "*/5 * * * *" for 5 minutes`
  return `"${text}" is not known: use ${Object.keys(names).join(", ")}, or five fields`
}

const unsupported: ReadonlyArray<readonly [field: RegExp, advice: string]> = [
  [/[?]/, `"?" is not supported: write "*"`],
  [/#/, `"#" is not supported: write the weekday, and check the day of the month in the run`],
  [
    /^([0-7]|sun|mon|tue|wed|thu|fri|sat)?L(-\d+|W)?$/i,
    `"L" (last) is not supported: write "28-31" as day of month, and check the date in the run`,
  ],
  [/^\d*W$/i, `"W" (nearest weekday) is not supported: write "1-5" as day of week`],
  [/^H\b/, `"H" (a hashed minute) is not supported: write a number`],
]

const explain = (text: string, error: EffectCron.CronParseError): string => {
  const field = error.input ?? text
  for (const [pattern, advice] of unsupported) {
    if (field.split(",").some((part) => pattern.test(part))) return `"${text}": ${advice}`
  }
  const range = /([a-z0-9]+)-([a-z0-9]+)/i.exec(field)
  if (range && error.message === "Invalid value range") {
    return `"${text}": the range "${range[0]}" runs backwards: write two, such as "22-23,0-5"`
  }
  return `"${text}": "${field}" is wrong: ${lowerFirst(error.message)}`
}

const lowerFirst = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1)

/** An offset that no place on earth has: Effect takes any. */
const isImpossible = (zone: DateTime.TimeZone): boolean =>
  zone._tag === "Offset" && Math.abs(zone.offset) > 14 * 3_600_000

/** Whether there is a tick at all: Effect gives up after 10,000 steps. */
const hasTick = (wallClock: EffectCron.Cron): boolean => {
  try {
    EffectCron.next(wallClock, new Date("2024-01-01T00:00:00Z"))
    return true
  } catch {
    return false
  }
}

const invalid = (field: string, reason: string): Result.Result<never, InvalidInput> =>
  Result.fail(new InvalidInput({ field, reason }))
