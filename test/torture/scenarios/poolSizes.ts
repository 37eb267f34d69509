/**
 * S14: small pools and many runs at once. Where a worker cannot work on so few connections, `start`
 * says so, in words; where it can, runs end, transactions among them, and heartbeats never wait behind
 * them.
 */
import pg from "pg"
import { defineWorkflow, DurableEngine, FlowlyError } from "../../../src/index.ts"
import type { Context, Scenario } from "../scenario.ts"

const leaseMs = 3000
/** As many as there are connections take so long, at once if they could. */
const longMs = 2500

interface Setting {
  readonly pool: number
  readonly maxConcurrent: number
  readonly useNotify: boolean
}

/** One for the heartbeat, one for the rest, one for LISTEN; a transaction needs another. */
const needed = ({ useNotify }: Setting) => 2 + (useNotify ? 1 : 0)

export const poolSizes: Scenario = {
  id: "S14",
  title: "Pools of few connections, and many runs at once",
  tiers: ["T0", "T1", "T2"],
  run: async (context) => {
    const { sized } = context
    const every = [1, 2, 4].flatMap((pool) =>
      [1, 16, 256].flatMap((maxConcurrent) =>
        [false, true].map((useNotify): Setting => ({ pool, maxConcurrent, useNotify })),
      ),
    )
    const settings = sized({
      T0: every.filter((one) => one.maxConcurrent === 16 && one.pool <= 2 && !one.useNotify),
      T1: every,
      T2: every,
    })
    const url = await context.database()
    const look = new pg.Pool({ connectionString: url, max: 2 })
    context.atEnd(() => look.end())
    await look.query("create table effects (run uuid not null)")
    for (let round = 0; round < sized({ T0: 1, T1: 1, T2: 5 }); round++) {
      for (const setting of settings) await play(context, url, look, setting)
    }
  },
}

const words = ({ pool, maxConcurrent, useNotify }: Setting) =>
  `${pool} connections, ${maxConcurrent} runs at once, ${useNotify ? "LISTEN" : "no LISTEN"}`

const play = async (context: Context, url: string, look: pg.Pool, setting: Setting) => {
  const { count, say, sized } = context
  const what = words(setting)
  const violate = (message: string) =>
    context.violate({ invariant: "S14", message: `${what}: ${message}`, workflowRunId: null })
  const pool = new pg.Pool({ connectionString: url, max: setting.pool })
  pool.on("error", () => undefined)
  const transactional = setting.pool > needed(setting)
  let longOnes = setting.pool
  const busy = defineWorkflow("busy", async (ctx) => {
    await ctx.step("wait", () => new Promise((resolve) => setTimeout(resolve, 40)))
    if (transactional) {
      await ctx.transaction("pay", async (client, { workflowRunId }) => {
        await client.query("insert into public.effects values ($1::text::uuid)", [workflowRunId])
        // some keep their connection for longer than a heartbeat may be late
        if (longOnes-- > 0) await new Promise((resolve) => setTimeout(resolve, longMs))
      })
    }
    return ctx.step("after", () => 1)
  })
  const { maxConcurrent, useNotify } = setting
  const engine = new DurableEngine({
    pool,
    workflows: [busy],
    worker: { maxConcurrent, useNotify, leaseMs, pollIntervalMs: 100, shutdownTimeoutMs: 2000 },
  })
  count("pool settings")
  try {
    await engine.migrate()
    const refused = await engine.start().then(
      () => null,
      (error: unknown) => error,
    )
    if (setting.pool < needed(setting)) {
      const isTyped = refused instanceof FlowlyError && refused.code === "PoolTooSmall"
      if (isTyped) count("settings refused")
      else violate(`start must refuse, and say why: ${String(refused)}`)
      return
    }
    if (refused !== null) return violate(`start refused: ${String(refused)}`)
    const n = sized({ T0: 40, T1: 300, T2: 1000 })
    const late = watchHeartbeats(look)
    const began = performance.now()
    const outcomes = await engine.triggerMany(
      busy,
      Array.from({ length: n }, () => ({})),
    )
    const handles = outcomes.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []))
    if (handles.length !== n) violate(`${n - handles.length} runs were not started`)
    const limitMs = 20_000 + (n / maxConcurrent) * 1000
    const limit = Promise.withResolvers<false>()
    const timer = setTimeout(() => limit.resolve(false), limitMs)
    const ended = await Promise.race([
      Promise.all(handles.map((handle) => handle.result())).then(() => true),
      limit.promise,
    ]).finally(() => clearTimeout(timer))
    if (!ended) violate(`stalled: not all of ${n} runs ended within ${limitMs} ms`)
    count("runs", n)
    const oldest = await late()
    context.measure("oldest heartbeat", oldest)
    // past two thirds a worker takes on nothing more
    if (oldest > (leaseMs * 2) / 3) violate(`a heartbeat was ${oldest} ms old`)
    const { rows } = await look.query<{ n: number; runs: number }>(
      "select count(*)::int as n, count(distinct run)::int as runs from effects",
    )
    const paid = transactional ? n : 0
    if (rows[0]?.n !== paid || rows[0]?.runs !== paid) {
      violate(`${rows[0]?.n} payments of ${rows[0]?.runs} runs, not ${paid}`)
    }
    say(`${what}: ${n} runs in ${Math.round(performance.now() - began)} ms`)
  } finally {
    await engine.stop()
    await pool.end()
    await look.query("truncate effects")
  }
}

/** Answers how old the worker's heartbeat ever was. */
const watchHeartbeats = (look: pg.Pool): (() => Promise<number>) => {
  let oldest = 0
  const watch = { over: false }
  const watching = (async () => {
    while (!watch.over) {
      const { rows } = await look.query<{ ms: number | null }>(
        `select max(extract(epoch from clock_timestamp() - heartbeat_at) * 1000)::int as ms
        from durable_workflow.workflow_workers where retired_at is null`,
      )
      oldest = Math.max(oldest, rows[0]?.ms ?? 0)
      await new Promise((resolve) => setTimeout(resolve, 30))
    }
  })()
  return async () => {
    watch.over = true
    await watching
    return oldest
  }
}
