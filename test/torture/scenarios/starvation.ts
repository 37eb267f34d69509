/**
 * S13: the head of the queue is full of due runs that no worker here can take. A run that one can take
 * is claimed within two polls all the same, by a scan of an index that reads a bounded part of it.
 */
import pg from "pg"
import { defineWorkflow, DurableEngine } from "../../../src/index.ts"
import { claimStatements } from "../../../src/postgres/claimRuns.ts"
import { makeNames } from "../../../src/postgres/names.ts"
import * as Result from "effect/Result"
import type { Context, Scenario } from "../scenario.ts"

const pollIntervalMs = 500
/** Two polls, and what a busy machine takes for the rest. */
const boundMs = 2 * pollIntervalMs + 500

/** Ten times as long: it is not slow, it is starved. */
const patienceMs = 10 * boundMs

/** A claim of one workflow reads a few pages, whatever else is due. */
const maxBlocks = 200

export const starvation: Scenario = {
  id: "S13",
  title: "A queue full of due runs that nobody here knows",
  tiers: ["T0", "T1", "T2"],
  run: async (context) => {
    const { sized, count, say } = context
    const { foreign, triggers } = sized({
      T0: { foreign: 50_000, triggers: 2 },
      T1: { foreign: 50_000, triggers: 20 },
      T2: { foreign: 200_000, triggers: 100 },
    })
    const url = await context.database()
    const pool = new pg.Pool({ connectionString: url, max: 4 })
    context.atEnd(() => pool.end())
    const ours = defineWorkflow("ours", (ctx) => ctx.step("work", () => 1))
    const hopeless = defineWorkflow("hopeless", (ctx) =>
      ctx.step("fails", {
        // not all at once: a wave that is due first is served first, and that is right
        retry: { maxAttempts: 1000, initialDelayMs: 10_000, backoff: "fixed", jitter: true },
        run: () => Promise.reject(new Error("again and again")),
      }),
    )
    const client = new DurableEngine({ url, workflows: [ours, hopeless] })
    context.atEnd(() => client.stop())
    await client.migrate()
    await pool.query("alter table durable_workflow.workflow_runs set (autovacuum_enabled = false)")
    await fill(pool, foreign)
    count("foreign due runs", foreign)
    say(`${foreign} due runs of others stand before ours`)

    const worker = new DurableEngine({
      url,
      workflows: [ours, hopeless],
      worker: { pollIntervalMs, useNotify: false },
    })
    context.atEnd(() => worker.stop())
    await worker.start()
    const measureAll = async (what: string) => {
      for (let i = 0; i < triggers; i++) {
        const { workflowRunId: run, result } = await client.trigger(ours)
        count("runs")
        // one that is never claimed is told as that, not waited for
        if (!(await endsWithin(result(), patienceMs))) {
          const message = `not claimed within ${patienceMs} ms, ${what}${await ahead(pool)}`
          context.violate({ invariant: "S13", message, workflowRunId: run })
          return
        }
        const ms = await waited(pool, run)
        context.measure(`claimed ${what}`, ms)
        if (ms > boundMs) {
          const message = `claimed after ${ms} ms, ${what}; two polls are ${2 * pollIntervalMs} ms`
          context.violate({ invariant: "S13", message, workflowRunId: run })
        }
      }
    }
    await measureAll("behind foreign runs")
    await explain(context, pool, "never analyzed")
    await pool.query("analyze durable_workflow.workflow_runs")
    await explain(context, pool, "analyzed")
    // what fails again and again leaves the head of the queue
    const items = Array.from({ length: sized({ T0: 50, T1: 300, T2: 2000 }) }, () => ({
      priority: -100,
    }))
    await client.triggerMany(hopeless, items)
    count("failing runs", items.length)
    await settles(pool)
    await measureAll("behind failing runs")
  },
}

const endsWithin = (end: Promise<unknown>, ms: number): Promise<boolean> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), ms)
  })
  const ended = end.then(
    () => true,
    () => true,
  )
  return Promise.race([ended, late]).finally(() => clearTimeout(timer))
}

/** Foreign: of another workflow, of another version of ours, paused, and not due yet. */
const fill = (pool: pg.Pool, n: number) =>
  pool.query(
    `insert into durable_workflow.workflow_runs (workflow_run_id, workflow, version, status, ready,
      priority, due_at, input_codec, input, created_at)
    select gen_random_uuid(), case when n % 5 = 0 then 'ours' else 'foreign' || n % 3 end,
      case when n % 5 = 0 then 'other' end, 'pending', n % 7 > 0, -10, to_timestamp(0),
      'json', '1', now() - interval '1 day'
    from generate_series(1, $1) n`,
    [n],
  )

/** Of those that come before ours by their priority. */
const ahead = async (pool: pg.Pool): Promise<string> => {
  const { rows } = await pool.query<{ due: number; tries: number }>(
    `select (select count(*)::int from durable_workflow.workflow_runs
        where workflow = 'hopeless' and (ready or due_at <= clock_timestamp())) as due,
      (select coalesce(sum(attempts), 0)::int from durable_workflow.workflow_steps
        where completed_at is null) as tries`,
  )
  return ` (${rows[0]?.due} failing ones are due, and have been tried ${rows[0]?.tries} times)`
}

const waited = async (pool: pg.Pool, run: string): Promise<number> => {
  const { rows } = await pool.query<{ ms: number }>(
    `select (extract(epoch from started_at - created_at) * 1000)::int as ms
    from durable_workflow.workflow_runs where workflow_run_id = $1`,
    [run],
  )
  return rows[0]?.ms ?? Infinity
}

/** Until each of the failing runs has failed once. */
const settles = async (pool: pg.Pool): Promise<void> => {
  const deadline = performance.now() + 60_000
  for (;;) {
    const { rows } = await pool.query<{ n: number }>(
      `select count(*)::int as n from durable_workflow.workflow_runs
      where workflow = 'hopeless' and started_at is null`,
    )
    if (rows[0]?.n === 0) return
    if (performance.now() > deadline) throw new Error(`${rows[0]?.n} failing runs never started`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

interface Plan {
  readonly "Node Type": string
  readonly "Relation Name"?: string
  readonly "Shared Hit Blocks"?: number
  readonly "Shared Read Blocks"?: number
  readonly Plans?: ReadonlyArray<Plan>
}

const nodes = (plan: Plan): ReadonlyArray<Plan> => [plan, ...(plan.Plans ?? []).flatMap(nodes)]

const explain = async ({ violate, count }: Context, pool: pg.Pool, state: string) => {
  const names = Result.getOrThrow(makeNames("durable_workflow"))
  const client = await pool.connect()
  try {
    await client.query("begin")
    const worker = await client.query<{ id: string }>(
      `select worker_id as id from ${names.workers} where lease_expires_at > clock_timestamp()`,
    )
    const { rows } = await client.query(
      `explain (analyze, buffers, format json) ${claimStatements(names).healthy}`,
      [null, worker.rows[0]?.id, ["ours"], "5", "21", [""]],
    )
    const plan: Plan = rows[0]["QUERY PLAN"][0].Plan
    const blocks = (plan["Shared Hit Blocks"] ?? 0) + (plan["Shared Read Blocks"] ?? 0)
    count("plans")
    const scans = nodes(plan).filter((one) => one["Relation Name"] === "workflow_runs")
    const whole = scans.find((one) => one["Node Type"] === "Seq Scan")
    if (whole !== undefined || scans.length === 0 || blocks > maxBlocks) {
      const types = scans.map((one) => one["Node Type"]).join(", ")
      const message = `a claim on a table that was ${state} reads ${blocks} blocks: ${types}`
      violate({ invariant: "S13", message, workflowRunId: null })
    }
  } finally {
    await client.query("rollback")
    client.release()
  }
}
