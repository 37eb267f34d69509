/**
 * S21b: what runs leave behind in their process. It executes runs of all kinds, hundreds at once, until
 * all have ended; then it rests, and its heap right behind a collection, its handles and its sessions
 * must be as after the round before. Nothing goes wrong meanwhile: so it has as many runs in a quarter
 * of an hour as the soak in two, and what is measured is not in the middle of anything.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { DurableEngine } from "../../../src/index.ts"
import { withClient } from "../../support/provision.ts"
import { makeClient } from "../client.ts"
import { Fleet } from "../fleet.ts"
import { makeObserver } from "../observer.ts"
import { eventually } from "../programs.ts"
import type { Context, Scenario } from "../scenario.ts"
import type { Vitals } from "../worker.ts"
import { witnessTables } from "../witness.ts"
import { makeWorkload } from "../workload.ts"
import { boundedYoung, trendOf } from "./soak.ts"

/** After a round. */
export interface AtRest {
  /** So far. */
  readonly runs: number
  readonly sessions: number
  readonly vitals: Pick<Vitals, "heapMb" | "handles" | "contexts">
}

const inFlight = 200
const startsOfRound = 1000

export const S21b: Scenario = {
  id: "S21b",
  title: "what runs leave behind in a process that rests, for --minutes (default 15)",
  tiers: ["T2"],
  run: async (context) => {
    const until = performance.now() + (context.minutes ?? 15) * 60_000
    const { dice, say, count } = context
    const url = await context.database()
    const migrator = new DurableEngine({ url, workflows: [] })
    await migrator.migrate()
    await migrator.stop()
    await withClient(url, (client) => client.query(witnessTables))
    const workload = makeWorkload(dice.fork(), { starts: 200_000, slowMs: 50 })
    const folder = await mkdtemp(path.join(tmpdir(), "flowly-workload-"))
    context.atEnd(() => rm(folder, { recursive: true, force: true }))
    const file = path.join(folder, "workload.json")
    await writeFile(file, JSON.stringify({ ...workload, starts: [] }))

    const broke = (name: string, message: string) =>
      context.violate({ invariant: "I15", message: `${name}: ${message}`, workflowRunId: null })
    const observer = makeObserver(url)
    context.atEnd(() => observer.close())
    const fleet = new Fleet({
      url,
      prefix: `flowly_${path.basename(new URL(url).pathname).slice(-14)}`,
      dice: dice.fork(),
      workload: file,
      isWatched: false,
      worker: { pollIntervalMs: 200, maxConcurrent: inFlight },
      size: 1,
      spares: 0,
      direct: true,
      flags: boundedYoung,
      tell: () => undefined,
      onCrash: (name, how, stderr) => broke(name, `ended by itself (${how}): ${stderr}`),
      onFailure: (name, what, message) => broke(name, `${what}: ${message}`),
    })
    context.atEnd(() => fleet.end())
    await fleet.fill()
    const [one] = fleet.everyone
    if (one === undefined) throw new Error("there is no process")
    await one.started
    const client = makeClient({ url, workload, dice: dice.fork(), tell: () => undefined })
    context.atEnd(() => client.stop())

    const open = () =>
      observer.query<{ id: string; workflow: string; status: string }>(
        `select workflow_run_id::text as id, workflow, status from durable_workflow.workflow_runs
        where completed_at is null`,
      )
    const samples: Array<AtRest> = []
    while (performance.now() < until) {
      const goal = client.begun() + startsOfRound
      await eventually(
        `all runs of round ${samples.length + 1} have ended`,
        async () => {
          const runs = await open()
          client.serve(runs)
          const paused = runs.filter(({ status }) => status === "paused")
          if (paused.length > 0) await client.resume(paused.map(({ id }) => id))
          for (let n = runs.length; n < inFlight && client.begun() < goal; n++) client.start()
          return client.begun() >= goal && client.settled() && runs.length === 0
        },
        300_000,
      )
      // what the first collection finds unused, the second takes away
      await one.vitals()
      const vitals = await one.vitals()
      const [row] = await observer.query<{ runs: number; steps: number; sessions: number }>(
        `select (select count(*)::int from durable_workflow.workflow_runs) as runs,
          (select count(*)::int from durable_workflow.workflow_steps) as steps,
          (select count(*)::int from pg_stat_activity where usename = '${one.role}') as sessions`,
      )
      if (vitals === null || row === undefined) throw new Error("the process tells nothing")
      samples.push({ runs: row.runs, sessions: row.sessions, vitals })
      count("rounds")
      count("runs", row.runs - (samples.at(-2)?.runs ?? 0))
      const { heapMb, handles } = vitals
      say(`${row.runs} runs: heap ${heapMb} MB, ${handles} handles, ${row.sessions} sessions`)
    }
    for (const left of await fleet.close(40_000)) broke(left, "did not end when it was told to")
    judgeRest(context, samples)
  },
}

/** What the least that could be kept of a run takes: an entry in a map, without the id that is its key. */
const leakBytes = 24

export const judgeRest = (
  context: Pick<Context, "say" | "count" | "violate">,
  samples: ReadonlyArray<AtRest>,
): void => {
  // until then code is compiled, and thrown away again
  const warm = samples.slice(Math.ceil(samples.length / 3))
  const [first, last] = [warm[0], warm.at(-1)]
  if (first === undefined || last === undefined) return
  const violate = (message: string) =>
    context.violate({ invariant: "I15", message, workflowRunId: null })
  const bytes = warm.map(({ runs, vitals }) => [runs, vitals.heapMb * 2 ** 20] as const)
  const { slope, error } = trendOf(bytes)
  const mean = bytes.reduce((sum, [, heap]) => sum + heap, 0) / bytes.length
  const chance = (error / 100) * mean
  const words =
    `heap at rest, of ${last.runs - first.runs} runs:` +
    ` ${slope.toFixed(1)} bytes a run, give or take ${chance.toFixed(1)}`
  context.say(words)
  if (!(2 * chance < leakBytes)) {
    context.say(`these are too few runs to tell ${leakBytes} bytes a run from chance`)
  }
  if (slope - 2 * chance > leakBytes) violate(words)
  for (const [what, before, after] of [
    ["handles", first.vitals.handles, last.vitals.handles],
    ["contexts", first.vitals.contexts, last.vitals.contexts],
    ["sessions", first.sessions, last.sessions],
  ] as const) {
    context.count(`${what}, at first`, before)
    context.count(`${what}, at last`, after)
    if (after > before + 5) violate(`${what} at rest grew from ${before} to ${after}`)
  }
}
