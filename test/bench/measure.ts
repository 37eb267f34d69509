/** Measures a case: its contenders in turns, round by round, and what that comes to. */
import { mkdirSync, writeFileSync } from "node:fs"
import { cpus, totalmem } from "node:os"
import { dirname } from "node:path"
import type { Bench, Case, Contender, Prepared, Sample } from "./model.ts"
import type { Server } from "./server.ts"
import { judge, show, type Summary, summarize, type Verdict } from "./statistics.ts"

/** What was found about a case. */
export interface Finding {
  readonly title: string
  readonly contenders: ReadonlyArray<Summary>
  readonly verdicts: ReadonlyArray<Verdict>
  readonly notes: ReadonlyArray<string>
  /** Why it could not be measured to the end. */
  readonly error?: string
}

/** Those that `--only` names, and what they are compared with. */
const chosenOf = ({ contenders }: Prepared, only: string | undefined): ReadonlyArray<Contender> => {
  if (only === undefined) return contenders
  const named = contenders.filter(({ name }) => name.includes(only))
  const others = new Set(named.flatMap(({ against = [] }) => against))
  return contenders.filter((one) => named.includes(one) || others.has(one.name))
}

/** How a case is measured. */
export interface Rounds {
  readonly rounds: number
  /** No warm-up, and no word on targets: small samples say nothing about them. */
  readonly quick: boolean
  /** Only contenders whose name has this in it, and those they are compared with. */
  readonly only: string | undefined
}

/** All rounds of a case. One that breaks is told, and stops no other. */
export const measureCase = (one: Case, bench: Bench, options: Rounds): Promise<Finding> =>
  measured(one, bench, options).catch((error: unknown): Finding => {
    bench.say(`  FAILED: ${error instanceof Error ? error.stack : String(error)}`)
    return { title: one.title, contenders: [], verdicts: [], notes: [], error: String(error) }
  })

const measured = async (one: Case, bench: Bench, options: Rounds): Promise<Finding> => {
  const { say } = bench
  say(`\n${one.id}  ${one.title}`)
  const prepared = await one.prepare(bench)
  try {
    const contenders = chosenOf(prepared, options.only)
    if (contenders.length === 0) say(`  none of its contenders is named *${options.only}*`)
    const samples = new Map<string, Array<Sample>>(contenders.map(({ name }) => [name, []]))
    // the first round warms up: it is not counted, but in a quick run
    for (let round = options.quick ? 1 : 0; round <= options.rounds; round++) {
      // in turns, and not always in the same order
      const order = contenders.map((_, at) => contenders[(at + round) % contenders.length]!)
      for (const { name, unit, measure } of order) {
        const sample = await measure()
        if (round > 0) samples.get(name)?.push(sample)
        const label = round === 0 ? "warm-up" : `${round}/${options.rounds}`
        say(`  ${label.padEnd(8)}${name.padEnd(40)} ${show(sample.value).padStart(8)} ${unit}`)
      }
    }
    const summaries = summarize(contenders, samples)
    const verdicts = options.quick ? [] : judge(prepared.targets ?? [], summaries)
    const notes = (await prepared.notes?.()) ?? []
    print(say, summaries, verdicts, notes)
    return { title: one.title, contenders: summaries, verdicts, notes }
  } finally {
    await prepared.close?.()
  }
}

const print = (
  say: Bench["say"],
  summaries: ReadonlyArray<Summary>,
  verdicts: ReadonlyArray<Verdict>,
  notes: ReadonlyArray<string>,
) => {
  say("")
  for (const { name, unit, median, min, max, ratios, extras } of summaries) {
    say(
      `  ${name.padEnd(40)} ${show(median).padStart(8)} ${unit}  (${show(min)} to ${show(max)})` +
        Object.entries(ratios)
          .map(
            ([other, ratio]) =>
              `\n      ${show(ratio.median)} x ${other} (${show(ratio.min)} to ${show(ratio.max)})`,
          )
          .join(""),
    )
    const more = Object.entries(extras).map(([extra, value]) => `${extra} ${show(value)}`)
    if (more.length > 0) say(`      ${more.join(", ")}`)
  }
  for (const note of notes) say(`  ${note}`)
  for (const { met, text } of verdicts) say(`  ${met ? "met:   " : "MISSED:"} ${text}`)
}

/** What it was measured on. */
export const machineOf = () => ({
  cpus: cpus().length,
  model: cpus()[0]?.model ?? "?",
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  node: process.version,
  platform: `${process.platform} ${process.arch}`,
})

/** What the runner writes, and `report.ts` reads. */
export interface Report {
  readonly machine: ReturnType<typeof machineOf>
  readonly postgres: Server["settings"]
  readonly rounds: number
  readonly sizes: Bench["sizes"]
  readonly cases: Readonly<Record<string, Finding>>
}

/** Measures all; writes after each, for a long run that is cut off keeps what it has. */
export const measureAll = async (
  cases: ReadonlyArray<Case>,
  server: Server,
  bench: Bench,
  options: Rounds & { readonly json: string | undefined },
): Promise<Report["cases"]> => {
  const machine = machineOf()
  const { say, sizes } = bench
  const { json, rounds } = options
  say(`${machine.cpus} x ${machine.model}, ${machine.memoryGiB} GiB, Node ${machine.node}`)
  say(`Postgres: ${JSON.stringify(server.settings)}`)
  const findings: Record<string, Finding> = {}
  for (const one of cases) {
    findings[one.id] = await measureCase(one, bench, options)
    if (json === undefined) continue
    mkdirSync(dirname(json), { recursive: true })
    const report: Report = { machine, postgres: server.settings, rounds, sizes, cases: findings }
    writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`)
  }
  if (json !== undefined) say(`\nwritten: ${json}`)
  return findings
}
