import { inspect, isDeepStrictEqual } from "node:util"
import * as Result from "effect/Result"
import fc from "fast-check"
import { assert, describe, it } from "vitest"
import { diceOf } from "./support/dice.ts"
import { type CronRule, latestAtOrBefore, next, parse } from "../src/Cron.ts"
import { InvalidInput } from "../src/FlowlyError.ts"

const rule = (expression: string, timeZone?: string): CronRule =>
  Result.getOrThrow(parse(expression, timeZone))
const refusal = (expression: string, timeZone?: string): InvalidInput =>
  Result.getOrThrow(Result.flip(parse(expression, timeZone)))

const ticksBetween = (cron: CronRule, from: number, until: number): ReadonlyArray<number> => {
  const ticks: Array<number> = []
  for (;;) {
    const tick = next(cron, new Date(ticks.at(-1) ?? from)).getTime()
    if (tick > until) return ticks
    assert.isAbove(tick, ticks.at(-1) ?? from, "next is strictly later")
    ticks.push(tick)
  }
}

/** The next ticks in UTC, `MM-DDTHH:MM`. */
const ticks = (expression: string, timeZone: string, from: string, count: number) => {
  const cron = rule(expression, timeZone)
  const found: Array<Date> = []
  while (found.length < count) found.push(next(cron, found.at(-1) ?? new Date(from)))
  return found.map((date) => date.toISOString().slice(5, 16)).join(" ")
}

// The oracle: says minute by minute what a rule means, with nothing but Intl. Slow, and plain.

const formats = new Map<string, Intl.DateTimeFormat>()
/** The wall clock of an instant, as if it were UTC. */
const wallClock = (instant: number, timeZone: string): number => {
  const format =
    formats.get(timeZone) ??
    new Intl.DateTimeFormat("sv", { timeZone, dateStyle: "short", timeStyle: "medium" })
  formats.set(timeZone, format)
  return Date.parse(`${format.format(instant).replace(" ", "T")}Z`)
}

const fieldMatches = (field: string, value: number, min: number, max: number): boolean =>
  field.split(",").some((part) => {
    const [range = "", step] = part.split("/")
    const [low = min, high = step === undefined ? low : max] =
      range === "*" ? [min, max] : range.split("-").map(Number)
    return value >= low && value <= high && (value - low) % Number(step ?? 1) === 0
  })

const wallMatches = (expression: string, wall: number): boolean => {
  const date = new Date(wall)
  const [minute = "", hour = "", day = "", month = "", weekday = ""] = expression.split(" ")
  const isDay = fieldMatches(day, date.getUTCDate(), 1, 31)
  const isWeekday = fieldMatches(weekday, date.getUTCDay(), 0, 6)
  const both = day.startsWith("*") || weekday.startsWith("*")
  return (
    fieldMatches(minute, date.getUTCMinutes(), 0, 59) &&
    fieldMatches(hour, date.getUTCHours(), 0, 23) &&
    fieldMatches(month, date.getUTCMonth() + 1, 1, 12) &&
    (both ? isDay && isWeekday : isDay || isWeekday)
  )
}

const [part = 1, parts = 1] = (process.env["FLOWLY_PART"] ?? "1/1").split("/").map(Number)

const minute = 60_000
const expectedTicks = (expression: string, timeZone: string, from: number, until: number) => {
  const isEveryHour = /^(\*|\*\/1|0-23)$/.test(expression.split(" ")[1]!)
  const margin = timeZone === "Pacific/Apia" ? 26 * 60 * minute : 150 * minute
  const found = new Set<number>()
  const instantsOfWall = new Map<number, number>()
  let previous = wallClock(from - margin - minute, timeZone)
  for (let instant = from - margin; instant <= until + margin; instant += minute) {
    const wall = wallClock(instant, timeZone)
    if (isEveryHour) {
      if (wallMatches(expression, wall)) found.add(instant)
      continue
    }
    // Wall clocks that were skipped, each late by the length of the gap.
    for (let skipped = previous + minute; skipped < wall; skipped += minute) {
      if (wallMatches(expression, skipped)) found.add(instant + (skipped - previous - minute))
    }
    // The first pass of a wall clock that is repeated.
    if (!instantsOfWall.has(wall)) {
      instantsOfWall.set(wall, instant)
      if (wallMatches(expression, wall)) found.add(instant)
    }
    previous = wall
  }
  return [...found].filter((tick) => tick > from && tick <= until).toSorted((a, b) => a - b)
}

/** Where the rule's ticks, asked for from several points and backwards, are not the oracle's. */
const disagreements = (expression: string, timeZone: string, from: number, until: number) => {
  const expected = expectedTicks(expression, timeZone, from, until)
  const cron = rule(expression, timeZone)
  const found: Array<string> = []
  const compare = (what: string, actual: unknown, wanted: unknown) => {
    if (isDeepStrictEqual(actual, wanted)) return
    found.push(`${expression} in ${timeZone}, ${what}: ${inspect(actual)}, not ${inspect(wanted)}`)
  }
  compare("all ticks", ticksBetween(cron, from, until), expected)
  for (let i = 0; i < 8; i++) {
    const at = from + Math.floor(((until - from) * i) / 8)
    const after = expected.find((tick) => tick > at)
    const latest = latestAtOrBefore(cron, new Date(at), new Date(from))?.getTime()
    compare(
      `latest at ${at}`,
      latest,
      expected.findLast((tick) => tick <= at),
    )
    if (after !== undefined) compare(`after ${at}`, next(cron, new Date(at)).getTime(), after)
  }
  return found
}

/** The first change of offset in the year after. */
const changeAfter = (start: number, zone: string): number | undefined => {
  const offset = (instant: number) => wallClock(instant, zone) - instant
  const day = 24 * 60 * minute
  for (let at = start; at < start + 366 * day; at += day) {
    if (offset(at) === offset(at + day)) continue
    let [low, high] = [at, at + day]
    while (high - low > minute) {
      const middle = low + Math.floor((high - low) / 2 / minute) * minute
      if (offset(middle) === offset(at)) low = middle
      else high = middle
    }
    return high
  }
  return undefined
}

const field = (min: number, max: number, star: fc.Arbitrary<string>) => {
  const value = fc.integer({ min, max })
  const range = fc.tuple(value, value).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`)
  return fc.oneof(
    star,
    value.map(String),
    range,
    range.map((text) => `${text}/2`),
  )
}

const utc = (text: string) => new Date(`${text}Z`)

const gap = Date.parse("2026-03-29T01:00:00Z") // Berlin: 02:00 becomes 03:00
const overlap = Date.parse("2026-10-25T01:00:00Z") // Berlin: 03:00 becomes 02:00

describe("a rule", () => {
  it.each<[string, string]>([
    ["0 9 * * 1", "01-05T09:00 01-12T09:00"],
    ["  0   9 * * mon ", "01-05T09:00 01-12T09:00"],
    ["30 14 1,15 JAN-feb *", "01-01T14:30 01-15T14:30"],
    ["*/20 0 * * *", "01-01T00:20 01-01T00:40"],
    ["5-59/25 * * * *", "01-01T00:05 01-01T00:30"],
    ["0 0 * * 7", "01-04T00:00 01-11T00:00"],
    ["0 0 * * SAT-SUN", "01-03T00:00 01-04T00:00"],
    ["0 0 * * MON-SUN", "01-02T00:00 01-03T00:00"],
    ["0 0 * * SUN-SUN", "01-04T00:00 01-11T00:00"],
    ["0 0 * * 5-7", "01-02T00:00 01-03T00:00"],
    ["0 0 29 2 *", "02-29T00:00 02-29T00:00"],
    ["@hourly", "01-01T01:00 01-01T02:00"],
    ["@daily", "01-02T00:00 01-03T00:00"],
    ["@Midnight", "01-02T00:00 01-03T00:00"],
    ["@weekly", "01-04T00:00 01-11T00:00"],
    ["@monthly", "02-01T00:00 03-01T00:00"],
    ["@yearly", "01-01T00:00 01-01T00:00"],
    ["@annually", "01-01T00:00 01-01T00:00"],
  ])("%s", (expression, expected) => {
    assert.strictEqual(ticks(expression, "UTC", "2026-01-01T00:00:00Z", 2), expected)
  })

  it("with six fields has seconds first", () => {
    const cron = rule("*/20 * * * * *")
    assert.deepStrictEqual(
      next(cron, new Date("2026-01-01T00:00:00.001Z")),
      new Date("2026-01-01T00:00:20Z"),
    )
  })

  it("is in UTC unless a zone is given", () => {
    assert.strictEqual(rule("0 9 * * *").timeZone, "UTC")
    assert.strictEqual(ticks("0 9 * * *", "Asia/Tokyo", "2026-01-01T00:00:00Z", 1), "01-02T00:00")
    assert.strictEqual(ticks("0 9 * * *", "+05:30", "2026-01-01T00:00:00Z", 1), "01-01T03:30")
  })

  it("with a day of month and a weekday needs either", () => {
    assert.strictEqual(
      ticks("0 0 13 * 5", "UTC", "2026-01-01T00:00:00Z", 4),
      "01-02T00:00 01-09T00:00 01-13T00:00 01-16T00:00",
    )
  })

  it("with a step from * among the two needs both", () => {
    assert.strictEqual(
      ticks("0 0 */10 * 1", "UTC", "2026-01-01T00:00:00Z", 2),
      "05-11T00:00 06-01T00:00",
    )
  })
})

describe("when clocks go forward", () => {
  it("every half hour stays every half hour", () => {
    assert.strictEqual(
      ticks("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 4),
      "03-29T00:30 03-29T01:00 03-29T01:30 03-29T02:00",
    )
  })

  it("a daily time that is skipped fires once, late by the gap", () => {
    assert.strictEqual(
      ticks("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3),
      "03-28T01:30 03-29T01:30 03-30T00:30",
    )
  })

  it("no time of the day is lost in a gap of half an hour", () => {
    // 02:10 becomes 02:40, and 02:35 is itself.
    assert.strictEqual(
      ticks("10,35 2 * * *", "Australia/Lord_Howe", "2026-10-03T15:00:00Z", 4),
      "10-03T15:35 10-03T15:40 10-04T15:10 10-04T15:35",
    )
  })

  it("midnight happens where it is skipped", () => {
    assert.strictEqual(
      ticks("0 0 * * *", "Africa/Cairo", "2026-04-23T00:00:00Z", 3),
      "04-23T22:00 04-24T21:00 04-25T21:00",
    )
  })

  it("a rare rule meets the gap from months away", () => {
    const from = "2026-01-01T00:00:00Z"
    assert.strictEqual(ticks("30 2 29 3 *", "Europe/Berlin", from, 1), "03-29T01:30")
    assert.strictEqual(ticks("*/30 * 24 4 *", "Africa/Cairo", from, 1), "04-23T22:00")
  })

  it("a day that a zone skips has no hours, but its daily tick", () => {
    const [from, until] = [Date.parse("2011-12-29T10:00:00Z"), Date.parse("2011-12-31T10:00:00Z")]
    assert.deepStrictEqual(disagreements("0 * * * *", "Pacific/Apia", from, until), [])
    assert.deepStrictEqual(disagreements("0 9 * * *", "Pacific/Apia", from, until), [])
  })
})

describe("when clocks go back", () => {
  it("every half hour stays every half hour", () => {
    assert.strictEqual(
      ticks("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 5),
      "10-25T00:00 10-25T00:30 10-25T01:00 10-25T01:30 10-25T02:00",
    )
  })

  it("a daily time that is repeated fires once, the first time", () => {
    assert.strictEqual(
      ticks("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
      "10-25T00:30 10-26T01:30",
    )
    // Asked from within the second pass.
    assert.strictEqual(
      ticks("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1),
      "10-26T01:30",
    )
  })

  it("every twelve hours is twice a day", () => {
    assert.strictEqual(
      ticks("0 */12 * * *", "America/Havana", "2026-10-31T20:00:00Z", 3),
      "11-01T04:00 11-01T17:00 11-02T05:00",
    )
  })
})

describe("what a rule means, minute by minute", () => {
  const expressions = [
    "* * * * *",
    "*/30 * * * *",
    "10,40 0-23 * * *",
    "*/20 * * * 0,6",
    "30 2 * * *",
    "*/15 2 * * *",
    "5,35 1-3 * * *",
    "0 */2 * * *",
    "0 0 * * *",
    "45 23,0 * * 0-3,5",
    "0,20 1,2 1,29 * 0",
  ]
  const zones = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]
  const changes: Readonly<Record<string, ReadonlyArray<number>>> = {
    "Europe/Berlin": [gap, overlap],
    "America/New_York": [Date.parse("2026-03-08T07:00Z"), Date.parse("2026-11-01T06:00Z")],
    "Australia/Lord_Howe": [Date.parse("2026-04-04T15:00Z"), Date.parse("2026-10-03T15:30Z")],
  }
  const cases = zones.flatMap((zone) =>
    expressions.map((expression) => [expression, zone] as const),
  )

  it.each(cases)("%s in %s", (expression, zone) => {
    for (const at of changes[zone]!) {
      assert.deepStrictEqual(
        disagreements(expression, zone, at - 150 * minute, at + 150 * minute),
        [],
      )
    }
  })

  // CRON_ZONES=all: every zone (FLOWLY_PART=1/4: of a part), each of its changes; by default one in twenty
  it("holds at each change of 2024 to 2030", { timeout: 1_200_000 }, (test) => {
    const all = Intl.supportedValuesOf("timeZone")
    const isAll = process.env["CRON_ZONES"] === "all"
    let changesSeen = 0
    for (const [n, zone] of all.entries()) {
      if (isAll ? n % parts !== part - 1 : n % 20 !== 0) continue
      let at = Date.parse("2024-01-01T00:00Z")
      while (at < Date.parse("2031-01-01T00:00Z")) {
        const change = changeAfter(at, zone)
        if (change === undefined) {
          at += 366 * 24 * 60 * minute
          continue
        }
        const expression = expressions[changesSeen++ % expressions.length]!
        assert.deepStrictEqual(
          disagreements(expression, zone, change - 130 * minute, change + 130 * minute),
          [],
        )
        at = change
      }
    }
    test.annotate(`${changesSeen} changes of ${Math.ceil(all.length / (isAll ? parts : 20))} zones`)
    assert.isAbove(changesSeen, 20)
  })

  it("holds in every zone, around its changes", () => {
    const zoneAndTime = fc.tuple(
      fc.constantFrom(...Intl.supportedValuesOf("timeZone")),
      fc.date({ min: new Date("2024-01-01Z"), max: new Date("2030-12-31Z"), noInvalidDate: true }),
    )
    fc.assert(
      fc.property(zoneAndTime, fc.constantFrom(...expressions), ([zone, date], expression) => {
        const start = Math.floor(date.getTime() / minute) * minute
        const at = changeAfter(start, zone) ?? start
        assert.deepStrictEqual(
          disagreements(expression, zone, at - 130 * minute, at + 130 * minute),
          [],
        )
      }),
      { numRuns: Number(process.env["CRON_RUNS"] ?? 25) },
    )
  })
})

/**
 * S12: `FLOWLY_ZONES=all` looks at each zone (tier T1, minutes; `FLOWLY_PART=1/4` at a part of them),
 * `FLOWLY_RULES` at so many rules.
 */
describe("each change of clocks from 2024 to 2030", { timeout: 280_000 }, () => {
  const all = Intl.supportedValuesOf("timeZone")
  const given = process.env["FLOWLY_ZONES"] ?? "20"
  const zones = all.filter((_, i) =>
    given === "all" ? i % parts === part - 1 : i % Math.ceil(all.length / Number(given)) === 0,
  )
  const rules = Number(process.env["FLOWLY_RULES"] ?? 2)
  const end = Date.parse("2031-01-01Z")

  it(`keeps the meaning of ${rules} rules in ${zones.length} zones`, () => {
    const dice = diceOf(Number(process.env["FLOWLY_SEED"] ?? 1))
    let changes = 0
    const wrong: Array<string> = []
    for (const zone of zones) {
      for (let from = Date.parse("2024-01-01Z"); from < end;) {
        const at = changeAfter(from, zone)
        if (at === undefined || at >= end) break
        changes++
        for (let n = 0; n < rules; n++) {
          // around midnight to four, where clocks change
          const minutes = dice.pick(["*", "*/30", "30", "0,45", "15-20", "59"])
          const hours = dice.pick(["*", "*/2", "0", "1", "2", "3", "1-3", "0-4/2"])
          const text = `${minutes} ${hours} * * ${dice.pick(["*", "*", "0", "1-6"])}`
          wrong.push(...disagreements(text, zone, at - 90 * minute, at + 90 * minute))
        }
        from = at + minute
      }
    }
    console.log(`${zones.length} zones, ${changes} changes, ${changes * rules} rules`)
    assert.deepStrictEqual(wrong, [])
    assert.isAbove(changes, zones.length)
  })
})

describe("any rule in any zone", () => {
  const star = fc.constant("*")
  const expression = fc
    .tuple(
      field(0, 59, fc.constantFrom("*", "*/7", "0")),
      field(0, 23, fc.constantFrom("*", "*/2", "*/12")),
      field(1, 28, star),
      field(1, 12, star),
      field(0, 7, star),
    )
    .map((fields) => fields.join(" "))

  it("has ticks that strictly increase, and soon", () => {
    fc.assert(
      fc.property(
        expression,
        fc.constantFrom(...Intl.supportedValuesOf("timeZone")),
        fc.date({
          min: new Date("1970-01-01Z"),
          max: new Date("2100-01-01Z"),
          noInvalidDate: true,
        }),
        (text, zone, date) => {
          const cron = rule(text, zone)
          const start = performance.now()
          let at = date
          for (let i = 0; i < 5; i++) {
            const tick = next(cron, at)
            assert.isAbove(tick.getTime(), at.getTime())
            assert.strictEqual(tick.getTime() % 1000, 0)
            at = tick
          }
          assert.deepStrictEqual(latestAtOrBefore(cron, at, date), at)
          assert.isBelow(performance.now() - start, 1000)
        },
      ),
      { numRuns: Number(process.env["CRON_RUNS"] ?? 60) },
    )
  })
})

describe("latestAtOrBefore", () => {
  it("is the newest tick of a long absence, at once", () => {
    const start = performance.now()
    const latest = latestAtOrBefore(
      rule("* * * * * *"),
      utc("2026-01-01T00:00:00.500"),
      utc("1990-01-01"),
    )
    assert.deepStrictEqual(latest, utc("2026-01-01T00:00:00"))
    assert.isBelow(performance.now() - start, 500)
  })

  it("may be now, and may not be since", () => {
    const daily = rule("0 9 * * *")
    const nine = utc("2026-01-05T09:00:00")
    assert.deepStrictEqual(latestAtOrBefore(daily, nine, utc("2026-01-01")), nine)
    const secondly = rule("* * * * * *")
    assert.deepStrictEqual(latestAtOrBefore(secondly, nine, new Date(nine.getTime() - 2000)), nine)
    assert.isNull(latestAtOrBefore(daily, new Date(nine.getTime() + 1000), nine))
    assert.isNull(latestAtOrBefore(daily, utc("2026-01-01T08:00"), utc("2026-01-01T00:00")))
    assert.isNull(latestAtOrBefore(daily, utc("2026-01-01"), utc("2026-02-01")))
  })

  it("is rare for a rare rule", () => {
    const leap = rule("0 0 29 2 *")
    assert.deepStrictEqual(
      latestAtOrBefore(leap, utc("2027-06-01"), utc("2001-01-01")),
      utc("2024-02-29"),
    )
  })
})

describe("what is refused", () => {
  it.each<[string, RegExp]>([
    ["", /it is empty: write five fields such as "0 9 \* \* 1"/],
    ["  \t ", /it is empty/],
    ["* * * *", /has 4 fields: write minute, hour, day of month, month and day of week/],
    ["0 0 0 1 1 * 2026", /has 7 fields \(years are not supported\)/],
    ["0 0 31 2 *", /never happens/],
    ["0 0 30 2 *", /never happens/],
    ["0 0 31 4,6,9,11 *", /never happens/],
    ["0 0 L * *", /"L" \(last\) is not supported: write "28-31"/],
    ["0 0 L-3 * *", /"L" \(last\)/],
    ["0 0 LW * *", /"L" \(last\)/],
    ["0 0 * * 5L", /"L" \(last\)/],
    ["0 0 15W * *", /"W" \(nearest weekday\) is not supported: write "1-5"/],
    ["0 0 * * 5#2", /"#" is not supported/],
    ["0 0 ? * *", /"\?" is not supported: write "\*"/],
    ["H * * * *", /"H" \(a hashed minute\)/],
    ["@reboot", /@reboot is not supported: trigger a run when you start/],
    ["@every 5m", /write "\*\/5 \* \* \* \*"/],
    ["@fortnightly", /is not known: use @hourly, @daily/],
    ["@constructor", /is not known/],
    ["60 * * * *", /"60" is wrong: expected a value between 0 and 59/],
    ["* 24 * * *", /between 0 and 23/],
    ["* * 0 * *", /between 1 and 31/],
    ["* * * 13 *", /between 1 and 12/],
    ["* * * * 8", /between 0 and 7/],
    ["*/0 * * * *", /step value to be greater than 0/],
    ["0 22-2 * * *", /the range "22-2" runs backwards: write two/],
    ["0 0 * * MONDAY", /"MONDAY" is wrong/],
    ["-1 * * * *", /"-1" is wrong/],
    ["1.5 * * * *", /"1.5" is wrong/],
    ["1e1 * * * *", /is wrong/],
    [`${"1,".repeat(300)}1 * * * *`, /too many/],
  ])("%s", (expression, reason) => {
    const error = refusal(expression)
    assert.instanceOf(error, InvalidInput)
    assert.strictEqual(error.field, "cron")
    assert.match(error.reason, reason)
  })

  it.each(["", "Berlin", "Europe/Nowhere", "local", "+25:00", "GMT+2", "../../etc"])(
    "the zone %o",
    (zone) => {
      const error = refusal("0 9 * * *", zone)
      assert.strictEqual(error.field, "timeZone")
      assert.match(error.reason, /is not a time zone: write an IANA name/)
    },
  )

  it("anything else without an exception", () => {
    const text = fc.oneof(
      fc.string(),
      fc
        .array(fc.stringMatching(/^[0-9*,/LW#?A-Za-z-]{0,6}$/), { minLength: 4, maxLength: 7 })
        .map((fields) => fields.join(" ")),
    )
    fc.assert(
      fc.property(text, (expression) => {
        const result = parse(expression)
        if (Result.isFailure(result)) assert.instanceOf(result.failure, InvalidInput)
        else assert.isAbove(next(result.success, utc("2026-01-01")).getTime(), 0)
      }),
    )
  })
})
