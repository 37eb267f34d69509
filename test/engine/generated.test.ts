import { describe, expect, it } from "vitest"
import { generated } from "./generated.ts"
import { inParallel, played, playPrefixes } from "./prefixes.ts"

const count = 200
const given = process.env["FLOWLY_SEED"]
const first = given === undefined ? 1 : Number(given)
const seeds = Array.from({ length: given === undefined ? count : 1 }, (_, i) => first + i)

describe("bodies made by dice, cut after each commit", () => {
  it(`${seeds.length} bodies finish with the same result`, { timeout: 600_000 }, async () => {
    const wrong: Array<string> = []
    const play = (seed: number) => async () => {
      const { program, text } = generated(seed)
      const { faults } = await playPrefixes(program).catch((error: unknown) => ({
        faults: [String(error)],
      }))
      if (faults.length > 0) wrong.push([`FLOWLY_SEED=${seed}`, ...faults, text].join("\n"))
    }
    await inParallel(seeds.map(play), 4)
    console.log(`${played.prefixes} prefixes of ${seeds.length} generated bodies`)
    expect(wrong.slice(0, 5).join("\n\n")).toBe("")
  })
})
