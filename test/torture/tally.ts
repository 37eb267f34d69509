/**
 * Adds reports up, as rows of the tables in README.md: `node test/torture/tally.ts report.json …`.
 * What was played several times, with several seeds, is one row; each of its seeds is named.
 */
import { readFileSync } from "node:fs"
import type { Report, ScenarioReport } from "./play.ts"

interface Played {
  readonly scenario: ScenarioReport
  readonly report: Report
}

const reports = process.argv
  .slice(2)
  .map((file) => JSON.parse(readFileSync(file, "utf8")) as Report)
const played = reports.flatMap((report) =>
  report.scenarios.map((scenario): Played => ({ scenario, report })),
)

/** Columns of their own; everything else that was counted is named in the second one. */
const columns = ["runs", "steps", "ledger rows", "claims taken away"]

const sum = (all: ReadonlyArray<Played>, what: string) =>
  all.reduce((total, { scenario }) => total + (scenario.counts[what] ?? 0), 0)

const groups = new Map<string, Array<Played>>()
for (const one of played) {
  const key = `${one.scenario.id} | ${one.report.postgres}`
  groups.set(key, [...(groups.get(key) ?? []), one])
}

const row = (cells: ReadonlyArray<string | number>) => `| ${cells.join(" | ")} |`
const titles = ["scenario", "Postgres", "tier: seeds", "done", ...columns, "violations", "seconds"]
console.log(row(titles))
console.log(row(titles.map(() => "---")))
for (const [key, all] of groups) {
  const done = [...new Set(all.flatMap(({ scenario }) => Object.keys(scenario.counts)))]
    .filter((what) => !columns.includes(what))
    .map((what) => `${sum(all, what)} ${what}`)
  const seeds = [...new Set(all.map(({ report }) => report.tier))].map(
    (tier) =>
      `${tier}: ${all
        .filter(({ report }) => report.tier === tier)
        .map(({ report }) => report.seed)
        .join(", ")}`,
  )
  const broke = all.filter(({ scenario }) => scenario.broke !== null).length
  console.log(
    row([
      key,
      seeds.join("; "),
      done.join(", "),
      ...columns.map((what) => sum(all, what) || ""),
      all.reduce((total, { scenario }) => total + scenario.violations.length, 0) +
        (broke === 0 ? "" : `, ${broke} broke`),
      Math.round(all.reduce((total, { scenario }) => total + scenario.seconds, 0)),
    ]),
  )
}
console.log("")
for (const { scenario, report } of played) {
  for (const [what, { n, p50, p95, max }] of Object.entries(scenario.measures)) {
    const where = `${scenario.id}, ${report.postgres}, seed ${report.seed}, ${report.commit}`
    console.log(
      `- ${where}: ${what}: ${n} times, median ${p50}, 95 % within ${p95}, longest ${max} ms`,
    )
  }
}
const totals = new Set(played.flatMap(({ scenario }) => Object.keys(scenario.counts)))
console.log(`\n${[...totals].map((what) => `${sum(played, what)} ${what}`).join(" · ")}`)
