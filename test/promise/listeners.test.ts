/** The one subscription behind an engine's listeners, while it cannot be made. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"
import { FlowlyError } from "../../src/index.ts"
import { makeListeners } from "../../src/promise/listeners.ts"

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const down = () => new FlowlyError("StoreUnavailable", "down", { retryable: true })

const make = () => {
  const reports: Array<string> = []
  let failure: Error | null = down()
  let tries = 0
  const listeners = makeListeners({
    subscribe: () => {
      tries++
      return failure === null ? Promise.resolve() : Promise.reject(failure)
    },
    report: (message) => void reports.push(message),
  })
  return {
    listeners,
    reports,
    tries: () => tries,
    fails: (next: Error | null) => void (failure = next),
  }
}

describe("a subscription that cannot be made", () => {
  it("is tried again each second, and complained of once", async () => {
    const { listeners, reports, tries } = make()
    listeners.add(() => undefined)
    await vi.advanceTimersByTimeAsync(3500)
    expect(tries()).toBe(4)
    expect(reports).toHaveLength(1)
    listeners.stop()
  })

  it("is tried no more once it holds, the engine stops, or nobody listens", async () => {
    const held = make()
    held.listeners.add(() => undefined)
    await vi.advanceTimersByTimeAsync(0)
    held.fails(null)
    await vi.advanceTimersByTimeAsync(10_000)
    const stopped = make()
    stopped.listeners.add(() => undefined)
    await vi.advanceTimersByTimeAsync(1500)
    stopped.listeners.stop()
    await vi.advanceTimersByTimeAsync(10_000)
    const left = make()
    const leave = left.listeners.add(() => undefined)
    await vi.advanceTimersByTimeAsync(1500)
    leave()
    await vi.advanceTimersByTimeAsync(10_000)
    expect([held.tries(), stopped.tries(), left.tries()]).toEqual([2, 2, 2])
  })

  it("is waited for in silence while tables or a store are missing, and given up for an error that stays", async () => {
    const early = make()
    early.fails(new FlowlyError("SchemaNotMigrated", "migrate first"))
    early.listeners.add(() => undefined)
    await vi.advanceTimersByTimeAsync(2500)
    expect([early.tries(), early.reports]).toEqual([3, []])
    early.listeners.stop()
    const refused = make()
    refused.fails(new FlowlyError("StoreRejected", "no rights"))
    refused.listeners.add(() => undefined)
    await vi.advanceTimersByTimeAsync(2500)
    expect([refused.tries(), refused.reports.length]).toEqual([1, 1])
  })

  it("is made anew by whoever waits for it", async () => {
    const { listeners, tries, fails } = make()
    await listeners.ready()
    expect(tries()).toBe(0)
    listeners.add(() => undefined)
    await expect(listeners.ready()).rejects.toMatchObject({ code: "StoreUnavailable" })
    fails(null)
    await listeners.ready()
    await listeners.ready()
    listeners.stop()
  })
})
