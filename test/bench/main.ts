/**
 * How fast, against the least that a durable engine could do.
 *
 * Each case measures the engine and the raw loop that is its limit, in turns, on the same server,
 * round by round; a ratio is the median of the rounds' ratios, for what slows the machine slows
 * both. Nothing does less than an application would: a commit that is durable before a step's
 * promise resolves, fences, heartbeats, the default codec.
 *
 * `--help` tells the options. The JSON that it writes is what `report.ts` puts into the README.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { cpus, totalmem } from "node:os"
import { dirname } from "node:path"
import { cases } from "./cases/index.ts"
import type { Bench, Case, Contender, Prepared, Sample } from "./model.ts"
import { help, type Options, readOptions } from "./options.ts"
import { openServer } from "./server.ts"
import { judge, show, type Summary, summarize, type Verdict } from "./statistics.ts"

/** What was found about a case. */
interface Finding {
  readonly title: string
  readonly contenders: ReadonlyArray<Summary>
  readonly verdicts: ReadonlyArray<Verdict>
  readonly notes: ReadonlyArray<string>
  /** Why it could not be measured to the end. */
  readonly error?: string
}

const say = (line: string) => console.log(line)

/** Those that `--only` names, and what they are compared with. */
const chosenOf = ({ contenders }: Prepared, only: string | undefined): ReadonlyArray<Contender> => {
  if (only === undefined) return contenders
  const named = contenders.filter(({ name }) => name.includes(only))
  const others = new Set(named.flatMap(({ against = [] }) => against))
  return contenders.filter((one) => named.includes(one) || others.has(one.name))
}

const measureCase = async (one: Case, bench: Bench, options: Options): Promise<Finding> => {
  say(`\n${one.id}  ${one.title}`)
  const prepared = await one.prepare(bench)
  try {
    const contenders = chosenOf(prepared, options.only)
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
    // small samples say nothing about targets
    const verdicts = options.quick ? [] : judge(prepared.targets ?? [], summaries)
    const notes = (await prepared.notes?.()) ?? []
    print(summaries, verdicts, notes)
    return { title: one.title, contenders: summaries, verdicts, notes }
  } finally {
    await prepared.close?.()
  }
}

const print = (
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

/** A quick run checks one thing: that runs share commits. */
const costly = (findings: Readonly<Record<string, Finding>>): ReadonlyArray<string> =>
  (findings["W1"]?.contenders ?? [])
    .filter(({ name }) => name.startsWith("flowly"))
    .flatMap(({ name, extras }) => {
      const commits = extras["commits per run"] ?? Number.NaN
      return commits < 1 ? [] : [`${name}: ${show(commits)} commits per run, must be below 1`]
    })

const machineOf = () => ({
  cpus: cpus().length,
  model: cpus()[0]?.model ?? "?",
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  node: process.version,
  platform: `${process.platform} ${process.arch}`,
})

const main = async (options: Options): Promise<boolean> => {
  const server = await openServer()
  const findings: Record<string, Finding> = {}
  try {
    const machine = machineOf()
    say(`${machine.cpus} x ${machine.model}, ${machine.memoryGiB} GiB, Node ${machine.node}`)
    say(`Postgres: ${JSON.stringify(server.settings)}`)
    const { rounds, sizes, statements, quick } = options
    const bench: Bench = { server: server.url, sizes, quick, statements, say }
    for (const one of options.cases) {
      const finding = await measureCase(one, bench, options).catch((error: unknown): Finding => {
        say(`  FAILED: ${error instanceof Error ? error.stack : String(error)}`)
        return { title: one.title, contenders: [], verdicts: [], notes: [], error: String(error) }
      })
      findings[one.id] = finding
      if (options.json === undefined) continue
      // after each case: a long run that is cut off keeps what it has
      mkdirSync(dirname(options.json), { recursive: true })
      const report = { machine, postgres: server.settings, rounds, sizes, cases: findings }
      writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`)
    }
    if (options.json !== undefined) say(`\nwritten: ${options.json}`)
  } finally {
    await server.stop()
  }
  const broken = Object.values(findings).some(({ error }) => error !== undefined)
  const problems = options.quick ? costly(findings) : []
  for (const problem of problems) console.error(problem)
  return !broken && problems.length === 0
}

const options = readOptions(cases)
if (options.help) say(help(cases))
else process.exitCode = (await main(options)) ? 0 : 1
