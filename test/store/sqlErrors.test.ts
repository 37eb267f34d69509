/** What a driver's error means: by its SQLSTATE, and by what is known of its sending where it has none. */
import { describe, expect, it } from "vitest"
import { toSqlError } from "../../src/postgres/pgPool.ts"
import { faultOf, toStoreError } from "../../src/postgres/sqlErrors.ts"

const withCode = (code: string) => Object.assign(new Error("told"), { code })

const meaning = (cause: unknown, effects: "reads" | "writes" = "writes", operation = "query") => {
  const error = toStoreError("verb", effects, toSqlError(cause, operation))
  return error._tag === "StoreUnavailable" ? error.outcome : "rejected"
}

describe("an error of a statement that writes", () => {
  it.each([
    ["unknown", ["08006", "40003", "57P01", "57P02", "ECONNRESET", "EPIPE", "EPERM"]],
    ["not-applied", ["53100", "57P03", "57014", "57P05", "25P03", "25P04", "25006"]],
    ["not-applied", ["40001", "40P01", "55P03", "26000"]],
    ["rejected", ["23505", "22021", "42P01", "42501", "25P02"]],
  ] as const)("is %s with %j", (outcome, codes) => {
    expect(codes.map((code) => [code, meaning(withCode(code))])).toEqual(
      codes.map((code) => [code, outcome]),
    )
  })

  it("is not applied where it only read, or was never sent", () => {
    expect(meaning(withCode("ECONNRESET"), "reads")).toBe("not-applied")
    expect(meaning(withCode("57P01"), "reads")).toBe("not-applied")
    expect(meaning(withCode("ECONNREFUSED"), "writes", "acquireConnection")).toBe("not-applied")
    expect(meaning(withCode("57P01"), "writes", "connect")).toBe("not-applied")
  })

  it("is rejected where the driver could not encode a value", () => {
    expect(meaning({ _tag: "PgTypesCodecError", message: "no int4" })).toBe("rejected")
  })
})

describe("the fault of a step's error", () => {
  const within = (error: unknown, depth: number): unknown =>
    depth === 0 ? error : new Error("wrapped", { cause: within(error, depth - 1) })

  it("is found in its causes, as deep as wrappers go", () => {
    expect(faultOf(within(withCode("40001"), 5))).toBe("serialization")
    expect(faultOf(within(withCode("40P01"), 0))).toBe("serialization")
    expect(faultOf(within(withCode("57P02"), 3))).toBe("unavailable")
    expect(faultOf(within(new Error("Connection terminated unexpectedly"), 2))).toBe("unavailable")
    expect(faultOf(within(withCode("23505"), 1))).toBeNull()
    expect(faultOf("a text")).toBeNull()
  })
})
