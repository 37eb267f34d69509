/** A slope is a leak only where chance would not make it, and is told with what it is made of. */
import { assert, describe, it } from "vitest"
import { judgeRest } from "./scenarios/atRest.ts"
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

describe("a process at rest", () => {
  const told = (
    heapMb: (runs: number) => number,
    more: { readonly handles?: (runs: number) => number } = {},
  ) => {
    const violations: Array<string> = []
    const said: Array<string> = []
    judgeRest(
      {
        say: (line) => said.push(line),
        count: () => undefined,
        violate: ({ message }) => violations.push(message),
      },
      Array.from({ length: 30 }, (_, round) => {
        const runs = (round + 1) * 1000
        const handles = more.handles?.(runs) ?? 20
        return {
          runs,
          sessions: 10,
          vitals: { heapMb: heapMb(runs), handles, contexts: 1 },
        }
      }),
    )
    return { violations, said }
  }
  const swings = (runs: number) => (runs % 2000 === 0 ? 0.25 : -0.25)

  it("that keeps an id of each run has a leak", () => {
    const { violations } = told((runs) => 30 + (72 * runs) / 2 ** 20 + swings(runs))
    assert.match(violations.join(), /^heap at rest, of 19000 runs: 7\d\.\d bytes a run/)
  })

  it("that grows while it warms up, and swings to and fro, has none", () => {
    const { violations } = told((runs) => 30 + Math.min(runs, 10_000) / 2000 + swings(runs))
    assert.deepStrictEqual(violations, [])
  })

  it("of which nothing can be told yet says so", () => {
    const { said } = told((runs) => 30 + 20 * swings(runs))
    assert.include(said.join(), "too few runs")
  })

  it("has as many handles as before", () => {
    const { violations } = told(() => 30, { handles: (runs) => 20 + runs / 1000 })
    assert.deepStrictEqual(violations, ["handles at rest grew from 31 to 50"])
  })
})
