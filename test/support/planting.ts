/** A copy of the repository in which bugs are planted, one at a time, and looked for by tests. */
import { spawnSync } from "node:child_process"
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { stripVTControlCharacters } from "node:util"

/** An edit of `src`: a text that stands there once, and what takes its place. */
export interface Bug {
  readonly name: string
  /** What it breaks, in a sentence. */
  readonly breaks: string
  readonly file: string
  readonly find: string
  readonly replace: string
}

export const bug = (
  name: string,
  breaks: string,
  file: string,
  find: string,
  replace: string,
): Bug => ({ name, breaks, file, find, replace })

const root = path.resolve(import.meta.dirname, "../..")

/**
 * Plants each of the bugs, or those that the command line names, and prints the table of what `verdict`
 * makes of a test run's output.
 */
export const plantEach = (options: {
  readonly bugs: ReadonlyArray<Bug>
  readonly test: string
  readonly env?: Readonly<Record<string, string>>
  /** `null`: nothing was found. */
  readonly verdict: (output: string) => string | null
}): void => {
  const names = process.argv.slice(2)
  const scratch = mkdtempSync(path.join(tmpdir(), "flowly-planted-"))
  for (const one of ["test", "package.json", "tsconfig.json", "vitest.config.ts"]) {
    cpSync(path.join(root, one), path.join(scratch, one), { recursive: true })
  }
  symlinkSync(path.join(root, "node_modules"), path.join(scratch, "node_modules"))
  const plant = ({ file, find, replace }: Bug): void => {
    rmSync(path.join(scratch, "src"), { recursive: true, force: true })
    cpSync(path.join(root, "src"), path.join(scratch, "src"), { recursive: true })
    const place = path.join(scratch, "src", file)
    const parts = readFileSync(place, "utf8").split(find)
    if (parts.length !== 2) throw new Error(`${file} has "${find}" ${parts.length - 1} times`)
    writeFileSync(place, parts.join(replace))
  }
  const run = (): string => {
    const { stdout, stderr } = spawnSync(
      process.execPath,
      ["node_modules/vitest/vitest.mjs", "run", options.test],
      {
        cwd: scratch,
        encoding: "utf8",
        maxBuffer: 2 ** 28,
        env: { ...process.env, ...options.env },
      },
    )
    const text = stripVTControlCharacters(`${stdout}\n${stderr}`)
    const found = options.verdict(text)
    if (found !== null) return found
    return /Tests .*\d+ passed/.test(text) ? "SURVIVED" : `broke: ${text.trim().slice(-300)}`
  }
  console.log("| bug | found by |\n|---|---|")
  for (const one of options.bugs) {
    if (names.length > 0 && !names.includes(one.name)) continue
    plant(one)
    console.log(`| ${one.name}: ${one.breaks} | ${run()} |`)
  }
  rmSync(scratch, { recursive: true })
}
