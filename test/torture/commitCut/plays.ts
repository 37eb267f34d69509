/**
 * What a round plays, and what must come of it: a run of each kind, steered by whoever asks either of
 * the two engines, and the end that it would have had were nothing cut.
 */
import type pg from "pg"
import type { DurableEngine } from "../../../src/index.ts"
import { FlowlyError } from "../../../src/index.ts"
import { asked, mayAskAgain, pause, until } from "./asking.ts"
import type { Bodies, SagaInput } from "./bodies.ts"
import type { Stage } from "./engine.ts"

const conflict = ["RunStateConflict"]

/** The end of a run. */
export interface Expected {
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

/** One of each. */
export const playsOf = (stage: Stage, round: number): ReadonlyArray<() => Promise<Expected>> => {
  const { dice, bodies, engines } = stage
  const { count } = stage.context
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
  return [
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
      // a pause that was cut, and asked for again, may be carried out behind all that
      await until(`the paused run ${run} ends`, async () => {
        const now = await asked("getStatus", () => either().getStatus(run))
        if (now?.status === "paused") {
          count("pauses behind their resume")
          await asked("resume", () => either().resume(run), conflict)
        }
        return now?.status === "completed"
      })
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

/** Holds what became of it against what must have. */
export const judge = async (
  stage: Stage,
  expected: Expected,
  disruptions: number,
): Promise<void> => {
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
export const unfinished = async (pool: pg.Pool): Promise<ReadonlyArray<string>> => {
  const { rows } = await pool.query(
    `select r.*, (select jsonb_agg(to_jsonb(s)) from durable_workflow.workflow_steps s
      where s.workflow_run_id = r.workflow_run_id) as steps
    from durable_workflow.workflow_runs r where r.completed_at is null`,
  )
  const workers = await pool.query("select * from durable_workflow.workflow_workers")
  return [...rows, ...workers.rows].map((row) => JSON.stringify(row))
}

/** What no query would ever claim. */
export const leftovers = async (pool: pg.Pool): Promise<ReadonlyArray<string>> => {
  const { rows } = await pool.query<{ run: string; status: string }>(
    `select workflow_run_id as run, status from durable_workflow.workflow_runs
    where completed_at is not null and worker_id is not null`,
  )
  return rows.map(({ run, status }) => `run ${run} is ${status}, and somebody holds it`)
}
