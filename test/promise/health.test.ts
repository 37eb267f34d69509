/** What makes an engine unhealthy. */
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { expect, it, vi } from "vitest"
import { Engine } from "../../src/Engine.ts"
import { checkHealth } from "../../src/promise/health.ts"

const well = {
  running: 0,
  maxConcurrent: 5,
  leaseTrusted: true,
  unhealthy: [],
} as unknown as NonNullable<Parameters<typeof checkHealth>[1]>

const answers = () => Promise.resolve(undefined as never)

it.each([
  ["is healthy with a worker whose lease holds and whose loops turn", well, true],
  ["is unhealthy while its worker cannot trust its lease", { ...well, leaseTrusted: false }, false],
  ["is unhealthy while a loop of its worker fails", { ...well, unhealthy: ["poll"] }, false],
] as const)("an engine %s", async (_, worker, healthy) => {
  const health = await checkHealth(answers, worker as typeof well)
  expect(health).toMatchObject({ healthy, store: { ok: true }, worker })
})

it("an engine says why its store does not answer", async () => {
  const health = await checkHealth(() => Promise.reject(new Error("refused")), well)
  expect(health).toMatchObject({ healthy: false, store: { ok: false, error: "refused" } })
})

it("a store that does not answer is waited for, for five seconds of real time", async () => {
  vi.useFakeTimers()
  try {
    const engine = { store: { now: Effect.never } } as unknown as Engine["Service"]
    let known = false
    // as in a test engine, whose own time stands still
    const asked = checkHealth(
      (effect) =>
        Effect.runPromise(
          effect.pipe(Effect.provideService(Engine, engine), Effect.provide(TestClock.layer())),
        ),
      null,
    ).finally(() => void (known = true))
    await vi.advanceTimersByTimeAsync(4900)
    expect(known).toBe(false)
    await vi.advanceTimersByTimeAsync(200)
    expect(known).toBe(true)
    const { healthy, store } = await asked
    expect([healthy, store.error]).toEqual([false, "no answer within 5 seconds"])
    expect(Math.round(store.latencyMs / 100)).toBe(50)
  } finally {
    vi.useRealTimers()
  }
})
