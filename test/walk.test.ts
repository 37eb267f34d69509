/** README.md of this folder is true as far as it can be read: each link's words stand in its file. */
import { existsSync, readFileSync } from "node:fs"
import * as path from "node:path"
import { describe, expect, it } from "vitest"

const page = readFileSync(path.join(import.meta.dirname, "README.md"), "utf8")
const lines = page.split("\n")
/** Of the tables, without their heads. */
const rows = lines.filter(
  (line, i) => /^\|(?! ?-)/.test(line) && !/^\| ?-/.test(lines[i + 1] ?? ""),
)

const linksOf = (row: string) =>
  [...row.matchAll(/\[((?:[^\]\\]|\\.)+)\]\(([^)]+)\)/g)].map(([, words = "", file = ""]) => ({
    words,
    file,
  }))

describe("the walk through what can go wrong", () => {
  it("has each failure once", () => {
    const numbers = [...page.matchAll(/^\| (F\d\d) \|/gm)].map(([, number]) => number)
    const all = Array.from({ length: 42 }, (_, i) => `F${String(i + 1).padStart(2, "0")}`)
    expect(numbers).toEqual(all)
  })

  it.each(rows)("%s", (row) => {
    const links = linksOf(row)
    expect(links).not.toEqual([])
    const broken = links.filter(({ words, file }) => {
      const at = path.join(import.meta.dirname, file)
      if (!existsSync(at)) return true
      // an invariant is its file
      return /^I\d\d$/.test(words)
        ? !path.basename(file).startsWith(words)
        : !readFileSync(at, "utf8").includes(words)
    })
    expect(broken).toEqual([])
  })
})
