import { describe, expect, it } from "vitest"
import { maxMillis } from "../src/DurationInput.ts"
import {
  markNonRetryable,
  markRetryAfter,
  NonRetryableError,
  RetryAfterError,
  verdictOf,
} from "../src/StepError.ts"

describe("an error that decides about further tries", () => {
  it("keeps its message and its cause", () => {
    const cause = new Error("503")
    expect(new RetryAfterError("busy", { delayMs: 5, cause })).toMatchObject({
      name: "RetryAfterError",
      message: "busy",
      cause,
      delayMs: 5,
      date: null,
    })
    expect(new NonRetryableError("no", { cause })).toMatchObject({
      name: "NonRetryableError",
      cause,
    })
    expect(Object.hasOwn(new RetryAfterError("busy", { delayMs: 5 }), "cause")).toBe(false)
  })

  it("says when the next try may begin: after a delay, or at a date", () => {
    const date = new Date(1000)
    expect(verdictOf(new RetryAfterError("busy", { delayMs: 0 }))).toEqual({
      _tag: "RetryAfter",
      delayMs: 0,
    })
    const dated = new RetryAfterError("busy", { date })
    expect(verdictOf(dated)).toEqual({ _tag: "RetryAfter", at: 1000 })
    expect([dated.delayMs, dated.date]).toEqual([null, date])
    expect(verdictOf(markRetryAfter({}, 7))).toEqual({ _tag: "RetryAfter", delayMs: 7 })
    expect(verdictOf(markRetryAfter({}, date))).toEqual({ _tag: "RetryAfter", at: 1000 })
  })

  it("may be of a class that extends flowly's, or bear a mark; others say nothing", () => {
    class Refused extends NonRetryableError {}
    class Busy extends RetryAfterError {}
    expect(verdictOf(new Refused("no"))).toEqual({ _tag: "NonRetryable" })
    expect(verdictOf(new Busy("busy", { delayMs: 3 }))).toMatchObject({ delayMs: 3 })
    expect(verdictOf(markNonRetryable(new TypeError("no")))).toEqual({ _tag: "NonRetryable" })
    for (const other of [new Error("x"), { name: "NonRetryableError" }, "no", null, undefined]) {
      expect(verdictOf(other)).toBeNull()
    }
  })

  it("takes no delay below zero or beyond a hundred years, and no date that is none", () => {
    for (const wrong of [-1, Number.NaN, Infinity, maxMillis + 1, new Date("never"), "5", null]) {
      const refused = expect.objectContaining({ _tag: "InvalidInput", field: "RetryAfterError" })
      expect(() => markRetryAfter({}, wrong as number)).toThrow(refused)
      expect(() => new RetryAfterError("busy", { delayMs: wrong as number })).toThrow(refused)
    }
    expect(verdictOf(markRetryAfter({}, maxMillis))).toMatchObject({ delayMs: maxMillis })
  })
})
