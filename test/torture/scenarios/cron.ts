/**
 * S11: schedules, and many who would fire their ticks. Each tick fires once, starts one run, and never
 * comes before its time by the server's clock.
 *
 * First with a clock that the scenario moves, by a second or by more, for thousands of ticks: eight
 * tickers look at once, sessions end under them, and what must have fired is known to the tick. Then
 * with real processes whose clocks are wrong, by an hour this way or that, or jump: whoever fired last
 * is killed, again and again.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import pg from "pg"
import { EngineClock } from "../../../src/EngineClock.ts"
import { DurableEngine } from "../../../src/index.ts"
import * as PostgresStore from "../../../src/PostgresStore.ts"
import { fireDueTicks } from "../../../src/worker/ticker.ts"
import { WorkflowStore } from "../../../src/WorkflowStore.ts"
import { Place, type Process, quick, until } from "../../processes/harness.ts"
import { cronCast } from "../casts.ts"
import type { Context, Scenario } from "../scenario.ts"

export const cron: Scenario = {
  id: "S11",
  title: "Schedules: eight tickers, whoever fires is killed, clocks are wrong",
  tiers: ["T0", "T1", "T2"],
  run: async (context) => {
    const ticks = context.sized({ T0: 1000, T1: 20_000, T2: 1_000_000 })
    const all = context.sized({ T0: 0, T1: 15, T2: 200 })
    // with fewer kills, as many ticks fewer
    const kills = context.times({ T0: 0, T1: 15, T2: 200 })
    await virtualTicks(context, all === 0 ? ticks : Math.ceil((ticks * kills) / all))
    if (kills > 0) await realTicks(context, kills)
  },
}

const tickers = 8
/** 2026-03-01T00:00:00Z */
const start = Date.UTC(2026, 2, 1)
const nothing = { codec: "json", json: "null" } as const

/** How many seconds are between two ticks, and the rule that says so. */
const rules: ReadonlyArray<readonly [number, string]> = [
  ...[2, 3, 5, 10, 15, 30].map((s) => [s, `*/${s} * * * * *`] as const),
  ...[1, 2, 5].map((m) => [m * 60, `0 */${m} * * * *`] as const),
  ...Array.from({ length: 16 }, () => [1, "* * * * * *"] as const),
]

type Store = WorkflowStore["Service"]

const virtualTicks = async (context: Context, atLeast: number): Promise<void> => {
  const { dice, count, say } = context
  const url = await context.database()
  const clock = { now: start + 1 }
  const scope = Scope.makeUnsafe()
  context.atEnd(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  const engineClock = Layer.succeed(EngineClock, { now: Effect.sync(() => clock.now) })
  const open = (): Promise<Store> =>
    Effect.runPromise(
      Effect.map(
        Layer.buildWithScope(
          Layer.provide(
            PostgresStore.layerUrl({ url, maxConnections: 2, applicationName: "flowly-ticker" }),
            engineClock,
          ),
          scope,
        ),
        (built) => built.mapUnsafe.get(WorkflowStore.key) as Store,
      ),
    )
  const stores = await Promise.all(Array.from({ length: tickers }, open))
  const [first] = stores as [Store]
  await Effect.runPromise(first.migrate)
  const schedules = rules.map(([seconds, rule], n) => ({
    key: `every ${rule} ${n}`,
    seconds,
    rule,
  }))
  for (const { key, seconds, rule } of schedules) {
    const schedule = { key, workflow: key, version: null, cron: rule, timeZone: "UTC" }
    const nextTick = start + seconds * 1000
    await Effect.runPromise(
      first.upsertSchedule({ ...schedule, input: nothing, enabled: true, nextTick }),
    )
  }
  const look = new pg.Pool({ connectionString: url, max: 2 })
  context.atEnd(() => look.end())

  const expected = new Map(schedules.map(({ key }) => [key, new Set<number>()]))
  let ticks = 0
  let told = 0
  while (ticks < atLeast && context.violations() === 0) {
    const seconds = dice.chance(0.9) ? 1 : dice.whole(2, 200)
    clock.now += seconds * 1000 + (dice.chance(0.2) ? dice.whole(-300, 300) : 0)
    for (const { key, seconds: every } of schedules) {
      // of those that were missed the newest
      const newest = Math.floor(clock.now / (every * 1000)) * every * 1000
      const known = expected.get(key)
      if (newest <= start || known === undefined || known.has(newest)) continue
      known.add(newest)
      ticks++
    }
    const firing = stores.map((store) => Effect.runPromise(Effect.exit(fireDueTicks(store))))
    if (dice.chance(0.1)) {
      await look.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = 'flowly-ticker'
        order by random() limit $1`,
        [dice.whole(1, tickers)],
      )
      count("backend kills")
    }
    await Promise.all(firing)
    // whatever became of those: somebody lives
    await until("all that is due has fired", async () => {
      const exit = await Effect.runPromise(Effect.exit(fireDueTicks(first)))
      return Exit.isSuccess(exit) && exit.value.fired === 0
    })
    if (ticks - told >= 1000) {
      told = ticks
      await judge(context, look)
      say(`${ticks} virtual ticks`)
    }
  }
  count("virtual ticks", ticks)
  if (context.violations() === 0) await judge(context, look)
  await countFired(context, look)
  const { rows } = await look.query<{ key: string; ticks: Array<Date> }>(
    `select schedule_key as key, array_agg(tick order by tick) as ticks
    from durable_workflow.schedule_ticks group by 1`,
  )
  const fired = new Map(rows.map((row) => [row.key, new Set(row.ticks.map(Number))]))
  for (const [key, due] of expected) {
    const own = fired.get(key) ?? new Set()
    const missing = [...due].filter((tick) => !own.has(tick))
    const foreign = [...own].filter((tick) => !due.has(tick))
    if (missing.length + foreign.length === 0) continue
    const message = `${key}: ${missing.length} ticks never fired, ${foreign.length} fired that are none`
    context.violate({ invariant: "I11", message, workflowRunId: null })
  }
}

/** Whatever was due: one run for each tick that fired, none before its time, none without a tick. */
const judge = async ({ violate }: Context, look: pg.Pool): Promise<void> => {
  const { rows } = await look.query<{ what: string; key: string; tick: Date; run: string | null }>(
    `select 'has ' || count(r.*) || ' runs' as what, t.schedule_key as key, t.tick, null as run
      from durable_workflow.schedule_ticks t
      left join durable_workflow.workflow_runs r
        on r.workflow = split_part(t.schedule_key, '#', 1) and r.scheduled_for = t.tick
          and (r.workflow_run_id = t.workflow_run_id or strpos(t.schedule_key, '#') = 0)
      group by t.schedule_key, t.tick having count(r.*) <> 1
    union all
    select 'fired before its time', schedule_key, tick, workflow_run_id
      from durable_workflow.schedule_ticks where fired_at < tick
    union all
    select 'is no tick of it', schedule_key, tick, workflow_run_id
      from durable_workflow.schedule_ticks where date_trunc('second', tick) <> tick
    union all
    select 'a run without a tick', r.workflow, r.scheduled_for, r.workflow_run_id
      from durable_workflow.workflow_runs r where not exists (
        select from durable_workflow.schedule_ticks t where t.workflow_run_id = r.workflow_run_id)
    limit 50`,
  )
  for (const { what, key, tick, run } of rows) {
    const message = `${key}, ${tick?.toISOString()}: ${what}`
    violate({ invariant: "I11", message, workflowRunId: run })
  }
}

const countFired = async ({ count }: Context, look: pg.Pool): Promise<void> => {
  const all = await look.query<{ n: number }>(
    "select count(*)::int as n from durable_workflow.schedule_ticks",
  )
  count("ticks fired", all.rows[0]?.n ?? 0)
}

const hour = 3_600_000
/** What is wrong with the clock of each process. */
const clocks: ReadonlyArray<Readonly<Record<string, string>>> = [
  {},
  { FLOWLY_SHIFT_MS: `${hour}` },
  { FLOWLY_SHIFT_MS: `${-hour}` },
  { FLOWLY_SHIFT_MS: `${hour}`, FLOWLY_SWING: "1" },
  { FLOWLY_SHIFT_MS: "1700" },
  { FLOWLY_SHIFT_MS: "-1700" },
  { FLOWLY_SHIFT_MS: "90000", FLOWLY_SWING: "1" },
  {},
]

const keys = ["chiming#1", "chiming#2", "chiming#3"]

const realTicks = async (context: Context, kills: number): Promise<void> => {
  const { dice, count, say, measure } = context
  const url = await context.database()
  await using place = await Place.on({ url, drop: async () => undefined })
  // each process has a role, so that it can be told who fired
  const prefix = new URL(url).pathname.slice(-12).replaceAll(/\W/g, "_")
  const roles = clocks.map((_, n) => `flowly_tick_${prefix}_${n}`)
  for (const role of roles) {
    await place.query(`create role ${role} login superuser password 'torture'`)
  }
  const look = new pg.Pool({ connectionString: url, max: 2 })
  context.atEnd(async () => {
    for (const role of roles) await look.query(`drop role ${role}`)
    await look.end()
  })
  await place.query(
    `create table fired (seq bigint generated always as identity, who text, tick timestamptz);
    create function on_fired() returns trigger language plpgsql as $$ begin
      insert into fired (who, tick) values (session_user, new.tick); return null;
    end $$;
    create trigger fired after insert on durable_workflow.schedule_ticks
      for each row execute function on_fired()`,
  )
  const begin = async (n: number): Promise<Process> => {
    const own = new URL(url)
    own.username = roles[n] ?? ""
    own.password = "torture"
    const worker = { ...quick, leaseMs: 1500, useNotify: n % 2 === 0 }
    const wrong = clocks[n]?.["FLOWLY_SHIFT_MS"] !== undefined
    const one = await place.spawn(
      { url: own.href, witnessUrl: url, worker, quiet: true },
      {
        script: "../torture/actor.ts",
        env: { FLOWLY_CAST: "cron", ...clocks[n] },
        ...(wrong ? { preload: "shifted.ts" } : {}),
      },
    )
    await one.call("start")
    return one
  }
  const processes = await Promise.all(clocks.map((_, n) => begin(n)))
  const silent = { note: async () => 0, seen: async () => undefined, close: async () => undefined }
  const { chiming } = cronCast(silent)
  const client = new DurableEngine({ url, workflows: [chiming] })
  context.atEnd(() => client.stop())
  for (const key of keys) await client.schedule(chiming, { cron: "* * * * * *", key })
  const began = await nowOf(place)
  const leader = async () => {
    const [last] = await place.query<{ who: string }>(
      "select who from fired order by seq desc limit 1",
    )
    return roles.indexOf(last?.who ?? "")
  }
  const replace = async (n: number) => {
    processes[n] = await begin(n)
  }
  const replaced: Array<Promise<void>> = []
  let killed = 0
  for (let n = 0; killed < kills && n < 10 * kills; n++) {
    await new Promise((resolve) => setTimeout(resolve, dice.whole(300, 2500)))
    const at = await leader()
    if (at < 0) continue
    killed++
    processes[at]?.signal("SIGKILL")
    count("kills")
    count("kills of the one that fired last")
    replaced.push(replace(at))
    say(`${killed} kills; it was ${JSON.stringify(clocks[at])}`)
  }
  await Promise.all(replaced)
  // those that are left go on by themselves
  const peace = await nowOf(place)
  await until("each schedule has fired what was due", async () => {
    const rows = await place.query<{ n: number }>(
      `select count(distinct schedule_key)::int as n from durable_workflow.schedule_ticks
      where tick > $1`,
      [new Date(peace + 2000)],
    )
    return rows[0]?.n === keys.length
  })
  for (const key of keys) await client.unschedule(key)
  await until("all runs have ended", async () => {
    const open = await place.query(
      "select from durable_workflow.workflow_runs where completed_at is null limit 1",
    )
    return open.length === 0
  })
  const seconds = (await nowOf(place)) - began
  await judge(context, look)
  await countFired(context, look)
  const runs = await place.query<{ run: string; status: string; keys: number; late: number }>(
    `select r.workflow_run_id as run, r.status, count(distinct l.key)::int as keys,
      (extract(epoch from t.fired_at - t.tick) * 1000)::float8 as late
    from durable_workflow.workflow_runs r
    join durable_workflow.schedule_ticks t using (workflow_run_id)
    left join ledger l on l.run = r.workflow_run_id
    group by r.workflow_run_id, r.status, t.fired_at, t.tick`,
  )
  for (const { run, status, keys: effects, late } of runs) {
    measure("from a tick to its firing", late)
    if (status === "completed" && effects === 1) continue
    const message = `a tick's run is ${status}, and took effect ${effects} times`
    context.violate({ invariant: "I7", message, workflowRunId: run })
  }
  count("runs", runs.length)
  count("ticks passed over", Math.max(0, Math.round(seconds / 1000) * keys.length - runs.length))
  await Promise.all(processes.map((one) => one.signal("SIGTERM")))
}

const nowOf = async (place: Place): Promise<number> => {
  const [row] = await place.query<{ now: Date }>("select clock_timestamp() as now")
  return row?.now.getTime() ?? Number.NaN
}
