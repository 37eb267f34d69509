/**
 * Plants the bugs of mutants/, one at a time, in a copy of the repository, and looks for what finds
 * them: seeds of the simulation, from the first one, until one fails; or, of what only Postgres can
 * show, the tests that a bug names. Ends with the table of all, and the median.
 *
 * `node test/simulation/plant.ts [name …]`; `FLOWLY_SEEDS` bounds the seeds of each (default 200);
 * `FLOWLY_PART=2/5` takes the second of five parts.
 */
import { spawnSync } from "node:child_process"
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { stripVTControlCharacters } from "node:util"
import { type Mutant, mutants } from "./mutants/index.ts"

const root = path.resolve(import.meta.dirname, "../..")
const names = process.argv.slice(2)
const seeds = process.env["FLOWLY_SEEDS"] ?? "200"
const [part = 1, parts = 1] = (process.env["FLOWLY_PART"] ?? "1/1").split("/").map(Number)

const scratch = mkdtempSync(path.join(tmpdir(), "flowly-mutants-"))
for (const one of ["test", "package.json", "tsconfig.json", "vitest.config.ts"]) {
  cpSync(path.join(root, one), path.join(scratch, one), { recursive: true })
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

interface Finding {
  /** By which seed; `null`: by none, or by a test. */
  readonly seed: number | null
  readonly by: string
  readonly found: boolean
}

const play = (): Finding => {
  const { stdout, stderr } = spawnSync(process.execPath, ["test/simulation/main.ts"], {
    cwd: scratch,
    encoding: "utf8",
    maxBuffer: 2 ** 28,
    timeout: 240_000,
    env: { ...process.env, FLOWLY_SEEDS: seeds, FLOWLY_SIZE: "small", FLOWLY_SHRINK: "0" },
  })
  const played = [...stdout.matchAll(/^(\d+) seeds in (\d+) s.*, (\d+) failed$/gm)].at(-1)
  const first = /^(I\d+) at \d+: (.*)$/m.exec(stdout)
  if (played === undefined || !stdout.includes("slowest recovery")) {
    const why = stderr.trim().split("\n").slice(0, 6).join(" | ").slice(0, 300)
    return { seed: null, by: `broke: ${why}`, found: false }
  }
  if (played[3] === "0") return { seed: null, by: `not by ${played[1]} seeds`, found: false }
  const by = `${first?.[1]} ${first?.[2]?.replace(/^\S*\d+ /, "").slice(0, 80)}`
  return { seed: Number(played[1]), by, found: true }
}

const test = ({ project, files }: NonNullable<Mutant["tests"]>): Finding => {
  const vitest = path.join(scratch, "node_modules/vitest/vitest.mjs")
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    [vitest, "run", "--project", project, "--bail", "1", ...files],
    { cwd: scratch, encoding: "utf8", maxBuffer: 2 ** 28, timeout: 240_000, env: process.env },
  )
  const text = stripVTControlCharacters(`${stdout}\n${stderr}`)
  const failed = /FAIL\S*\s+(.*)$/m.exec(text)
  if (failed !== null) {
    // a file that cannot run fails too, and has found nothing
    const [, ...claims] = failed[1]?.split(" > ") ?? []
    if (claims.length > 0) return { seed: null, by: claims.slice(-1).join(), found: true }
  }
  if (status === 0) return { seed: null, by: `not by ${files.join()}`, found: false }
  const why = failed?.[1] ?? text.trim().split("\n").slice(-6).join(" | ").slice(0, 300)
  return { seed: null, by: `broke: ${why}`, found: false }
}

/** What the simulation cannot see, a test may. */
const look = ({ tests }: Mutant): Finding => {
  if (tests?.project === "integration") return test(tests)
  const played = play()
  if (played.found || tests === undefined) return played
  const tested = test(tests)
  return { ...tested, by: `${played.by}; ${tested.by}` }
}

const findings = new Map<string, Finding>()
for (const [index, mutant] of mutants.entries()) {
  if (names.length > 0 && !names.includes(mutant.name)) continue
  if (index % parts !== part - 1) continue
  const obstacle = plant(mutant)
  const finding: Finding =
    obstacle !== null
      ? { seed: null, by: `cannot be planted: ${obstacle}`, found: false }
      : look(mutant)
  findings.set(mutant.name, finding)
  const { seed, by, found } = finding
  const verdict = seed === null ? (found ? "found" : "SURVIVED") : `found by seed ${seed}`
  console.log(`${mutant.name}: ${verdict}: ${by}`)
}
rmSync(scratch, { recursive: true })

console.log("\n| bug | seed | found by |\n| --- | --- | --- |")
for (const [name, { seed, by }] of findings) console.log(`| ${name} | ${seed ?? ""} | ${by} |`)
const needed = [...findings.values()].flatMap(({ seed }) => seed ?? []).toSorted((a, b) => a - b)
const found = [...findings.values()].filter((one) => one.found).length
console.log(
  `\n${found} of ${findings.size} found; seeds to catch: median ${needed[needed.length >> 1]}`,
)
