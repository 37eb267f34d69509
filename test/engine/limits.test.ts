/** What an engine allows its callers where nobody has said otherwise. */
import * as Result from "effect/Result"
import { expect, it } from "vitest"
import { checkLimits } from "../../src/engine/limits.ts"

const limits = { maxPendingEvents: 10_000, minTickDistanceMs: 1000 }

it("10,000 events may wait in a run, and a schedule tick each second", () => {
  for (const given of [undefined, {}, { maxPendingEvents: undefined }]) {
    expect(checkLimits(given)).toEqual(Result.succeed(limits))
  }
})

it("a limit that is given leaves the other as it is", () => {
  const given = { maxPendingEvents: 7 }
  expect(checkLimits(given)).toEqual(Result.succeed({ ...limits, ...given }))
})
