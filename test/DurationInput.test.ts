import * as Result from "effect/Result"
import fc from "fast-check"
import { assert, describe, it } from "vitest"
import { type DurationInput, maxMillis, toMillis } from "../src/DurationInput.ts"
import { InvalidInput } from "../src/FlowlyError.ts"

const millis = (input: unknown) =>
  Result.getOrThrow(toMillis(input as DurationInput, 'sleep "cooling-period"'))
const refusal = (input: unknown) =>
  Result.getOrThrow(Result.flip(toMillis(input as DurationInput, 'sleep "cooling-period"')))

describe("a duration", () => {
  it.each<[DurationInput, number]>([
    [0, 0],
    [1500, 1500],
    ["500ms", 500],
    ["1h", 3_600_000],
    ["30 seconds", 30_000],
    ["1 second", 1000],
    ["1h 30m", 5_400_000],
    ["1h30m", 5_400_000],
    ["1 hour, 30 minutes", 5_400_000],
    ["  2 Weeks 1D ", 15 * 86_400_000],
    ["1.5h", 5_400_000],
    [".5s", 500],
    ["90 min", 5_400_000],
    ["+5s", 5000],
    [{ seconds: 30 }, 30_000],
    [{ weeks: 1, days: 1, hours: 1, minutes: 1, seconds: 1, milliseconds: 1 }, 694_861_001],
    [{ hours: 0 }, 0],
    [maxMillis, maxMillis],
  ])("%o is %d ms", (input, expected) => {
    assert.strictEqual(millis(input), expected)
  })

  it("is rounded up to whole milliseconds, for a sleep never ends early", () => {
    assert.strictEqual(millis(0.2), 1)
    assert.strictEqual(millis("1.0001s"), 1001)
  })

  it("is not rounded up for the noise of floating point", () => {
    assert.notStrictEqual(1.1 * 3_600_000, 3_960_000)
    assert.strictEqual(millis("1.1h"), 3_960_000)
    assert.strictEqual(millis({ seconds: 4.35 }), 4350)
  })

  it("ignores parts that are undefined", () => {
    assert.strictEqual(millis({ hours: 1, minutes: undefined }), 3_600_000)
  })

  it("is the same as text and as parts", () => {
    const count = fc.nat({ max: 1000 })
    const parts = fc.record({ days: count, hours: count, minutes: count, seconds: count })
    fc.assert(
      fc.property(parts, (value) => {
        const text = Object.entries(value).map(([unit, n]) => `${n} ${unit}`)
        assert.strictEqual(millis(text.join(" ")), millis(value))
      }),
    )
  })
})

describe("what is no duration", () => {
  it.each<[unknown, RegExp]>([
    [-1, /-1 is negative/],
    [NaN, /NaN is not a duration: write milliseconds, "1h 30m", or \{ hours: 1/],
    [Infinity, /must end/],
    [-Infinity, /negative/],
    [maxMillis + 1, /more than 100 years/],
    ["101 years", /months and years have no fixed length/],
    ["2 months", /write days, or use sleepUntil/],
    ["40000 days", /more than 100 years/],
    ["", /an empty text/],
    ["   ", /an empty text/],
    ["30", /"30" has no unit: write "30ms" or "30s"/],
    ["-5s", /"-5s" is negative/],
    ["soon", /"soon" is not a duration: write/],
    ["1h and a bit", /is not a duration/],
    ["1e3s", /"e" is not a unit/],
    ["5 fortnights", /"fortnights" is not a unit of time: use w, d, h, m, s or ms/],
    ["1h 2h", /names hours twice/],
    ["PT1H", /is not a duration: write/],
    ["1".repeat(200), /200 characters/],
    [{}, /holds no time/],
    [{ hours: undefined }, /holds no time/],
    [{ hours: 1, minutes: -5 }, /minutes: -5 is negative/],
    [{ hours: NaN }, /hours must be a number, and is NaN/],
    [{ hours: "1" }, /hours must be a number, and is "1"/],
    [{ hours: Infinity }, /must end/],
    [{ hour: 1 }, /"hour" is not a unit of time: use weeks, days, hours/],
    [{ constructor: 1 }, /"constructor" is not a unit/],
    [new Date(), /use sleepUntil/],
    [[1, 2], /is not a unit/],
    [null, /null is not a duration/],
    [undefined, /undefined is not a duration/],
    [5n, /5 is not a duration/],
    [() => 1, /is not a duration/],
  ])("%o", (input, reason) => {
    const error = refusal(input)
    assert.instanceOf(error, InvalidInput)
    assert.strictEqual(error.field, 'sleep "cooling-period"')
    assert.match(error.reason, reason)
  })

  it("anything at all gives whole milliseconds or a typed error", () => {
    fc.assert(
      fc.property(fc.anything(), (input) => {
        const result = toMillis(input as DurationInput, "timeout")
        if (Result.isFailure(result)) return assert.instanceOf(result.failure, InvalidInput)
        assert.isTrue(Number.isSafeInteger(result.success) && result.success >= 0)
        assert.isAtMost(result.success, maxMillis)
      }),
    )
  })

  it("text of any length is read in linear time", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom("1", ".", " ", ",", "h", "-") }), (input) => {
        assert.isTrue(Result.isResult(toMillis(input, "timeout")))
      }),
    )
    assert.isTrue(Result.isFailure(toMillis("1".repeat(1e6), "timeout")))
    assert.isTrue(Result.isFailure(toMillis(" ".repeat(1e6) + "x", "timeout")))
  })
})
