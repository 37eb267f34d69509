/** What the command line says, and how large the cases are. */
import { parseArgs } from "node:util"
import type { Case, Sizes } from "./model.ts"

export const help = (cases: ReadonlyArray<Case>): string => `\
How fast flowly is, against raw loops that are its limit, in turns in the same run.

    npm run bench -- [options]

    --case W1,W3      only these cases (default: all; with --quick: W1 and W3)
    --rounds 5        samples of each contender, after one round of warm-up
    --only url        only contenders whose name has this in it (and those they are compared with)
    --quick           small, one round; fails if a run of W1 costs a commit or more
    --json FILE       write all samples (default: .flowly/bench.json; not with --quick)
    --statements      print the heaviest statements of each sample (needs pg_stat_statements)

    --runs 20000              runs of a throughput sample (W1, W7, W9, W10)
    --concurrency 50,200,500  runs at once
    --steps 1000              of the one long run (W3, W10)
    --replays 1000,10000,49000  lengths of histories, below the limit of 50,000 (W4)
    --triggers 20000          starts (W5)
    --latencies 200           triggers of a latency sample (W2)
    --parked 200000           sleeping runs (W6)
    --idle-seconds 10         how long an idle worker is watched (W6)
    --history 5000000         finished runs (W7)
    --foreign 200000          due runs of a workflow that no worker knows (W7)
    --minutes 0               minutes of load for the bloat check (W7)
    --waiting 10000           runs that wait inside a step (W8)

The server is DATABASE_URL (a superuser's), or an embedded one with durability on.

${cases.map(({ id, title }) => `    ${id.padEnd(5)} ${title}`).join("\n")}
`

const full: Sizes = {
  runs: 20_000,
  concurrency: [50, 200, 500],
  steps: 1000,
  replays: [1000, 10_000, 49_000],
  triggers: 20_000,
  latencies: 200,
  parked: 200_000,
  idleSeconds: 10,
  history: 5_000_000,
  foreign: 200_000,
  waiting: 10_000,
  minutes: 0,
}

const small: Sizes = {
  runs: 400,
  concurrency: [50],
  steps: 100,
  replays: [200, 1000],
  triggers: 1000,
  latencies: 30,
  parked: 2000,
  idleSeconds: 2,
  history: 10_000,
  foreign: 2000,
  waiting: 1000,
  minutes: 0,
}

export interface Options {
  readonly help: boolean
  readonly cases: ReadonlyArray<Case>
  readonly rounds: number
  readonly only: string | undefined
  readonly quick: boolean
  readonly json: string | undefined
  readonly statements: boolean
  readonly sizes: Sizes
}

export const readOptions = (all: ReadonlyArray<Case>, json = ".flowly/bench.json"): Options => {
  const { values } = parseArgs({
    options: {
      help: { type: "boolean", default: false },
      case: { type: "string" },
      rounds: { type: "string" },
      only: { type: "string" },
      quick: { type: "boolean", default: false },
      json: { type: "string" },
      statements: { type: "boolean", default: false },
      runs: { type: "string" },
      concurrency: { type: "string" },
      steps: { type: "string" },
      replays: { type: "string" },
      triggers: { type: "string" },
      latencies: { type: "string" },
      parked: { type: "string" },
      "idle-seconds": { type: "string" },
      history: { type: "string" },
      foreign: { type: "string" },
      minutes: { type: "string" },
      waiting: { type: "string" },
    },
  })
  const { quick } = values
  const sizes = quick ? small : full
  const list = (text: string | undefined, or: ReadonlyArray<number>) =>
    text === undefined ? or : text.split(",").map((one) => whole(one, 0, 1))
  return {
    help: values.help,
    cases: chosen(all, values.case ?? (quick ? "W1,W3" : undefined)),
    rounds: whole(values.rounds, quick ? 1 : 5, 1),
    only: values.only,
    quick,
    json: values.json ?? (quick ? undefined : json),
    statements: values.statements,
    sizes: {
      runs: whole(values.runs, sizes.runs, 1),
      concurrency: list(values.concurrency, sizes.concurrency),
      steps: whole(values.steps, sizes.steps, 1),
      replays: list(values.replays, sizes.replays),
      triggers: whole(values.triggers, sizes.triggers, 1),
      latencies: whole(values.latencies, sizes.latencies, 1),
      parked: whole(values.parked, sizes.parked, 1),
      idleSeconds: whole(values["idle-seconds"], sizes.idleSeconds, 1),
      history: whole(values.history, sizes.history, 0),
      foreign: whole(values.foreign, sizes.foreign, 0),
      minutes: whole(values.minutes, sizes.minutes, 0),
      waiting: whole(values.waiting, sizes.waiting, 1),
    },
  }
}

const chosen = (all: ReadonlyArray<Case>, names: string | undefined): ReadonlyArray<Case> => {
  if (names === undefined) return all
  return names.split(",").map((name) => {
    const found = all.find(({ id }) => id.toLowerCase() === name.trim().toLowerCase())
    if (found === undefined) {
      throw new Error(`there is no case ${name}: ${all.map(({ id }) => id).join(", ")}`)
    }
    return found
  })
}

const whole = (text: string | undefined, or: number, least: number): number => {
  const given = text === undefined ? or : Number(text)
  if (!Number.isInteger(given) || given < least) {
    throw new Error(`must be a whole number of at least ${least}: ${text}`)
  }
  return given
}
