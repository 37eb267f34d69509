import { describe, expect, it } from "vitest"
import { bodies } from "./bodies.ts"
import { determinismBodies } from "./determinismBodies.ts"
import { childBodies } from "./childBodies.ts"
import { sagaBodies } from "./sagaBodies.ts"
import { stepBodies } from "./stepBodies.ts"
import { effectBodies } from "./effectBodies.ts"
import { playPrefixes } from "./prefixes.ts"

describe("cut after each commit, the same code ends the same", { timeout: 120_000 }, () => {
  it.each([...bodies, ...determinismBodies, ...stepBodies, ...sagaBodies, ...childBodies])(
    "promise API: $name",
    async (given) => {
      const { faults } = await playPrefixes(given)
      expect(faults).toEqual([])
    },
  )

  it.each(effectBodies)("Effect API: $name", async (given) => {
    const { faults } = await playPrefixes(given)
    expect(faults).toEqual([])
  })
})
