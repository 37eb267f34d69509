/** The goldens of every version, as they stand in the repository. */
import * as fs from "node:fs"
import * as path from "node:path"
import type { Golden } from "./golden.ts"

const versions = fs
  .readdirSync(import.meta.dirname, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map((entry) => entry.name)

export const goldens: ReadonlyArray<Golden> = versions.flatMap((version) => {
  const directory = path.join(import.meta.dirname, version)
  return fs
    .readdirSync(directory)
    .toSorted()
    .map((name) => JSON.parse(fs.readFileSync(path.join(directory, name), "utf8")) as Golden)
})
