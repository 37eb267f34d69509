/**
 * How fast, against the least that a durable engine could do.
 *
 * Two measures, each against a raw loop in the same process, on the same server, in turns:
 *
 * - **many runs**: runs of three steps, all enqueued first, executed 50 at a time. The raw loop
 *   commits, per run, one inserted row per step and one update of the run, on 50 connections.
 * - **one long run**: 1,000 steps in sequence. The raw loop commits one inserted row per step, on
 *   one connection.
 *
 * A ratio above 1 means: faster than a loop that pays one commit for each thing it remembers, and
 * does nothing else. Commits are those of the database (`pg_stat_database`), all connections of the
 * engine included, from its start to its stop.
 *
 *     npm run bench -- [--quick] [--rounds 5] [--runs 2000] [--steps 1000] [--json results.json]
 *
 * The server is DATABASE_URL, or the embedded one with durability on (fsync). `--quick` is a small
 * run that fails if the engine needs a commit or more for each run.
 */
import { writeFileSync } from "node:fs"
import { cpus } from "node:os"
import { parseArgs } from "node:util"
import { startEmbeddedPostgres } from "../../src/embedded.ts"
import { withClient } from "../support/provision.ts"
import { type Driver, longRun, manyRuns, type Sample } from "./flowly.ts"
import { rawLongRun, rawManyRuns } from "./raw.ts"

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    rounds: { type: "string" },
    runs: { type: "string" },
    steps: { type: "string" },
    json: { type: "string" },
  },
})
const number = (text: string | undefined, or: number): number => {
  const given = text === undefined ? or : Number(text)
  if (!Number.isInteger(given) || given < 1) throw new Error(`not a positive number: ${text}`)
  return given
}
const rounds = number(values.rounds, values.quick ? 1 : 5)
const runs = number(values.runs, values.quick ? 400 : 2000)
const steps = number(values.steps, values.quick ? 200 : 1000)
const concurrency = 50

const server = process.env["DATABASE_URL"]
  ? { url: process.env["DATABASE_URL"], stop: async () => {} }
  : await startEmbeddedPostgres()

interface Contender {
  readonly name: string
  readonly unit: string
  readonly measure: () => Promise<Sample>
}

const engine = (driver: Driver): ReadonlyArray<Contender> => [
  {
    name: `many runs, ${driver}`,
    unit: "runs/s",
    measure: () => manyRuns({ server: server.url, driver, runs, concurrency }),
  },
  {
    name: `one long run, ${driver}`,
    unit: "steps/s",
    measure: () => longRun({ server: server.url, driver, steps }),
  },
]

const raw = {
  "many runs": "many runs, raw",
  "one long run": "one long run, raw",
} as const

const contenders: ReadonlyArray<Contender> = [
  {
    name: raw["many runs"],
    unit: "runs/s",
    measure: () => rawManyRuns({ server: server.url, runs, concurrency }),
  },
  ...engine("url"),
  {
    name: raw["one long run"],
    unit: "steps/s",
    measure: () => rawLongRun({ server: server.url, steps }),
  },
  ...engine("pool"),
]

const median = (numbers: ReadonlyArray<number>): number => {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2
}

const text = (value: number): string =>
  value >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(3)

const samples = new Map<string, Array<Sample>>(contenders.map(({ name }) => [name, []]))
let failed = false

try {
  const settings = await withClient(server.url, async (client) => {
    const { rows } = await client.query<{ readonly version: string; readonly fsync: string }>(
      "select current_setting('server_version') as version, current_setting('fsync') as fsync",
    )
    return rows[0]
  })
  const machine = `${cpus().length} x ${cpus()[0]?.model ?? "?"}, Node ${process.version}`
  console.log(`Postgres ${settings?.version}, fsync ${settings?.fsync}; ${machine}`)
  console.log(`${runs} runs of 3 steps, ${concurrency} at a time; one run of ${steps} steps`)

  // the first round warms up: it is not counted, but in a quick run
  for (let round = values.quick ? 1 : 0; round <= rounds; round++) {
    // in turns, and not always in the same order
    const order = contenders.map((_, at) => contenders[(at + round) % contenders.length]!)
    for (const { name, unit, measure } of order) {
      const sample = await measure()
      if (round > 0) samples.get(name)?.push(sample)
      const label = round === 0 ? "warm-up" : `${round}/${rounds}`
      console.log(
        `  ${label.padEnd(8)} ${name.padEnd(20)} ${text(sample.perSecond).padStart(8)} ${unit}, ` +
          `${text(sample.commits / sample.units)} commits each`,
      )
    }
  }

  const summary = contenders.map(({ name, unit }) => {
    const taken = samples.get(name) ?? []
    const rates = taken.map((one) => one.perSecond)
    const [kind] = name.split(", ") as [keyof typeof raw]
    const base = (samples.get(raw[kind]) ?? []).map((one) => one.perSecond)
    return {
      name,
      unit,
      median: median(rates),
      min: Math.min(...rates),
      max: Math.max(...rates),
      // round by round: what slows the machine slows both
      ratioToRaw: median(rates.map((rate, at) => rate / (base[at] ?? Number.NaN))),
      commitsEach: median(taken.map((one) => one.commits / one.units)),
    }
  })
  console.log("")
  for (const row of summary) {
    console.log(
      `${row.name.padEnd(20)} ${text(row.median).padStart(8)} ${row.unit.padEnd(8)}` +
        `(${text(row.min)} to ${text(row.max)})  ` +
        `${row.ratioToRaw.toFixed(2)} x raw, ${text(row.commitsEach)} commits each`,
    )
  }
  const costly = summary.filter(
    ({ name, commitsEach }) => /^many runs, (url|pool)/.test(name) && commitsEach >= 1,
  )
  for (const { name, commitsEach } of costly) {
    failed = true
    console.error(`${name}: ${text(commitsEach)} commits for each run, which must be below 1`)
  }
  if (values.json !== undefined) {
    const report = { machine, ...settings, rounds, runs, steps, concurrency, summary }
    const all = Object.fromEntries(samples)
    writeFileSync(values.json, `${JSON.stringify({ ...report, samples: all }, null, 2)}\n`)
    console.log(`written: ${values.json}`)
  }
} finally {
  await server.stop()
}
process.exitCode = failed ? 1 : 0
