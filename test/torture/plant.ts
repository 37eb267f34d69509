/**
 * Plants the bugs of mutants.ts, one at a time, in a copy of the repository, and plays the scenario that
 * should find each. `node test/torture/plant.ts [name …]`; `FLOWLY_SEED` and `FLOWLY_TIER` as given.
 */
import { spawnSync } from "node:child_process"
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { mutants, type TortureMutant } from "./mutants.ts"

const root = path.resolve(import.meta.dirname, "../..")
const names = process.argv.slice(2)
const seed = process.env["FLOWLY_SEED"] ?? "1"
const tier = process.env["FLOWLY_TIER"] ?? "T1"

const scratch = mkdtempSync(path.join(tmpdir(), "flowly-torture-mutants-"))
for (const part of [
  "test/torture",
  "test/simulation",
  "test/support",
  "package.json",
  "tsconfig.json",
]) {
  cpSync(path.join(root, part), path.join(scratch, part), { recursive: true })
}
symlinkSync(path.join(root, "node_modules"), path.join(scratch, "node_modules"))

/** An engine with the bug in it; what is wrong with the bug, if it cannot be planted. */
const plant = (mutant: TortureMutant): string | null => {
  rmSync(path.join(scratch, "src"), { recursive: true, force: true })
  cpSync(path.join(root, "src"), path.join(scratch, "src"), { recursive: true })
  for (const { file, find, replace } of mutant.edits) {
    const place = path.join(scratch, "src", file)
    const text = readFileSync(place, "utf8")
    const times = text.split(find).length - 1
    if (times !== 1) return `${file} has its text ${times} times`
    const planted = text.replace(find, () => replace)
    writeFileSync(place, planted)
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
  const began = performance.now()
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ["test/torture/main.ts", "--tier", tier, "--scenario", mutant.scenario, "--seed", seed],
    { cwd: scratch, encoding: "utf8", maxBuffer: 2 ** 28 },
  )
  const seconds = ((performance.now() - began) / 1000).toFixed(0)
  const told = [...stdout.matchAll(/^ +(\d+) s +VIOLATION (\w+): (.*)$/gm)]
  const first = told[0]
  const kinds = [...new Set(told.map((one) => one[2]))].join()
  const verdict =
    first !== undefined
      ? `found by ${mutant.scenario} after ${first[1]} s: ${first[2]} ${first[3]?.slice(0, 110)} (of ${kinds})`
      : stdout.includes(" 0 violations")
        ? `SURVIVED ${mutant.scenario}, ${seconds} s`
        : `broke: ${stderr.trim().split("\n").slice(0, 5).join(" | ").slice(0, 300)}`
  console.log(`${mutant.name}: ${verdict}`)
}
rmSync(scratch, { recursive: true })
