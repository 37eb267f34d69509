import { readFileSync } from "node:fs"
import { inspect, isDeepStrictEqual } from "node:util"
import * as Schema from "effect/Schema"
import fc from "fast-check"
import { assert, describe, expect, it } from "vitest"
import { decodeError, encodeError, type StoredError, summarize } from "../src/ErrorPayload.ts"

/** As it comes back from a jsonb column. */
const throughJson = (stored: StoredError): StoredError => JSON.parse(JSON.stringify(stored))
const roundTrip = (error: unknown): unknown => decodeError(throughJson(encodeError(error)))
const size = (stored: StoredError) => JSON.stringify(stored).length
const explode = (): never => {
  throw new Error("trap")
}
function stop() {}
const thrownBy = (body: () => unknown): unknown => {
  try {
    return body()
  } catch (error) {
    return error
  }
}

describe("an error", () => {
  it("comes back with name, message, code, stack and cause", () => {
    const cause = Object.assign(new TypeError("refused"), { code: "ECONNREFUSED" })
    const error = Object.assign(new Error("no charge", { cause }), { code: 402 })
    const again = roundTrip(error) as typeof error
    assert.instanceOf(again, Error)
    assert.deepInclude(again, { name: "Error", message: "no charge", code: 402 })
    assert.strictEqual(again.stack, error.stack)
    assert.instanceOf(again.cause, Error)
    assert.deepInclude(again.cause as object, {
      name: "TypeError",
      message: "refused",
      code: "ECONNREFUSED",
    })
  })

  it("shows the fields that errors show, and hides those they hide", () => {
    const error = Object.assign(new RangeError("x", { cause: "y" }), { code: "E", limit: 5 })
    assert.deepStrictEqual(Object.keys(roundTrip(error) as Error), ["code", "limit"])
    assert.strictEqual(`${roundTrip(error)}`, "RangeError: x")
  })

  it("keeps its small plain properties, in one order", () => {
    const error = thrownBy(() => readFileSync("/does/not/exist"))
    assert.deepInclude(roundTrip(error), { code: "ENOENT", syscall: "open", errno: -2 })
    const props = encodeError(
      Object.assign(new Error("x"), { zz: 1, b: { y: 1, x: 2 }, a: 3 }),
    ).props
    assert.strictEqual(JSON.stringify(props), '{"a":3,"b":{"x":2,"y":1},"zz":1}')
  })

  it("drops properties that are large, or not plain", () => {
    const props = { config: { transform() {} }, at: new Date(), body: "x".repeat(5000), ok: true }
    assert.deepStrictEqual(encodeError(Object.assign(new Error("x"), props)).props, { ok: true })
  })

  it("takes no prototype from what is stored", () => {
    const stored = JSON.parse(
      '{"name":"E","message":"m","class":"__proto__","props":{"__proto__":{"bad":1},"ok":1}}',
    )
    const error = decodeError(stored) as Error
    assert.strictEqual(Object.getPrototypeOf(error), Error.prototype)
    assert.deepStrictEqual(Object.keys(error), ["ok"])
    assert.isUndefined(({} as { bad?: unknown }).bad)
  })

  it("keeps the errors of an AggregateError", () => {
    const again = roundTrip(new AggregateError([new TypeError("a"), "b"], "both")) as AggregateError
    assert.instanceOf(again, AggregateError)
    assert.strictEqual(again.message, "both")
    assert.strictEqual((again.errors[0] as Error).name, "TypeError")
    assert.strictEqual(again.errors[1], "b")
  })

  it("keeps the cause that several errors share, in each", () => {
    const cause = new Error("gone")
    const errors = [new Error("a", { cause }), new Error("b", { cause })]
    const again = roundTrip(new AggregateError(errors)) as AggregateError
    assert.deepStrictEqual(
      again.errors.map((error) => error.cause?.message),
      ["gone", "gone"],
    )
  })

  it("keeps its class, though it is stored again without it", () => {
    class CardError extends Error {}
    const stored = encodeError(new CardError("declined"))
    assert.deepInclude(stored, { name: "Error", class: "CardError" })
    assert.deepStrictEqual(encodeError(decodeError(stored)), stored)
  })

  it("keeps the tag of an Effect error", () => {
    class CardDeclined extends Schema.TaggedError<CardDeclined>()("CardDeclined", {
      reason: Schema.String,
    }) {}
    const stored = encodeError(new CardDeclined({ reason: "limit" }))
    assert.deepInclude(stored, { tag: "CardDeclined", props: { reason: "limit" } })
    assert.deepInclude(decodeError(stored), { _tag: "CardDeclined", reason: "limit" })
  })

  it("of the platform keeps its name", () => {
    const signal = AbortSignal.abort()
    assert.deepInclude(roundTrip(signal.reason), { name: "AbortError" })
    assert.instanceOf(roundTrip(signal.reason), Error)
  })

  it("is stable: storing what came back stores the same", () => {
    const error = Object.assign(new Error("x".repeat(20_000), { cause: new Error("y") }), { a: 1 })
    const stored = encodeError(error)
    assert.deepStrictEqual(encodeError(decodeError(throughJson(stored))), stored)
  })

  it("without a stack gets one that says what it is", () => {
    const stack = (decodeError({ name: "CardError", message: "no funds" }) as Error).stack
    assert.strictEqual(stack, "CardError: no funds")
  })

  it("revives no prototype from its properties", () => {
    const props = JSON.parse('{"__proto__":{"admin":true},"constructor":1}')
    const error = decodeError({ name: "Error", message: "x", props }) as { admin?: boolean }
    assert.instanceOf(error, Error)
    assert.isUndefined(error.admin)
    assert.isUndefined(({} as { admin?: boolean }).admin)
  })
})

describe("anything else that is thrown", () => {
  it.each<[string, unknown]>([
    ["a string", "boom"],
    ["an empty string", ""],
    ["undefined", undefined],
    ["null", null],
    ["a number", 42],
    ["NaN", NaN],
    ["a bigint", 1n],
    ["false", false],
    ["a plain object", { status: 404, body: { retry: false } }],
    ["an object with a name and a message", { name: "Error", message: "not one" }],
    ["an array", [1, 2]],
    ["a Date", new Date(0)],
    ["a Map", new Map([["a", 1]])],
  ])("comes back as itself: %s", (_, value) => {
    assert.isTrue(isDeepStrictEqual(roundTrip(value), value), inspect(roundTrip(value)))
  })

  it.each<[string, unknown, RegExp]>([
    ["a symbol", Symbol("stop"), /Symbol\(stop\)/],
    ["a function", stop, /\[Function: stop\]/],
    ["a promise", Promise.resolve(1), /Promise/],
    [
      "a class instance",
      new (class Money {
        cents = 5
      })(),
      /Money \{ cents: 5 \}/,
    ],
    ["a huge object", { text: "x".repeat(1e6) }, /^\{ text: 'xxx/],
    ["text with NUL", { text: "a\0b" }, /text: 'a\\x00b'/],
  ])("comes back as a description where it cannot be stored: %s", (_, value, description) => {
    const again = roundTrip(value)
    assert.isString(again)
    assert.match(again as string, description)
    assert.isAtMost((again as string).length, 1000)
  })

  it("is described without asking it to print itself", () => {
    class Token {
      [inspect.custom]() {
        return "secret"
      }
    }
    assert.match(roundTrip(new Token()) as string, /^Token/)
  })

  it("is told from an error with the same words", () => {
    assert.isString(roundTrip("Error: boom"))
    assert.instanceOf(roundTrip(new Error("boom")), Error)
  })
})

describe("bounds", () => {
  it("one message, all stacks and all properties have a limit", () => {
    let error: Error | undefined
    for (let i = 0; i < 30; i++) {
      error = new Error("m".repeat(1e6), { cause: error })
      error.stack = "s".repeat(1e6)
      for (let p = 0; p < 100; p++) Object.assign(error, { [`p${p}`]: "x".repeat(200) })
    }
    const stored = encodeError(error)
    const chain: Array<StoredError> = []
    for (let at: StoredError | undefined = stored; at; at = at.cause) chain.push(at)
    assert.strictEqual(chain.length, 9)
    assert.isAtMost(
      chain.reduce((sum, { stack }) => sum + (stack?.length ?? 0), 0),
      8192,
    )
    assert.isTrue(chain.every(({ message }) => message.length <= 8192))
    const props = chain.map((each) => JSON.stringify(each.props).length)
    assert.isTrue(props.every((length) => length > 3000 && length <= 4096))
    assert.match(stored.message, /… \(cut\)$/)
    assert.isBelow(size(stored), 150_000)
  })

  it("a name, a class, a code and a tag have a limit", () => {
    const long = "x".repeat(1e6)
    const Long = { [long]: class extends Error {} }[long]!
    const error = Object.assign(new Long("m"), { code: long, _tag: long })
    Object.defineProperty(error, "name", { value: `n${long}` })
    const stored = encodeError(error)
    for (const text of [stored.name, stored.class, stored.code, stored.tag]) {
      assert.match(String(text), /^n?x{200,255}… \(cut\)$/)
      assert.isAtMost(String(text).length, 256)
    }
    assert.isUndefined(encodeError(Object.assign(new Error("x"), { code: Infinity })).code)
  })

  it("what is thrown in place of an error has a limit, whatever it is", () => {
    const long = "x".repeat(1e6)
    for (const thrown of [long, { long }, { long, at: new Date(0) }, new Map([[long, 1]])]) {
      assert.isBelow(size(encodeError(thrown)), 20_000)
    }
  })

  it("a tree of errors has a limit", () => {
    const tree = (depth: number): Error =>
      depth === 0
        ? new Error("leaf")
        : new AggregateError(
            Array.from({ length: 10 }, () => tree(depth - 1)),
            "node",
          )
    assert.isBelow(size(encodeError(tree(4))), 50_000)
  })

  it("cycles end", () => {
    const self = new Error("self")
    self.cause = self
    assert.isUndefined(encodeError(self).cause)
    const a = new Error("a")
    const b = new Error("b", { cause: a })
    a.cause = b
    assert.isUndefined(encodeError(a).cause?.cause)
    const holder = new Error("holder")
    holder.cause = { error: holder, when: new Date(0) }
    const again = decodeError(encodeError(holder)) as { cause: { error: Error; when: Date } }
    assert.strictEqual(again.cause.error.message, "holder")
    assert.isUndefined(again.cause.error.cause)
    const all = new AggregateError([], "all")
    all.errors.push(all)
    assert.deepStrictEqual(encodeError(all).errors, [])
    assert.deepInclude(encodeError(Object.assign(new Error("x"), { self })), { message: "x" })
  })

  it("an endless chain made by a getter ends", () => {
    class Endless extends Error {
      override get cause(): unknown {
        return { inner: new Endless("again"), at: new Date(0) }
      }
    }
    assert.isBelow(size(encodeError(new Endless("first"))), 100_000)
  })
})

describe("encodeError never throws", () => {
  const everyTrap = new Proxy({}, { get: () => explode })
  const revoked = Proxy.revocable({}, {})
  revoked.revoke()

  it.each<[string, unknown]>([
    ["a proxy that throws always", new Proxy({}, everyTrap)],
    ["such a proxy of an error", new Proxy(new Error("x"), everyTrap)],
    ["a revoked proxy", revoked.proxy],
    [
      "an error with getters that throw",
      Object.defineProperties(new Error("x"), {
        message: { get: explode },
        name: { get: explode },
        stack: { get: explode },
        cause: { get: explode },
        code: { get: explode, enumerable: true },
        other: { get: explode, enumerable: true },
      }),
    ],
    ["an error whose cause is a trap", new Error("x", { cause: new Proxy({}, everyTrap) })],
    ["an object that cannot be printed", { toString: explode, [Symbol.toPrimitive]: explode }],
    [
      "fields of the wrong type",
      Object.assign(new Error("x"), {
        name: Symbol("n"),
        message: { toString: explode },
        stack: 5,
        code: {},
        _tag: 1,
      }),
    ],
    ["no prototype", Object.setPrototypeOf(new Error("x"), null)],
  ])("not for %s", (_, value) => {
    const stored = encodeError(value)
    assert.isString(stored.name)
    assert.isString(stored.message)
    decodeError(throughJson(stored))
  })

  it("not for anything, and Postgres can store the result", () => {
    const value = fc.anything({ withBigInt: true, withDate: true, withMap: true, withSet: true })
    const text = fc.string({ unit: "binary" })
    const error = fc
      .tuple(text, text, fc.option(text), value, fc.dictionary(text, value))
      .map(([name, message, code, cause, props]) =>
        Object.assign(new Error(message, { cause }), props, { name, code }),
      )
    fc.assert(
      fc.property(fc.oneof(value, error), (thrown) => {
        const stored = encodeError(thrown)
        const json = JSON.stringify(stored)
        assert.isTrue(!/\\u0000|\\ud[89a-f]/i.test(json.replaceAll("\\\\", "")), json)
        const again = decodeError(stored)
        expect(decodeError(throughJson(stored))).toEqual(again)
        if (thrown instanceof Error) assert.instanceOf(again, Error)
      }),
    )
  })
})

describe("summarize", () => {
  it("is one line with the causes", () => {
    const cause = new TypeError("socket\nclosed\u0007")
    const error = Object.assign(new Error("no charge", { cause }), { code: "E_CARD" })
    assert.strictEqual(
      summarize(encodeError(error)),
      "Error [E_CARD]: no charge, caused by TypeError: socket closed",
    )
  })

  it("is bounded, whatever the message", () => {
    let error = new Error("x".repeat(1e5))
    for (let i = 0; i < 20; i++) error = new Error("x".repeat(1e5), { cause: error })
    assert.isBelow(summarize(encodeError(error)).length, 1000)
  })

  it("shows what was thrown if it was no error", () => {
    assert.strictEqual(summarize(encodeError("boom")), "Thrown: boom")
    assert.strictEqual(summarize(encodeError({ status: 404 })), "Thrown: { status: 404 }")
  })
})
