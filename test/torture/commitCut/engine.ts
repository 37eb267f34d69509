/**
 * S8 through the whole engine: two engines on one database, in front of which each commit is cut, at
 * some time, before the server saw it, after it was carried out, or with the commit coming late. Runs
 * end as if nothing had been cut; whoever asks is answered.
 */
import * as Layer from "effect/Layer"
import pg from "pg"
import { DurableEngine, FlowlyError } from "../../../src/index.ts"
import { layUnder } from "../../../src/promise/underlay.ts"
import { layerStore } from "../../../src/EngineClock.ts"
import type { DurableEngineOptions } from "../../../src/promise/options.ts"
import { openWitness, witnessTables } from "../../processes/witness.ts"
import type { Dice } from "../../support/dice.ts"
import type { Context } from "../scenario.ts"
import { startWireProxy, type WireProxy } from "../wireProxy.ts"
import { all, type Bodies, makeBodies, type SagaInput } from "./bodies.ts"
import { cutting, Gate, Plan } from "./cuttingStore.ts"

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

interface Stage {
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
  context.count(
    "kinds of commit cut in each way",
    mustBeCut.length - plan.missing(mustBeCut).length,
  )
  const never = mustBeCut.filter((label) => Object.values(plan.of(label)).every((n) => n === 0))
  if (never.length > 0) say(`never cut: ${never.join(", ")}`)
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

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

const patienceMs = 30_000

/** Asks until there is an answer. `already`: an answer that says that it was done before. */
const asked = async <A>(
  what: string,
  ask: () => Promise<A>,
  already: ReadonlyArray<string> = [],
): Promise<A | undefined> => {
  const deadline = performance.now() + patienceMs
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      if (!(error instanceof FlowlyError)) throw error
      if (already.includes(error.code)) return undefined
      // an engine that was stopped meanwhile: the next one is asked
      const isOver = !error.retryable && error.code !== "EngineStopped"
      if (isOver || performance.now() > deadline) {
        throw new Error(`${what}: ${error.code}: ${error.message}`, { cause: error })
      }
      await pause(10)
    }
  }
}

/** A trigger finds out by itself what became of its insert: it may not leave that to its caller. */
const mayAskAgain = ({ code, retryable, details }: FlowlyError): boolean =>
  code === "EngineStopped" ||
  (retryable && (details as { readonly outcome?: unknown }).outcome === "not-applied")

const conflict = ["RunStateConflict"]

interface Expected {
  readonly run: string
  readonly what: string
  readonly status: string
  readonly result?: unknown
  /** Times that each step took effect on a careful service, and how often at least it ran. */
  readonly effects: Readonly<Record<string, number>>
  readonly charges?: number
}

const sagaResult = "reserve charge flaky left right leaf now"
const sagaEffects = { reserve: 1, flaky: 1, left: 1 }

/** One of each, at once. */
const playRound = async (stage: Stage, round: number): Promise<void> => {
  const { context, dice, bodies, engines, pool } = stage
  const { count } = context
  const before = stage.plan.total
  const either = () => dice.pick(engines)
  let triggers = 0
  /** Must not fail, whatever is cut. */
  const trigger = async (name: keyof Bodies, options: Record<string, unknown> = {}) => {
    const definition = bodies[name] as Bodies["leaf"]
    const idempotencyKey = dice.chance(0.5) ? `${name} ${round} ${triggers++}` : undefined
    for (;;) {
      try {
        const given = { ...options, idempotencyKey } as never
        const { workflowRunId } = await either().trigger(definition, given)
        count("runs")
        return workflowRunId
      } catch (error) {
        if (!(error instanceof FlowlyError) || !mayAskAgain(error)) throw error
        await pause(10)
      }
    }
  }
  const go = (run: string) =>
    asked("sendEvent", () => either().sendEvent(run, "go", "now", { id: "go" }))
  const reaches = (run: string, ...statuses: ReadonlyArray<string>) =>
    until(`run ${run} is ${statuses.join(" or ")}`, async () => {
      const now = await asked("getStatus", () => either().getStatus(run))
      return statuses.includes(now?.status ?? "")
    })
  const rests = (run: string) => reaches(run, "waiting", "sleeping")

  const saga = async (input: SagaInput, ends: Partial<Expected>): Promise<Expected> => {
    const run = await trigger("saga", { input })
    await go(run)
    return {
      run,
      what: `saga ${JSON.stringify(input)}`,
      status: "completed",
      result: sagaResult,
      effects: sagaEffects,
      charges: 1,
      ...ends,
    }
  }

  const undone = { ...sagaEffects, fail: 1, "undo reserve": 1, "undo flaky": 1 }
  const plays: ReadonlyArray<() => Promise<Expected>> = [
    () => saga({}, {}),
    () => saga({}, {}),
    () => saga({ fails: true }, { status: "compensated", result: undefined, effects: undone }),
    async () => {
      // its undo gives up: somebody has it tried again
      const failed = await saga(
        { fails: true, undoFails: true },
        { status: "compensated", result: undefined, effects: undone },
      )
      const given = await gaveUp(() => asked("getStatus", () => either().getStatus(failed.run)))
      if (given === "failed") {
        await asked("retryCompensation", () => either().retryCompensation(failed.run), conflict)
      }
      return failed
    },
    async () => ({
      run: await trigger("again", { maxAttempts: 2 }),
      what: "again",
      status: "completed",
      result: "kept",
      effects: { kept: 1 },
    }),
    async () => {
      // its one attempt is used up: somebody gives it another
      const run = await trigger("again", { maxAttempts: 1 })
      await reaches(run, "dead_letter")
      await asked("retry", () => either().retryDeadLetter(run), conflict)
      return { run, what: "revived", status: "completed", result: "kept", effects: { kept: 1 } }
    },
    async () => {
      const run = await trigger("patient")
      await rests(run)
      await asked("cancel", () => either().cancel(run), conflict)
      return {
        run,
        what: "cancelled",
        status: "compensated",
        effects: { reserve: 1, "undo reserve": 1 },
      }
    },
    async () => {
      const run = await trigger("napping")
      await rests(run)
      await asked("cancel", () => either().cancel(run), conflict)
      return { run, what: "cancelled, nothing to undo", status: "cancelled", effects: {} }
    },
    async () => {
      const run = await trigger("patient")
      await rests(run)
      await asked("terminate", () => either().terminate(run), conflict)
      return { run, what: "terminated", status: "cancelled", effects: { reserve: 1 } }
    },
    async () => {
      const run = await trigger("napping")
      await rests(run)
      await asked("wake", () => either().wake(run), conflict)
      return { run, what: "woken", status: "completed", result: "awake", effects: { awake: 1 } }
    },
    async () => {
      const run = await trigger("leaf", { scheduledFor: new Date(Date.now() + 3_600_000) })
      await asked("reschedule", () => either().reschedule(run, new Date(0)), conflict)
      return { run, what: "rescheduled", status: "completed", result: "leaf", effects: { leaf: 1 } }
    },
    async () => {
      const run = await trigger("saga", { input: {} })
      await rests(run)
      await asked("pause", () => either().pause(run), conflict)
      await reaches(run, "paused")
      await asked("resume", () => either().resume(run), conflict)
      await go(run)
      return {
        run,
        what: "paused",
        status: "completed",
        result: sagaResult,
        effects: sagaEffects,
        charges: 1,
      }
    },
    async () => {
      const run = await trigger("leaf")
      await reaches(run, "completed")
      // a fork that is not answered is asked for again, and may be there twice
      await asked("fork", () => either().fork(run))
      return { run, what: "forked", status: "completed", result: "leaf", effects: { leaf: 1 } }
    },
    async () => ({
      run: await trigger("slow"),
      what: "slow",
      status: "completed",
      result: "012345",
      effects: { slow: 6 },
    }),
  ]
  const [expected, disrupted] = await Promise.all([
    Promise.all(
      plays.map(async (play) => {
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

/** The run's status, once it is failed, or compensated already. */
const gaveUp = async (look: () => Promise<any>): Promise<string> => {
  let status = ""
  await until("its undo gave up", async () => {
    status = (await look())?.status ?? ""
    return status === "failed" || status === "compensated"
  })
  return status
}

const until = async (what: string, holds: () => Promise<boolean>): Promise<void> => {
  const deadline = performance.now() + patienceMs
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within ${patienceMs} ms: ${what}`)
    await pause(20)
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

const judge = async (stage: Stage, expected: Expected, disruptions: number): Promise<void> => {
  const { context, pool, engines } = stage
  const { run, what, effects } = expected
  const violate = (invariant: string, message: string) =>
    context.violate({ invariant, message: `${what}: ${message}`, workflowRunId: run })
  const read = () => asked("getStatus", () => (engines[0] as DurableEngine).getStatus(run))
  await until(`${what} ends`, async () => {
    const status = (await read())?.status ?? ""
    return ["completed", "failed", "compensated", "cancelled", "dead_letter"].includes(status)
  }).catch((error: Error) => violate("I2", error.message))
  const status = await read()
  if (status?.status !== expected.status) {
    const error = "error" in (status ?? {}) ? JSON.stringify((status as any).error) : ""
    violate("I14", `it is ${status?.status}, not ${expected.status}: ${error}`)
  }
  if (expected.result !== undefined && (status as any)?.result !== expected.result) {
    violate("I9", `its result is ${JSON.stringify((status as any)?.result)}`)
  }
  const { rows } = await pool.query<{ step: string; keys: number; times: number }>(
    `select step, count(distinct key)::int as keys, count(*)::int as times
    from ledger where run = $1 group by step`,
    [run],
  )
  const seen = new Map(rows.map((row) => [row.step, row]))
  for (const [step, n] of Object.entries(effects)) {
    const { keys = 0, times = 0 } = seen.get(step) ?? {}
    context.count("steps", n)
    // a step's keys are one per use of its name; of an attempt of the run another
    if (keys !== n) violate("I7", `${step} took effect ${keys} times, not ${n}`)
    if (times > 2 * n + disruptions) violate("I6", `${step} ran ${times} times`)
  }
  if (expected.charges !== undefined) {
    const { rows: charges } = await pool.query("select from charges where run = $1", [run])
    if (charges.length !== expected.charges) violate("I7", `charged ${charges.length} times`)
  }
}

/** The state of what has not ended. */
const unfinished = async (pool: pg.Pool): Promise<ReadonlyArray<string>> => {
  const { rows } = await pool.query(
    `select r.*, (select jsonb_agg(to_jsonb(s)) from durable_workflow.workflow_steps s
      where s.workflow_run_id = r.workflow_run_id) as steps
    from durable_workflow.workflow_runs r where r.completed_at is null`,
  )
  const workers = await pool.query("select * from durable_workflow.workflow_workers")
  return [...rows, ...workers.rows].map((row) => JSON.stringify(row))
}

/** What no query would ever claim. */
const leftovers = async (pool: pg.Pool): Promise<ReadonlyArray<string>> => {
  const { rows } = await pool.query<{ run: string; status: string }>(
    `select workflow_run_id as run, status from durable_workflow.workflow_runs
    where completed_at is not null and worker_id is not null`,
  )
  return rows.map(({ run, status }) => `run ${run} is ${status}, and somebody holds it`)
}
