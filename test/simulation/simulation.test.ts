import { describe, expect, it, vi } from "vitest"

// ids are made by the dice of the machine that is switched on
vi.mock("uuid", async (importOriginal) => {
  const { seeded } = await import("./seededUuid.ts")
  return seeded(await importOriginal<typeof import("uuid")>())
})

const { drawn, report, simulate } = await import("./simulate.ts")

const seeds = Number(process.env["FLOWLY_SEEDS"] ?? 40)

describe("the simulation, its smallest tier", () => {
  it(`${seeds} seeds keep every promise`, { timeout: 120_000 }, async () => {
    for (let seed = 1; seed <= seeds; seed++) {
      const verdict = await simulate(drawn(seed, "small"))
      if (verdict.violations.length > 0) throw new Error(report(verdict))
    }
  })

  it("the same seed is the same run, event for event", { timeout: 60_000 }, async () => {
    for (const seed of [3, 5, 8]) {
      const first = await simulate(drawn(seed, "small"))
      const second = await simulate(drawn(seed, "small"))
      expect(first.timeline.lines.length).toBeGreaterThan(50)
      expect(second.timeline.lines).toEqual(first.timeline.lines)
    }
  })
})
