import { assert, describe, it } from "vitest"
import * as RetryPolicy from "../src/RetryPolicy.ts"

/** The delays behind the first tries, with dice that always show this. */
const delays = (policy: RetryPolicy.RetryPolicy, dice = 0, tries = 5) =>
  Array.from({ length: tries }, (_, n) => RetryPolicy.delayAfter(policy, n + 1, () => dice))

describe("the delay behind a try", () => {
  it("grows by its factor from the first delay on, up to the longest", () => {
    const policy = RetryPolicy.exponential(100, { maxAttempts: 9, factor: 3, maxDelayMs: 2000 })
    assert.deepStrictEqual(delays(policy), [100, 300, 900, 2000, 2000])
  })

  it("doubles from a second up to thirty, unless somebody says otherwise", () => {
    const policy = RetryPolicy.make({ maxAttempts: 9 })
    assert.deepStrictEqual(delays(policy, 0, 7), [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000])
  })

  it("grows by the first delay each time when it is linear, up to the longest", () => {
    const policy = RetryPolicy.make({ backoff: "linear", initialDelayMs: 200, maxDelayMs: 700 })
    assert.deepStrictEqual(delays(policy), [200, 400, 600, 700, 700])
  })

  it("stays the same when it is fixed, also when that is longer than the longest by default", () => {
    const policy = RetryPolicy.make({ backoff: "fixed", initialDelayMs: 45_000 })
    assert.deepStrictEqual(delays(policy, 0, 2), [45_000, 45_000])
    assert.deepStrictEqual(delays(RetryPolicy.spaced(50, { maxAttempts: 3 }), 0, 2), [50, 50])
    assert.deepStrictEqual(delays(RetryPolicy.immediate(3), 0, 2), [0, 0])
  })

  it("loses up to its second half to the dice, and only where it may", () => {
    const policy = RetryPolicy.make({ initialDelayMs: 1000, maxDelayMs: 2000, jitter: true })
    assert.deepStrictEqual(delays(policy, 0, 3), [1000, 2000, 2000])
    assert.deepStrictEqual(delays(policy, 0.5, 3), [750, 1500, 1500])
    assert.deepStrictEqual(delays(policy, 0.998, 3), [501, 1002, 1002])
    assert.deepStrictEqual(delays({ ...policy, jitter: false }, 0.5, 3), [1000, 2000, 2000])
  })

  it("is that of very many tries, too", () => {
    const policy = RetryPolicy.make({ maxAttempts: RetryPolicy.mostAttempts })
    assert.strictEqual(
      RetryPolicy.delayAfter(policy, RetryPolicy.mostAttempts, () => 0),
      30_000,
    )
  })
})
