/** A slope is a leak only where chance would not make it, and is told with what it is made of. */
import { assert, describe, it } from "vitest"
import { judge, type Sample, trendOf } from "./scenarios/soak.ts"

const minute = 1 / 60

it("the slope of memory is told in its own unit and in per cent, an hour", () => {
  const points = Array.from({ length: 60 }, (_, n) => [n * minute, 100 + 3 * n * minute] as const)
  const { slope, percent, error } = trendOf(points)
  assert.closeTo(slope, 3, 1e-6)
  assert.closeTo(percent, 2.95, 0.05)
  assert.isBelow(error, 1e-6)
})

it("what swings to and fro has no slope that chance would not make", () => {
  const points = Array.from({ length: 60 }, (_, n) => [n * minute, n % 2 === 0 ? 90 : 110] as const)
  const { percent, error } = trendOf(points)
  assert.isAbove(error, 1)
  assert.isBelow(percent - 2 * error, 1)
})

it("of two points there is no telling", () => {
  assert.deepStrictEqual(
    trendOf([
      [0, 100],
      [1, 200],
    ]),
    { slope: 0, percent: 0, error: Infinity },
  )
})

describe("an hour of samples", () => {
  const told = (
    nativeMb: (minutes: number) => number,
    { minutes = 60, lastIsFrozen = false } = {},
  ): ReadonlyArray<string> => {
    const samples = Array.from({ length: minutes }, (_, at): Sample => {
      const native = nativeMb(at)
      const parts = { "heap pages": 60, external: 10, files: 50, native }
      const vitals = { rssMb: 120 + native, heapMb: 30, handles: 20, contexts: 1, parts }
      const isTold = !lastIsFrozen || at < minutes - 1
      return {
        at: at * 60_000,
        sessions: 25,
        deadTuples: 1000,
        vitals: new Map(isTold ? [["w1", vitals]] : []),
      }
    })
    const messages: Array<string> = []
    judge(
      {
        say: () => undefined,
        count: () => undefined,
        violate: ({ message }) => messages.push(message),
      },
      samples,
      minutes,
    )
    return messages
  }
  const growing = (minutes: number) => 20 + (minutes * 12) / 60

  it("holds where nothing grows, and where it did in the warm-up only", () => {
    assert.deepStrictEqual(
      told(() => 20),
      [],
    )
    assert.deepStrictEqual(
      told((minutes) => 20 + Math.min(minutes, 10)),
      [],
    )
  })

  it("names the part that grew, of a process that was frozen at the end, too", () => {
    for (const lastIsFrozen of [false, true]) {
      const [message, ...rest] = told(growing, { lastIsFrozen })
      assert.deepStrictEqual(rest, [])
      assert.match(
        message ?? "",
        /^RSS of w1: 8\.\d % an hour.*heap pages 0\.0.*files 0\.0.*native 12\.0 \(12\.0, then 12\.0\)$/,
      )
    }
  })

  it("is not judged by less than half an hour", () => {
    assert.deepStrictEqual(told(growing, { minutes: 29 }), [])
    assert.lengthOf(told(growing, { minutes: 30 }), 1)
  })
})
