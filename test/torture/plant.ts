/**
 * Plants the bugs of mutants.ts, one at a time, in a copy of the repository, and plays the scenario that
 * should find each, seed after seed, until one does. `node test/torture/plant.ts [name …]`, or `--check`:
 * whether each can still be planted. `FLOWLY_SEED` is the first seed (1), `FLOWLY_SEEDS` how many at most
 * (3), `FLOWLY_TIER` as given (T1), `FLOWLY_TIMES` as `--times`, `FLOWLY_SECONDS` the patience with one
 * (270). Prints lines of the table in README.md.
 */
import { spawn } from "node:child_process"
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { mutants, type TortureMutant } from "./mutants.ts"

const root = path.resolve(import.meta.dirname, "../..")
const { FLOWLY_SEED: firstSeed = "1", FLOWLY_SEEDS: seeds = "3" } = process.env
const { FLOWLY_TIER: tier = "T1", FLOWLY_SECONDS: patience = "270" } = process.env
const { FLOWLY_TIMES: harms } = process.env
/** As the scenario is asked for. */
const size = harms === undefined ? tier : `${tier} × ${harms}`
const sized = ["--tier", tier, ...(harms === undefined ? [] : ["--times", harms])]
const names = process.argv.slice(2).filter((one) => one !== "--check")

const scratch = mkdtempSync(path.join(tmpdir(), "flowly-torture-mutants-"))
// as one file runs the other's, all of it
for (const part of ["test", "package.json", "tsconfig.json"]) {
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

/** What it said until it ended, was out of time, or had found something and was asked to end. */
const listen = (args: ReadonlyArray<string>) =>
  new Promise<{ readonly said: string; readonly isOutOfTime: boolean }>((resolve) => {
    const child = spawn(process.execPath, [...args], { cwd: scratch })
    let said = ""
    let isOutOfTime = false
    let ending: NodeJS.Timeout | undefined
    const end = (afterMs: number) => {
      ending ??= setTimeout(() => child.kill("SIGTERM"), afterMs)
    }
    const late = setTimeout(
      () => {
        isOutOfTime = true
        end(0)
      },
      Number(patience) * 1000,
    )
    const hear = (chunk: Buffer) => {
      said += chunk.toString()
      // what else it finds at that moment is told, too
      if (/VIOLATION (?!recovery)/.test(said)) end(500)
    }
    child.stdout.on("data", hear)
    child.stderr.on("data", hear)
    child.once("close", () => {
      clearTimeout(late)
      clearTimeout(ending)
      resolve({ said, isOutOfTime })
    })
  })

/** What became of it with one seed: `null`, nothing. */
const play = async (mutant: TortureMutant, seed: number): Promise<string | null> => {
  const args = ["--scenario", mutant.scenario, "--seed", `${seed}`, ...sized]
  const { said, isOutOfTime } = await listen(["test/torture/main.ts", ...args])
  // the recovery bound depends on the machine, and is no proof of a bug
  const told = [...said.matchAll(/^ +(\d+) s +VIOLATION (?!recovery)(\w+): (.*)$/gm)]
  const kinds = [...new Set(told.map((one) => one[2]))].join()
  const [first] = told
  const short = (text = "") => text.replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, "…").slice(0, 110)
  if (first !== undefined) return `seed ${seed}, ${first[1]} s | ${kinds}: ${short(first[3])}`
  if (/ \d+ violations(?!.*broke)/.test(said)) return null
  if (isOutOfTime) return `seed ${seed} | not ended after ${patience} s`
  // what a scenario waits for, and waits for in vain
  return `seed ${seed} | it broke: ${short(/^\w*Error: (.*)$/m.exec(said)?.[1] ?? said.slice(-110))}`
}

for (const mutant of mutants) {
  if (names.length > 0 && !names.includes(mutant.name)) continue
  const line = (verdict: string) =>
    console.log(`| ${mutant.name} | ${mutant.scenario}, ${size} | ${verdict} |`)
  const obstacle = plant(mutant)
  if (obstacle !== null) {
    line(`cannot be planted: ${obstacle} |`)
    process.exitCode = 1
    continue
  }
  if (process.argv.includes("--check")) continue
  let found: string | null = null
  let seed = Number(firstSeed)
  for (; found === null && seed < Number(firstSeed) + Number(seeds); seed++) {
    found = await play(mutant, seed)
  }
  line(found ?? `none of ${seeds} | survived`)
}
rmSync(scratch, { recursive: true })
