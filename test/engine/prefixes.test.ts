import { describe, expect, it } from "vitest"
import { bodies } from "./bodies.ts"
import { playPrefixes } from "./replay.ts"

describe("cut after each commit, the same code finishes with the same result", () => {
  it.each(bodies)("$name", async (given) => {
    const { faults } = await playPrefixes(given)
    expect(faults).toEqual([])
  })
})
