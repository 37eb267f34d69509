/**
 * S8 through the whole engine: two engines on one database, in front of which each commit is cut, at
 * some time, before the server saw it, after it was carried out, or with the commit coming late. Runs
 * end as if nothing had been cut; whoever asks is answered.
 */
import * as Layer from "effect/Layer"
import pg from "pg"
import { DurableEngine } from "../../../src/index.ts"
import { layUnder } from "../../../src/promise/underlay.ts"
import { layerStore } from "../../../src/EngineClock.ts"
import type { DurableEngineOptions } from "../../../src/promise/options.ts"
import { openWitness, witnessTables } from "../../processes/witness.ts"
import type { Dice } from "../../support/dice.ts"
import type { Context } from "../scenario.ts"
import { startWireProxy, type WireProxy } from "../wireProxy.ts"
import { asked, pause, until } from "./asking.ts"
import { all, type Bodies, makeBodies } from "./bodies.ts"
import { cutting, Gate, Plan } from "./cuttingStore.ts"
import { judge, leftovers, playsOf, unfinished } from "./plays.ts"

/** What must have been cut in each way: all that an engine commits. */
const mustBeCut: ReadonlyArray<string> = [
  "registerWorker",
  "renewLease",
  "retireWorker",
  "claimRuns",
  "insertRuns, claimed",
  "insertRuns",
  "commit: step completed",
  "commit: step failed",
  "commit: step retrying",
  "commit: sleep completed",
  "commit: event completed",
  "commit: emit completed",
  "commit: side_effect completed",
  "commit: child completed",
  "commit: timer",
  "commit: undo",
  "commit: Park sleeping",
  "commit: Park waiting",
  "commit: Compensate",
  "commit: RetryRun",
  "commit: Settle completed",
  "commit: Settle compensated",
  "commit: Settle cancelled",
  "commit: Settle failed",
  "commit: HandBack",
  "transact",
  "sendEvents",
  "requestCancel",
  "retryRun",
  "resumeRun",
  "pauseRuns",
  "terminateRuns",
  "wakeRuns",
  "rescheduleRuns",
  "forkRuns",
  "reviseCompensation",
  "upsertSchedule",
  "removeSchedule",
  "fireTick",
  "sweep",
  "refundCrashes",
]

const worker = {
  pollIntervalMs: 50,
  maxConcurrent: 30,
  leaseMs: 6000,
  shutdownTimeoutMs: 3000,
  useNotify: false,
}

/** Two engines on one database, and what stands around them. */
export interface Stage {
  readonly context: Context
  readonly dice: Dice
  readonly plan: Plan
  readonly bodies: Bodies
  readonly proxied: string
  readonly proxy: WireProxy
  readonly gate: Gate
  readonly pool: pg.Pool
  /** The two engines, of which one stops and comes back. */
  readonly engines: Array<DurableEngine>
}

/** Rounds until each kind of commit was cut `quota` times in each way, `maxRounds` at most. */
export const cutEngines = async (
  context: Context,
  sizes: { readonly quota: number; readonly maxRounds: number },
): Promise<void> => {
  const { dice, say } = context
  const url = await context.database()
  const proxy = await startWireProxy(url)
  context.atEnd(proxy.close)
  const pool = new pg.Pool({ connectionString: url, max: 4 })
  pool.on("error", () => undefined)
  context.atEnd(() => pool.end())
  const witness = openWitness(url)
  context.atEnd(witness.close)
  await pool.query(`${witnessTables}; create table charges (run uuid not null)`)

  const plan = new Plan(dice.fork(), sizes.quota)
  const bodies = makeBodies(witness)
  const stage: Stage = {
    context,
    dice,
    plan,
    bodies,
    proxied: proxy.url,
    proxy,
    pool,
    gate: new Gate(),
    engines: [],
  }
  context.atEnd(async () => {
    plan.isOn = false
    await Promise.all(stage.engines.map((engine) => engine.stop()))
  })
  plan.isOn = false
  stage.engines.push(engineOn(stage), engineOn(stage))
  await stage.engines[0]?.migrate()
  plan.isOn = true
  await Promise.all(stage.engines.map(startUntil))

  let told = 0
  for (let round = 1; round <= sizes.maxRounds && context.violations() === 0; round++) {
    await playRound(stage, round)
    context.count("rounds")
    context.count("cuts", plan.total - told)
    told = plan.total
    const missing = plan.missing(mustBeCut)
    say(`round ${round}: ${plan.total} cuts; ${missing.length} kinds of commit want more`)
    if (missing.length === 0) break
  }
  plan.isOn = false
  const missing = plan.missing(mustBeCut)
  context.count("kinds of commit cut in each way", mustBeCut.length - missing.length)
  if (missing.length > 0) {
    const left = missing.map((label) => {
      const { before, after, late } = plan.of(label)
      return `${label} (${before} before, ${after} after, ${late} late)`
    })
    say(`not cut ${sizes.quota} times in each way: ${left.join(", ")}`)
  }
}

const startUntil = (engine: DurableEngine): Promise<void> => asked("start", () => engine.start())

const engineOn = ({ bodies, proxied, proxy, gate, plan, dice }: Stage): DurableEngine => {
  const options: DurableEngineOptions = {
    url: proxied,
    workflows: all(bodies),
    worker,
    logger: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
  }
  layUnder(options, {
    clock: Layer.empty,
    engineClock: layerStore,
    store: cutting({ proxy, gate, plan, dice: dice.fork() }),
    worker: { ...worker, limits: { shortWaitMs: 100 } },
    onEngine: () => {},
    onWorker: () => {},
  })
  return new DurableEngine(options)
}

/** One of each at once, while one engine stops, a tick comes due and a lease lapses. */
const playRound = async (stage: Stage, round: number): Promise<void> => {
  const { context, dice, pool } = stage
  const before = stage.plan.total
  const [expected, disrupted] = await Promise.all([
    Promise.all(
      playsOf(stage, round).map(async (play) => {
        await pause(dice.whole(0, 300))
        return play()
      }),
    ).catch(async (error: Error) => {
      context.violate({
        invariant: "I2",
        message: error.message,
        workflowRunId: null,
        timeline: await unfinished(pool),
      })
      return []
    }),
    Promise.all([restart(stage), tick(stage, round), lapse(stage)]),
  ])
  const lapses = disrupted.reduce((sum, n) => sum + n, 0)
  for (const one of expected) await judge(stage, one, stage.plan.total - before + lapses)
  for (const label of await leftovers(pool)) {
    context.violate({ invariant: "S8", message: label, workflowRunId: null })
  }
}

/** One engine stops in the middle, and another takes its place. */
const restart = async (stage: Stage): Promise<number> => {
  const { engines, dice, context } = stage
  await pause(dice.whole(100, 800))
  const at = dice.whole(0, 1)
  const old = engines[at] as DurableEngine
  const next = engineOn(stage)
  await startUntil(next)
  engines[at] = next
  await pause(dice.whole(0, 100))
  await old.stop()
  context.count("stops")
  return 1
}

/** A worker's lease lapses behind its back, as of one that was frozen. */
const lapse = async ({ pool, dice, context }: Stage): Promise<number> => {
  await pause(dice.whole(100, 1500))
  const { rowCount } = await pool.query(
    `update durable_workflow.workflow_workers set lease_expires_at = clock_timestamp()
    where worker_id = (
      select worker_id from durable_workflow.workflow_workers
      where retired_at is null and lease_expires_at > clock_timestamp() order by random() limit 1
    )`,
  )
  context.count("lapsed leases", rowCount ?? 0)
  return rowCount ?? 0
}

/** A schedule whose tick is due now starts one run. */
const tick = async (stage: Stage, round: number): Promise<number> => {
  const { engines, bodies, pool, dice, context } = stage
  const key = `tick ${round}`
  const either = () => dice.pick(engines)
  await asked("schedule", () => either().schedule(bodies.ticking, { cron: "0 0 1 1 *", key }))
  await pool.query(
    `update durable_workflow.cron_schedules set next_tick = date_trunc('second', clock_timestamp())
    where schedule_key = $1`,
    [key],
  )
  const fired = async () =>
    (
      await pool.query(
        `select status from durable_workflow.workflow_runs where workflow_run_id in
        (select workflow_run_id from durable_workflow.schedule_ticks where schedule_key = $1)`,
        [key],
      )
    ).rows
  await until("the tick's run", async () => {
    const rows = await fired()
    return rows.length > 0 && rows.every(({ status }) => status === "completed")
  })
  await asked("unschedule", () => either().unschedule(key))
  const rows = await fired()
  if (rows.length !== 1) {
    const message = `a tick started ${rows.length} runs`
    context.violate({ invariant: "I11", message, workflowRunId: null })
  }
  context.count("ticks")
  return 0
}
