import { runInNewContext } from "node:vm"
import * as Result from "effect/Result"
import { describe, expect, it } from "vitest"
import { check, checkStatus } from "../src/Attributes.ts"

const refusal = (value: unknown) => {
  const result = check(value, "attributes")
  return Result.isFailure(result) ? result.failure.field : "taken"
}

describe("attributes", () => {
  it("are text, numbers and booleans; those that are undefined are left out", () => {
    const given = { text: "", half: 0.5, no: false, none: undefined }
    const taken = Result.getOrThrow(check(given, "attributes"))
    expect(Object.entries(taken)).toEqual([
      ["text", ""],
      ["half", 0.5],
      ["no", false],
    ])
  })

  it("are at most 64, with names and texts of at most 255 characters", () => {
    const many = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, n) => [`a${n}`, n]))
    const long = (length: number) => "x".repeat(length)
    expect([refusal(many(64)), refusal(many(65))]).toEqual(["taken", "attributes"])
    expect([refusal({ [long(255)]: 1 }), refusal({ [long(256)]: 1 })]).toEqual([
      "taken",
      "attributes",
    ])
    expect([refusal({ a: long(255) }), refusal({ a: long(256) })]).toEqual([
      "taken",
      "attributes.a",
    ])
  })

  it("hold nothing that Postgres cannot store, and no number that is none", () => {
    for (const text of ["a\0b", "\uD800"]) {
      expect([refusal({ a: text }), refusal({ [text]: 1 })]).toEqual(["attributes.a", "attributes"])
      expect(Result.isFailure(checkStatus(text))).toBe(true)
    }
    for (const value of [Number.NaN, Infinity, null, [], {}, 1n, () => 1]) {
      expect(refusal({ a: value })).toBe("attributes.a")
    }
    for (const value of [null, "a", [1]]) expect(refusal(value)).toBe("attributes")
  })

  it("are of a plain object, of any realm; what another one holds is not its properties", () => {
    class Order {
      total = 1
    }
    const others = [new Map([["a", 1]]), new Set(["a"]), new Date(0), new URL("a:b"), new Order()]
    for (const value of others) expect(refusal(value)).toBe("attributes")
    for (const text of ["({ a: 1 })", "Object.assign(Object.create(null), { a: 1 })"]) {
      expect(check(runInNewContext(text), "attributes")).toEqual(Result.succeed({ a: 1 }))
    }
  })
})
