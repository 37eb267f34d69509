/** What makes an engine unhealthy, beside a store that does not answer. */
import { expect, it } from "vitest"
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
