/**
 * Plants the bugs of mutants.ts, one at a time, in a copy of the repository, and plays seeds until one
 * fails. `node test/simulation/plant.ts [name …]`; `FLOWLY_SEEDS` bounds each (default 200).
 */
import { spawnSync } from "node:child_process"
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { type Mutant, mutants } from "./mutants.ts"

const root = path.resolve(import.meta.dirname, "../..")
const names = process.argv.slice(2)
const seeds = process.env["FLOWLY_SEEDS"] ?? "200"

const scratch = mkdtempSync(path.join(tmpdir(), "flowly-mutants-"))
for (const part of ["test/simulation", "test/support", "package.json", "tsconfig.json"]) {
  cpSync(path.join(root, part), path.join(scratch, part), { recursive: true })
}
symlinkSync(path.join(root, "node_modules"), path.join(scratch, "node_modules"))

/** An engine with the bug in it; what is wrong with the bug, if it cannot be planted. */
const plant = (mutant: Mutant): string | null => {
  rmSync(path.join(scratch, "src"), { recursive: true, force: true })
  cpSync(path.join(root, "src"), path.join(scratch, "src"), { recursive: true })
  for (const { file, find, replace } of mutant.edits) {
    const place = path.join(scratch, "src", file)
    const text = readFileSync(place, "utf8")
    const times = text.split(find).length - 1
    if (times !== 1) return `${file} has its text ${times} times`
    writeFileSync(
      place,
      text.replace(find, () => replace),
    )
  }
  return null
}

for (const mutant of mutants) {
  if (names.length > 0 && !names.includes(mutant.name)) continue
  const obstacle = plant(mutant)
  if (obstacle !== null) {
    console.log(`${mutant.name}: cannot be planted: ${obstacle}`)
    continue
  }
  const { stdout, stderr } = spawnSync(process.execPath, ["test/simulation/main.ts"], {
    cwd: scratch,
    encoding: "utf8",
    maxBuffer: 2 ** 28,
    env: { ...process.env, FLOWLY_SEEDS: seeds, FLOWLY_SIZE: "small", FLOWLY_SHRINK: "0" },
  })
  const played = [...stdout.matchAll(/^(\d+) seeds in (\d+) s.*, (\d+) failed$/gm)].at(-1)
  const first = /^(I\d+) at \d+: (.*)$/m.exec(stdout)
  const verdict =
    played === undefined || !stdout.includes("slowest recovery")
      ? `broke: ${stderr.trim().split("\n").slice(0, 6).join(" | ").slice(0, 300)}`
      : played[3] === "0"
        ? `SURVIVED ${played[1]} seeds`
        : `found by seed ${played[1]} in ${played[2]} s: ${first?.[1]} ${first?.[2]?.slice(0, 100)}`
  console.log(`${mutant.name}: ${verdict}`)
}
rmSync(scratch, { recursive: true })
