/** A slope is a leak only where chance would not make it. */
import { assert, it } from "vitest"
import { trendOf } from "./scenarios/soak.ts"

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
