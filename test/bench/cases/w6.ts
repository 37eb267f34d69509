/**
 * W6: sleeping runs: what they cost while they sleep, and how fast they go on when all are due.
 *
 * One run of a step, a long sleep and a step is put to sleep by the engine; the others are its
 * clones. Nothing but rows is left of a run that sleeps, so a clone is as good.
 */
import type pg from "pg"
import { withClient } from "../../support/provision.ts"
import { freshDatabase, onFreshDatabase, since, statementsOf, topStatements } from "../database.ts"
import { cloneRun } from "../flowly/clone.ts"
import { migrate, openEngine } from "../flowly/worker.ts"
import { sleeper } from "../flowly/workflows.ts"
import { type Bench, type Case, type Sample, typical } from "../model.ts"
import { openWorker } from "../process/workers.ts"
import { engineSample, executed, warmOf } from "./throughput.ts"

const workflow = sleeper.name

/** A run that the engine has put to sleep. */
const putToSleep = async (url: string): Promise<string> => {
  await migrate(url)
  const { engine, close } = openEngine("url", url, undefined, [sleeper])
  await engine.start()
  const handle = await engine.trigger(sleeper, { input: { n: 0 } })
  const deadline = performance.now() + 30_000
  while ((await handle.status())?.status !== "sleeping") {
    if (performance.now() > deadline) throw new Error("the run does not fall asleep")
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  await close()
  return handle.workflowRunId
}

/** So many runs that sleep for a month, and tables whose statistics are known. */
const park = async (url: string, count: number): Promise<void> => {
  const workflowRunId = await putToSleep(url)
  await withClient(url, async (client) => {
    await cloneRun(client, { workflowRunId, count: count - 1, series: 0 })
    await client.query("vacuum analyze")
  })
}

/** All are due since a moment ago. */
const wakeAll = (client: pg.Client) =>
  client.query(`
    with due as (
      update durable_workflow.sleep_timers set wake_at = clock_timestamp() - interval '1 second'
    )
    update durable_workflow.workflow_runs set due_at = clock_timestamp() - interval '1 second'`)

/** What a worker costs that has nothing to do. */
const idle = async (bench: Bench, url: string): Promise<Sample> => {
  const { idleSeconds } = bench.sizes
  const worker = await openWorker({ kind: "flowly", driver: "url", url, workflow, concurrency: 50 })
  try {
    await worker.start()
    await new Promise((resolve) => setTimeout(resolve, 3000))
    const look = () =>
      withClient(bench.server, (client) => statementsOf(client, new URL(url).pathname.slice(1)))
    const [seen, before] = [await look(), await worker.usageAfterCollection()]
    await new Promise((resolve) => setTimeout(resolve, idleSeconds * 1000))
    const [seenAfter, after] = [await look(), await worker.usage()]
    const statements = since(seen, seenAfter)
    if (bench.statements) for (const line of topStatements(statements)) bench.say(`    ${line}`)
    const calls =
      seen.length === 0 ? Number.NaN : statements.reduce((sum, one) => sum + one.calls, 0)
    const collected = await worker.usageAfterCollection()
    await worker.stop()
    return {
      value: calls / idleSeconds,
      extras: {
        "CPU %": ((after.cpu - before.cpu) / 1e6 / idleSeconds) * 100,
        "RSS MB": collected.rss / 1e6,
        "RSS growth MB": (collected.rss - before.rss) / 1e6,
      },
    }
  } finally {
    worker.kill()
  }
}

const drain = (bench: Bench, label: string, concurrency: number): Promise<Sample> =>
  onFreshDatabase(bench.server, async (url) => {
    const runs = bench.sizes.parked
    await park(url, runs + warmOf(runs))
    await withClient(url, wakeAll)
    const jobs = [{ kind: "flowly" as const, driver: "url" as const, url, workflow, concurrency }]
    return executed(bench, { label, url, jobs, runs })
  })

export const w6: Case = {
  id: "W6",
  title: "sleeping runs: idle, and all due at once",
  prepare: async (bench) => {
    const { parked, runs } = bench.sizes
    const concurrency = bench.sizes.concurrency.at(-1) ?? typical(bench.sizes)
    const database = await freshDatabase(bench.server)
    await park(database.url, parked)
    const w1 = `three steps (W1), ${runs} runs`
    const due = `${parked} sleepers, all due`
    return {
      contenders: [
        {
          name: `idle worker, ${parked} asleep`,
          unit: "statements/s",
          measure: () => idle(bench, database.url),
        },
        {
          name: w1,
          unit: "runs/s",
          measure: () => engineSample(bench, { label: w1, driver: "url", concurrency }),
        },
        {
          name: due,
          unit: "runs/s",
          against: [w1],
          measure: () => drain(bench, due, concurrency),
        },
      ],
      targets: [
        { of: /^idle/, figure: "value", atMost: 2 },
        { of: /^idle/, figure: "CPU %", atMost: 1 },
        { of: /all due$/, figure: "value", over: "three steps", atLeast: 0.5 },
        { of: /all due$/, figure: "value", atLeast: 5 * bestPeer },
      ],
      close: () => database.drop(),
    }
  },
}

/** Runs per second of the fastest durable peer with 5,000 sleepers due at once, on 2 cores. */
const bestPeer = 670
