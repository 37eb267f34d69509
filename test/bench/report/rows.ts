/** Which figures the README shows, out of all that were measured. */
import type { Report } from "../measure.ts"
import type { Spread, Summary } from "../statistics.ts"
import { show } from "../statistics.ts"

interface Wanted {
  readonly id: string
  readonly label: string
  /** Of these, the one that is fastest; what is no rate, nearest to its limit. */
  readonly of: RegExp
  /** The beginning of the limit's name. */
  readonly over?: string
}

const wanted: ReadonlyArray<Wanted> = [
  {
    id: "W1",
    label: "runs of three steps, all enqueued, one worker process",
    of: /^flowly url/,
    over: "raw group commit, at",
  },
  { id: "W1", label: "… on a `pg.Pool`", of: /^flowly pool/, over: "raw group commit, at" },
  { id: "W1b", label: "… in the API for Effect, with Schemas", of: /^flowly\/effect/ },
  { id: "W1c", label: "… with three worker processes", of: /^3 processes/ },
  { id: "W2", label: "`trigger` to `result()` of an idle engine, p50", of: /^flowly url, same/ },
  { id: "W2", label: "… with the worker in another process", of: /^flowly url, another/ },
  { id: "W3", label: "one run of many steps", of: /^flowly url/, over: "raw fenced" },
  { id: "W4", label: "replay", of: /^flowly, replay/ },
  { id: "W5", label: "concurrent `trigger`", of: /^flowly trigger\(\), url/ },
  { id: "W5", label: "`triggerMany`", of: /^flowly triggerMany/ },
  { id: "W6", label: "an idle worker, runs asleep", of: /^idle/ },
  { id: "W6", label: "sleeping runs, all due at once", of: /all due$/ },
  { id: "W7", label: "runs of three steps, beside a long history", of: / finished, / },
  { id: "W8", label: "memory of a run that waits inside a step", of: /^flowly/ },
  { id: "W10", label: "runs of three steps, a disk of 2 ms", of: /^flowly runs, 2 ms/ },
  { id: "W10", label: "… a network of 1 ms", of: /^flowly runs, 1 ms/ },
  { id: "W10", label: "one run of many steps, a disk of 2 ms", of: /^flowly steps, 2 ms/ },
  { id: "W10", label: "… a network of 1 ms", of: /^flowly steps, 1 ms/ },
]

const isRate = (unit: string) => /^(runs|steps)\/s$/.test(unit)

/** A contender, and the limit that it is nearest to. */
interface Row {
  readonly label: string
  readonly one: Summary
  readonly limit?: { readonly other: Summary; readonly ratio: Spread }
}

const limitOf = (one: Summary, all: ReadonlyArray<Summary>, over = "") => {
  const name = Object.keys(one.ratios).find((ratio) => ratio.startsWith(over))
  const other = all.find((summary) => summary.name === name)
  const ratio = name === undefined ? undefined : one.ratios[name]
  return other === undefined || ratio === undefined ? undefined : { other, ratio }
}

const rowsOf = (report: Report): ReadonlyArray<Row> =>
  wanted.flatMap(({ id, label, of, over }) => {
    const all = report.cases[id]?.contenders ?? []
    const rows = all
      .filter(({ name, samples }) => of.test(name) && samples.length > 0)
      .map((one): Row => {
        const limit = limitOf(one, all, over)
        return limit === undefined ? { label, one } : { label, one, limit }
      })
    // lengths of histories are not alternatives
    if (id === "W4") return rows.map((row) => ({ ...row, label: row.one.name.slice(8) }))
    const rank = ({ one, limit }: Row) =>
      isRate(one.unit) ? -one.median : (limit?.ratio.median ?? one.median)
    return rows.toSorted((a, b) => rank(a) - rank(b)).slice(0, 1)
  })

const setting = (name: string): string => /at \d+$/.exec(name)?.[0] ?? ""

/** Markdown: flowly, its limit, and the ratio with its spread over the rounds. */
export const caseTable = (report: Report): ReadonlyArray<string> => [
  "| | flowly | against | ratio, and its spread |",
  "|---|---|---|---|",
  ...rowsOf(report).map(({ label, one, limit }) => {
    const at = setting(one.name)
    const flowly = `${show(one.median)} ${one.unit}${at === "" ? "" : ` (${at})`}`
    if (limit === undefined) return `| ${label} | ${flowly} | | |`
    const { other, ratio } = limit
    const spread = `${show(ratio.median)} (${show(ratio.min)} to ${show(ratio.max)})`
    const against = `${show(other.median)} ${other.unit} (${other.name.replace(/, at \d+$/, "")})`
    return `| ${label} | ${flowly} | ${against} | ${spread} |`
  }),
]

/** Markdown: what one run of three steps costs the server and the client. */
export const costTable = (report: Report): ReadonlyArray<string> => {
  const all = report.cases["W1"]?.contenders ?? []
  const names = ["commits per run", "WAL bytes per run", "client CPU ms per run"]
  if (all.length === 0) return []
  return [
    `| a run of three steps | runs/s | commits | WAL bytes | client CPU ms |`,
    "|---|---|---|---|---|",
    ...all.map(
      ({ name, median, extras }) =>
        `| ${name} | ${show(median)} | ` +
        `${names.map((extra) => show(extras[extra] ?? Number.NaN)).join(" | ")} |`,
    ),
  ]
}

/** Markdown: what features cost, as a part of a run without them. */
export const featureTable = (report: Report): ReadonlyArray<string> => {
  const rows = (report.cases["W9"]?.contenders ?? []).flatMap(({ name, ratios }) =>
    Object.values(ratios).map((ratio) => `| ${name} | ${Math.round(ratio.median * 100)} % |`),
  )
  return rows.length === 0 ? [] : ["| with | of the throughput without |", "|---|---|", ...rows]
}

/** Markdown: the other systems, each at its best setting. */
export const peerTable = (report: Report): ReadonlyArray<string> => {
  const of = (id: string) => report.cases[id]?.contenders ?? []
  const family = (name: string) => name.replace(/[,(].*$/, "").trim()
  const families = [...new Set(["W1", "W2", "W3"].flatMap((id) => of(id)).map((c) => c.name))]
  const best = (id: string, name: string, direction: 1 | -1): Summary | undefined =>
    of(id)
      .filter((one) => family(one.name) === name)
      .toSorted((a, b) => direction * (a.median - b.median))[0]
  const cell = (value: number | undefined) => (value === undefined ? "" : show(value))
  return [
    "| | runs/s | commits per run | client CPU ms per run | latency, p50 | steps/s of one run |",
    "|---|---|---|---|---|---|",
    ...[...new Set(families.map(family))].map((name) => {
      const runs = best("W1", name, -1)
      const note = runs?.name.includes("jobs without steps") ? " (jobs without steps)" : ""
      const latency = best("W2", name, 1)
      const cells = [
        cell(runs?.median),
        cell(runs?.extras["commits per run"]),
        cell(runs?.extras["client CPU ms per run"]),
        latency === undefined ? "" : `${show(latency.median)} ms`,
        cell(best("W3", name, -1)?.median),
      ]
      return `| ${name}${note} | ${cells.join(" | ")} |`
    }),
  ]
}

/** Runs per second of everything that executed W1: for the plot. */
export const throughputs = (reports: ReadonlyArray<Report>) => {
  const best = new Map<string, number>()
  for (const { name, median } of reports.flatMap((one) => one.cases["W1"]?.contenders ?? [])) {
    if (name.includes("claimed before")) continue
    const label = name.replace(/, at \d+$/, "").replace(/^flowly url$/, "flowly")
    best.set(label, Math.max(best.get(label) ?? 0, median))
  }
  return Array.from(best, ([label, value]) => ({ label, value }))
    .filter(({ value }) => value > 0)
    .toSorted((a, b) => b.value - a.value)
}
