/** A planted bug that no longer fits the code would be caught by nobody, and missed by nobody. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { mutants as ofTorture } from "../torture/mutants.ts"
import { mutants } from "./mutants/index.ts"

const src = join(import.meta.dirname, "../../src")

describe.each([
  ["the simulation", mutants],
  ["the torture suite", ofTorture],
])("the planted bugs of %s", (_suite, all) => {
  it.each(all.map((mutant) => [mutant.name, mutant] as const))(
    "%s fits the code",
    (_name, { edits }) => {
      for (const { file, find } of edits) {
        const text = readFileSync(join(src, file), "utf8")
        expect(text.split(find).length - 1, `${file}: ${find}`).toBe(1)
      }
    },
  )
})
