/**
 * S15: somebody's snapshot stays open, and nothing that dies can be cleaned away, while runs come and
 * go at a steady rate. A claim must not become slow: the 99th percentile of the time from a run's
 * creation to its claim stays below five times what it was before.
 *
 * In full it is twenty minutes (`--minutes 20`); tier T1 has a shorter form.
 */
import * as Result from "effect/Result"
import pg from "pg"
import { defineWorkflow, DurableEngine } from "../../../src/index.ts"
import { claimStatements } from "../../../src/postgres/claimRuns.ts"
import { makeNames } from "../../../src/postgres/names.ts"
import { Place, quick } from "../../processes/harness.ts"
import type { Scenario } from "../scenario.ts"

/** Runs that are started a second. */
const rate = 60
const everyMs = 100
const baselineMs = 20_000
const factor = 5
/** Below this a percentile says more about the machine than about the table. */
const noticeableMs = 20

export const longSnapshot: Scenario = {
  id: "S15",
  title: "a snapshot stays open for --minutes (default 20; T1: 1.5) at a steady load",
  tiers: ["T1", "T2"],
  run: async (context) => {
    const { sized, say, count, measure, violate } = context
    const minutes = context.minutes ?? sized({ T0: 0.5, T1: 1.5, T2: 20 })
    const url = await context.database()
    await using place = await Place.on({ url, drop: async () => undefined })
    const chiming = defineWorkflow("chiming", () => undefined)
    const client = new DurableEngine({ url, workflows: [chiming] })
    context.atEnd(() => client.stop())
    const workers = await Promise.all(
      [1, 2].map(() =>
        place.spawn(
          { worker: { ...quick, maxConcurrent: 40, useNotify: true }, quiet: true },
          { script: "../torture/actor.ts", env: { FLOWLY_CAST: "cron" } },
        ),
      ),
    )
    await Promise.all(workers.map((one) => one.call("start")))

    const load = { over: false }
    const traffic = (async () => {
      while (!load.over) {
        const items = Array.from({ length: (rate * everyMs) / 1000 }, () => ({}))
        const outcomes = await client.triggerMany(chiming, items)
        count("runs", outcomes.filter(({ status }) => status === "fulfilled").length)
        await new Promise((resolve) => setTimeout(resolve, everyMs))
      }
    })()
    const look = new pg.Pool({ connectionString: url, max: 2 })
    context.atEnd(() => look.end())
    /** The first seconds are of cold code. */
    await pause(5000)
    const before = await watch(look, baselineMs, await blocksOf(look))
    say(`before: ${words(before)}`)

    const snapshot = new pg.Client({ connectionString: url, application_name: "torture-snapshot" })
    await snapshot.connect()
    await snapshot.query("begin isolation level repeatable read")
    await snapshot.query("select count(*) from durable_workflow.workflow_runs")
    const over = performance.now() + minutes * 60_000
    let last = before
    while (performance.now() < over) {
      const left = over - performance.now()
      last = await watch(look, Math.min(baselineMs, Math.max(left, 1000)), await blocksOf(look))
      say(`with the snapshot: ${words(last)}`)
    }
    await snapshot.query("rollback")
    await snapshot.end()
    load.over = true
    await traffic

    measure("from creation to claim, p99 before", before.p99)
    measure("from creation to claim, p99 at the end", last.p99)
    count("blocks that a claim reads before", before.blocks)
    count("blocks that a claim reads at the end", last.blocks)
    count("dead tuples at the end", last.dead)
    if (last.p99 > factor * Math.max(before.p99, noticeableMs)) {
      const message = `claims take ${last.p99} ms (p99) at the end, ${before.p99} ms before`
      violate({ invariant: "S15", message, workflowRunId: null })
    }
    const deadline = performance.now() + 30_000
    for (;;) {
      const { rows } = await look.query<{ open: number; failed: number }>(
        `select count(*) filter (where completed_at is null)::int as open,
          count(*) filter (where completed_at is not null and status <> 'completed')::int as failed
        from durable_workflow.workflow_runs`,
      )
      const { open = 0, failed = 0 } = rows[0] ?? {}
      if (failed > 0) {
        violate({ invariant: "I14", message: `${failed} runs failed`, workflowRunId: null })
      }
      if (open === 0) break
      if (performance.now() > deadline) {
        violate({ invariant: "I2", message: `${open} runs have not ended`, workflowRunId: null })
        break
      }
      await pause(100)
    }
  },
}

interface Seen {
  readonly n: number
  readonly p50: number
  readonly p99: number
  readonly blocks: number
  readonly dead: number
}

const words = ({ n, p50, p99, blocks, dead }: Seen) =>
  `${n} claims, median ${p50} ms, p99 ${p99} ms; a claim reads ${blocks} blocks; ${dead} dead tuples`

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

/** Of the runs that are created within a time. */
const watch = async (look: pg.Pool, ms: number, blocks: number): Promise<Seen> => {
  const since = await look.query<{ now: Date }>("select clock_timestamp() as now")
  await pause(ms)
  const { rows } = await look.query<Omit<Seen, "blocks">>(
    `select count(*)::int as n,
      coalesce(percentile_disc(0.5) within group (order by ms), 0)::int as p50,
      coalesce(percentile_disc(0.99) within group (order by ms), 0)::int as p99,
      (select coalesce(sum(n_dead_tup), 0)::int from pg_stat_user_tables
        where schemaname = 'durable_workflow') as dead
    from (
      select extract(epoch from coalesce(started_at, clock_timestamp()) - created_at) * 1000 as ms
      from durable_workflow.workflow_runs where created_at >= $1
    ) waits`,
    [since.rows[0]?.now],
  )
  const [row] = rows
  return { n: 0, p50: 0, p99: 0, dead: 0, ...row, blocks }
}

/** Blocks that a claim touches, now. */
const blocksOf = async (look: pg.Pool): Promise<number> => {
  const names = Result.getOrThrow(makeNames("durable_workflow"))
  const client = await look.connect()
  try {
    await client.query("begin")
    const worker = await client.query<{ id: string }>(
      `select worker_id as id from ${names.workers} where lease_expires_at > clock_timestamp()
      limit 1`,
    )
    const { rows } = await client.query(
      `explain (analyze, buffers, format json) ${claimStatements(names).healthy}`,
      [null, worker.rows[0]?.id, ["chiming"], "5", "26", [""]],
    )
    const plan = rows[0]["QUERY PLAN"][0].Plan
    return (plan["Shared Hit Blocks"] ?? 0) + (plan["Shared Read Blocks"] ?? 0)
  } finally {
    await client.query("rollback")
    client.release()
  }
}
