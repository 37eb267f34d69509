/**
 * W7: W1 with a history: finished runs in the tables, and due runs of a workflow that no worker of
 * the fleet knows, at the head of the queue.
 *
 * Both are clones of runs that the engine wrote. The plan of the claim is in the output. With
 * `--minutes`, load goes on for so long, and the tables' dead rows and sizes are watched.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type pg from "pg"
import { defineWorkflow } from "../../../src/index.ts"
import { claimRuns } from "../../../src/postgres/claimRuns.ts"
import type { Database } from "../../../src/postgres/database.ts"
import { defaultSchema, makeNames } from "../../../src/postgres/names.ts"
import { registerWorker } from "../../../src/postgres/workers.ts"
import { withClient } from "../../support/provision.ts"
import { checkpoint, freshDatabase } from "../database.ts"
import { cloneRun } from "../flowly/clone.ts"
import { enqueue, migrate, openEngine } from "../flowly/worker.ts"
import { type Input, threeSteps } from "../flowly/workflows.ts"
import { type Bench, type Case, typical } from "../model.ts"
import { openWorker, until } from "../process/workers.ts"
import { show } from "../statistics.ts"
import { engineSample, executed, warmOf } from "./throughput.ts"

const unknown = defineWorkflow("a-workflow-that-nobody-knows", async (_, input: Input) => input)

/** The tables as after years. */
const build = async (bench: Bench, url: string): Promise<void> => {
  const { history, foreign } = bench.sizes
  await migrate(url)
  const { engine, close } = openEngine("url", url, undefined, [threeSteps])
  const stranger = openEngine("url", url, undefined, [unknown])
  const pending = await stranger.engine.trigger(unknown, { input: { n: 0 } })
  await stranger.close()
  await engine.start()
  const finished = await engine.trigger(threeSteps, { input: { n: 0 } })
  await finished.result()
  await close()
  await withClient(url, async (client) => {
    // only for building: it is durable before it is measured
    await client.query("set synchronous_commit = off")
    const million = (done: number) => {
      if (done % 500_000 === 0) bench.say(`  ${show(done)} of ${show(history)} finished runs`)
    }
    const { workflowRunId } = finished
    await cloneRun(client, { workflowRunId, count: history, series: 0, progress: million })
    await cloneRun(client, {
      workflowRunId: pending.workflowRunId,
      count: foreign,
      series: 1,
      set: { due_at: "t.due_at - interval '1 day'", priority: "-1" },
    })
    await client.query("vacuum analyze")
  })
  await checkpoint(bench.server)
}

/** What the store would send: the text and the parameters of each statement, unsent. */
const sentBy = (use: (database: Database) => Effect.Effect<unknown, unknown>) => {
  const sent: Array<{ readonly text: string; readonly values: Array<unknown> }> = []
  const note: Database["write"] = (_, text, values) =>
    Effect.sync(() => {
      sent.push({ text, values: [...values] })
      return []
    })
  const database: Database = {
    names: Result.getOrThrow(makeNames(defaultSchema)),
    read: note,
    write: note,
    now: Effect.succeed(null),
    transaction: (_, statements) => statements,
    inTransaction: Effect.succeed(false),
  }
  Effect.runSync(Effect.exit(use(database)))
  return sent
}

/** The plan of a claim, on the tables as they are. Nothing of it stays. */
const explainClaim = async (url: string): Promise<ReadonlyArray<string>> => {
  await enqueue(url, threeSteps, 200)
  const workerId = crypto.randomUUID()
  const workflows = [{ name: threeSteps.name, version: null }]
  const worker = { workerId, label: "explain", leaseMs: 30_000, capacity: 50, workflows }
  const registered = sentBy((database) => registerWorker(database)(worker))
  const asked = { workerId, workflows, limit: 50, suspects: false }
  const claims = sentBy((database) => claimRuns(database)(asked))
  return withClient(url, async (client) => {
    await client.query("begin")
    try {
      for (const { text, values } of registered) await client.query(text, values)
      const plan: Array<string> = []
      for (const { text, values } of claims) {
        const explained = `explain (analyze, buffers, wal, costs off) ${text}`
        const { rows } = await client.query<{ readonly "QUERY PLAN": string }>(explained, values)
        plan.push(...rows.map((row) => row["QUERY PLAN"]))
      }
      const scans = plan.filter((line) => line.includes("Seq Scan on workflow_runs"))
      return [`the claim, whose plan has ${scans.length} sequential scans of the runs:`, ...plan]
    } finally {
      await client.query("rollback")
    }
  })
}

interface Bloat {
  readonly dead: number
  readonly live: number
  readonly bytes: number
}

const bloatOf = async (client: pg.Client): Promise<Bloat> => {
  const { rows } = await client.query<Bloat>(`
    select sum(n_dead_tup)::float8 as dead, sum(n_live_tup)::float8 as live,
      sum(pg_total_relation_size(relid))::float8 as bytes
    from pg_stat_user_tables where relname in ('workflow_runs', 'workflow_steps')`)
  return rows[0] ?? { dead: 0, live: 0, bytes: 0 }
}

/** Load for so many minutes, as fast as it is worked off; a line for every half of one. */
const watchBloat = async (bench: Bench, url: string): Promise<ReadonlyArray<string>> => {
  const { minutes } = bench.sizes
  const lines: Array<string> = []
  const workflow = threeSteps.name
  const concurrency = typical(bench.sizes)
  const worker = await openWorker({ kind: "flowly", driver: "url", url, workflow, concurrency })
  try {
    await worker.start()
    await withClient(url, async (client) => {
      const began = performance.now()
      const elapsed = () => (performance.now() - began) / 60_000
      let sent = 0
      let next = 0
      while (elapsed() < minutes) {
        sent += 2000
        await enqueue(url, threeSteps, 2000)
        await until(() => worker.count() >= sent - 2000, [worker])
        if (elapsed() < next) continue
        next += 0.5
        const { dead, live, bytes } = await bloatOf(client)
        const line =
          `after ${elapsed().toFixed(1)} min and ${show(sent)} runs: ${show(dead)} dead rows ` +
          `of ${show(live)}, ${show(bytes / 1e6)} MB`
        lines.push(line)
        bench.say(`  ${line}`)
      }
    })
    await worker.stop()
    return lines
  } finally {
    worker.kill()
  }
}

export const w7: Case = {
  id: "W7",
  title: "W1 with finished runs in the tables, and due runs of an unknown workflow at the head",
  prepare: async (bench) => {
    const { history, foreign, runs } = bench.sizes
    const concurrency = typical(bench.sizes)
    const database = await freshDatabase(bench.server)
    const { url } = database
    await build(bench, url)
    const empty = "empty tables"
    const full = `${history} finished, ${foreign} foreign`
    return {
      contenders: [
        {
          name: empty,
          unit: "runs/s",
          measure: () => engineSample(bench, { label: empty, driver: "url", concurrency }),
        },
        {
          name: full,
          unit: "runs/s",
          against: [empty],
          measure: async () => {
            await enqueue(url, threeSteps, runs + warmOf(runs))
            await checkpoint(bench.server)
            const job = { kind: "flowly", driver: "url", workflow: threeSteps.name } as const
            const jobs = [{ ...job, url, concurrency }]
            return executed(bench, { label: full, url, jobs, runs })
          },
        },
      ],
      targets: [{ of: / finished, /, figure: "value", over: empty, atLeast: 0.9 }],
      notes: async () => [
        ...(await explainClaim(url)),
        ...(bench.sizes.minutes > 0 ? await watchBloat(bench, url) : []),
      ],
      close: () => database.drop(),
    }
  },
}
