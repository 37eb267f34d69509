/** Plays scenarios one after the other, and reports: a line for people, a file for machines. */
import { execFileSync } from "node:child_process"
import { writeFileSync } from "node:fs"
import { diceOf } from "../support/dice.ts"
import { createDatabaseOn } from "../support/provision.ts"
import type { Options } from "./options.ts"
import type { Context, Scenario, Violation } from "./scenario.ts"
import { openServer, type Server } from "./server.ts"

interface Measure {
  readonly n: number
  readonly p50: number
  readonly p95: number
  readonly max: number
}

/** What became of one scenario. */
export interface ScenarioReport {
  readonly id: string
  readonly title: string
  readonly seconds: number
  readonly counts: Readonly<Record<string, number>>
  readonly measures: Readonly<Record<string, Measure>>
  readonly violations: ReadonlyArray<Violation>
  /** What the scenario itself broke of. */
  readonly broke: string | null
}

export interface Report {
  readonly seed: number
  readonly tier: string
  readonly at: string
  readonly commit: string
  readonly node: string
  readonly postgres: string
  readonly scenarios: ReadonlyArray<ScenarioReport>
  readonly totals: Readonly<Record<string, number>>
  readonly violations: number
}

const measureOf = (values: ReadonlyArray<number>): Measure => {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (q: number) => Math.round(sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? 0)
  return { n: sorted.length, p50: at(0.5), p95: at(0.95), max: at(1) }
}

const seedOf = (seed: number, id: string): number =>
  [...id].reduce((mixed, letter) => Math.imul(mixed ^ letter.charCodeAt(0), 16_777_619), seed)

/** Plays one, on the shared server. */
export const playScenario = async (
  scenario: Scenario,
  options: Pick<Options, "tier" | "seed" | "minutes" | "times">,
  server: Server,
  say: (line: string) => void,
): Promise<ScenarioReport> => {
  const began = performance.now()
  const counts: Record<string, number> = {}
  const values = new Map<string, Array<number>>()
  const violations: Array<Violation> = []
  const releases: Array<() => Promise<void>> = []
  const context: Context = {
    ...options,
    dice: diceOf(seedOf(options.seed, scenario.id)),
    server,
    ownServer: async (settings) => {
      const own = await openServer(server.kind === "given" ? "embedded" : server.kind, settings)
      releases.push(own.stop)
      return own
    },
    database: async (on = server) => {
      const { url, drop } = await createDatabaseOn(on.url)
      releases.push(drop)
      return url
    },
    times: (sizes) => options.times ?? sizes[options.tier],
    sized: (sizes) => sizes[options.tier],
    count: (what, by = 1) => {
      counts[what] = (counts[what] ?? 0) + by
    },
    measure: (what, milliseconds) => {
      const known = values.get(what)
      if (known === undefined) values.set(what, [milliseconds])
      else known.push(milliseconds)
    },
    violate: (violation) => {
      violations.push(violation)
      if (violations.length <= 20) say(`VIOLATION ${violation.invariant}: ${violation.message}`)
    },
    violations: () => violations.length,
    say,
    atEnd: (release) => {
      releases.push(release)
    },
  }
  let broke: string | null = null
  const breaking = (error: unknown) => {
    broke ??= error instanceof Error ? (error.stack ?? error.message) : String(error)
  }
  await scenario.run(context).catch(breaking)
  for (const release of releases.toReversed()) await release().catch(breaking)
  const measures = Object.fromEntries([...values].map(([what, all]) => [what, measureOf(all)]))
  const seconds = Math.round(performance.now() - began) / 1000
  const { id, title } = scenario
  return { id, title, seconds, counts, measures, violations, broke }
}

const commitOf = (): string => {
  try {
    const git = (...args: ReadonlyArray<string>) =>
      execFileSync("git", [...args], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })
    const dirty = git("status", "--porcelain", "--untracked-files=no").trim() !== ""
    return git("rev-parse", "--short", "HEAD").trim() + (dirty ? " with changes" : "")
  } catch {
    return "unknown"
  }
}

/** "kills 60, freezes 0 …" */
const list = (counts: Readonly<Record<string, number>>): string =>
  Object.entries(counts)
    .map(([what, n]) => `${n} ${what}`)
    .join(" · ")

const tell = ({ invariant, message, timeline = [] }: Violation): ReadonlyArray<string> =>
  [`${invariant}: ${message}`]
    .concat(timeline.map((line) => `  ${line}`))
    .map((line) => `  ${line}`)

const print = (report: ScenarioReport): string =>
  [
    `${report.id} ${report.title}: ${report.broke !== null ? "BROKE" : report.violations.length === 0 ? "held" : "VIOLATED"}, ${report.seconds.toFixed(0)} s`,
    `  ${list(report.counts)}`,
    ...Object.entries(report.measures).map(
      ([what, { n, p50, p95, max }]) =>
        `  ${what}: ${n} times, median ${p50} ms, 95 % within ${p95} ms, longest ${max} ms`,
    ),
    ...report.violations.slice(0, 5).flatMap(tell),
    ...(report.violations.length > 5 ? [`  and ${report.violations.length - 5} more`] : []),
    ...(report.broke === null ? [] : [report.broke]),
  ].join("\n")

/** Answers the exit code. */
export const playAll = async (options: Options): Promise<number> => {
  const { seed, tier, scenarios } = options
  const began = performance.now()
  const server = await openServer(options.server)
  const reports: Array<ScenarioReport> = []
  const at = new Date().toISOString()
  /** After each scenario: what was found stands, whatever becomes of the next one. */
  const save = (): Report => {
    const totals: Record<string, number> = {}
    for (const { counts } of reports) {
      for (const [what, n] of Object.entries(counts)) totals[what] = (totals[what] ?? 0) + n
    }
    const report: Report = {
      seed,
      tier,
      at,
      commit: commitOf(),
      node: process.version,
      postgres: `${server.version} (${server.kind})`,
      scenarios: reports,
      totals,
      violations: reports.reduce((sum, one) => sum + one.violations.length, 0),
    }
    writeFileSync(options.report, `${JSON.stringify(report, null, 2)}\n`)
    return report
  }
  try {
    console.log(
      `tier ${tier}, seed ${seed}, Postgres ${server.version} (${server.kind}), ` +
        `Node ${process.version}: ${scenarios.map(({ id }) => id).join(", ")}`,
    )
    for (const scenario of scenarios) {
      console.log(`\n${scenario.id} ${scenario.title}`)
      const since = performance.now()
      const say = (line: string) => {
        const seconds = ((performance.now() - since) / 1000).toFixed(0)
        console.log(`  ${seconds.padStart(4)} s  ${line}`)
      }
      const report = await playScenario(scenario, options, server, say)
      reports.push(report)
      save()
      console.log(print(report))
      if (report.violations.length > 0 || report.broke !== null) {
        console.log(
          `replay: FLOWLY_SEED=${seed} npm run test:torture -- --tier ${tier} --scenario ${scenario.id}`,
        )
      }
    }
  } finally {
    await server.stop()
  }
  const report = save()
  const { totals, violations } = report
  const broken = reports.filter(({ broke }) => broke !== null).map(({ id }) => id)
  console.log(
    `\n${list(totals)} · ${violations} violations${broken.length === 0 ? "" : ` · broke: ${broken.join()}`}` +
      ` · ${((performance.now() - began) / 1000).toFixed(0)} s · seed ${seed} · Node ${report.node}` +
      ` · Postgres ${report.postgres} · ${report.commit} · ${options.report}`,
  )
  return violations === 0 && broken.length === 0 ? 0 : 1
}
