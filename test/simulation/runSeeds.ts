/** Plays seeds within a budget, shows how far it is, and tells what failed. */
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { realMs } from "./machine.ts"
import type { Size } from "./faults.ts"
import { type Case, shrink } from "./shrink.ts"
import { drawn, report, simulate, type Verdict } from "./simulate.ts"

const shrinkMs = 60_000

/** Shows the smallest case that fails as this one did, and keeps it to be played again. */
const makeSmall = async ({ options, program, violations }: Verdict): Promise<void> => {
  const invariant = violations[0]?.invariant ?? ""
  console.log(`shrinking, for at most ${shrinkMs / 1000} seconds`)
  const small = await shrink({ options, program }, invariant, shrinkMs)
  if (small === null) return console.log("it does not fail in anything smaller")
  const file = path.join(mkdtempSync(path.join(tmpdir(), "flowly-case-")), "case.json")
  writeFileSync(file, JSON.stringify({ options: small.options, program: small.program }))
  console.log(report(small))
  console.log(`FLOWLY_CASE=${file} (smaller)`)
}

/** Answers the exit code. */
export const runSeeds = async (env: NodeJS.ProcessEnv): Promise<number> => {
  const size: Size = env["FLOWLY_SIZE"] === "small" ? "small" : "large"
  const only = env["FLOWLY_SEED"]
  if (only !== undefined) {
    const verdict = await simulate(drawn(Number(only), size))
    console.log(verdict.timeline.lines.join("\n"))
    console.log(report(verdict))
    return verdict.violations.length === 0 ? 0 : 1
  }
  const file = env["FLOWLY_CASE"]
  if (file !== undefined) {
    const verdict = await simulate(JSON.parse(readFileSync(file, "utf8")) as Case)
    console.log(verdict.timeline.lines.join("\n"))
    console.log(report(verdict))
    return verdict.violations.length === 0 ? 0 : 1
  }
  const first = Number(env["FLOWLY_FIRST"] ?? 1)
  const minutes = env["FLOWLY_MINUTES"]
  const seeds = minutes === undefined ? Number(env["FLOWLY_SEEDS"] ?? 200) : Infinity
  const began = realMs()
  const until = minutes === undefined ? Infinity : began + Number(minutes) * 60_000
  const totals = { seeds: 0, runs: 0, tries: 0, simulatedMs: 0, failed: 0, slowest: 0 }
  const faults = new Map<string, number>()
  let shown = began
  const progress = () => {
    const seconds = ((realMs() - began) / 1000).toFixed(0)
    console.log(
      `${totals.seeds} seeds in ${seconds} s, ${totals.runs} runs, ${totals.tries} tries, ` +
        `${(totals.simulatedMs / 3_600_000).toFixed(1)} simulated hours, ${totals.failed} failed`,
    )
  }
  for (let seed = first; seed < first + seeds && realMs() < until; seed++) {
    const verdict = await simulate(drawn(seed, size))
    totals.seeds++
    totals.runs += verdict.runs
    totals.tries += verdict.tries
    totals.simulatedMs += verdict.simulatedMs
    totals.slowest = Math.max(totals.slowest, verdict.recoveryMs)
    for (const [kind, count] of verdict.faults) faults.set(kind, (faults.get(kind) ?? 0) + count)
    if (verdict.violations.length > 0) {
      totals.failed++
      console.log(report(verdict))
      if (env["FLOWLY_SHRINK"] !== "0") await makeSmall(verdict)
      if (env["FLOWLY_KEEP_GOING"] === undefined) break
    }
    if (realMs() - shown > 5000) {
      shown = realMs()
      progress()
    }
  }
  progress()
  console.log(`faults: ${[...faults].map(([kind, count]) => `${kind} ${count}`).join(", ")}`)
  console.log(`slowest recovery: ${(totals.slowest / 1000).toFixed(1)} simulated seconds`)
  return totals.failed === 0 ? 0 : 1
}
