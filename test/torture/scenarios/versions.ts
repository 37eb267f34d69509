/**
 * S18: two versions of the code share a schema while a deployment rolls, and processes die. A run is
 * executed by code of its own version alone, and waits, unharmed, while there is none; code that says
 * where it has changed takes over the runs of its predecessor.
 *
 * The schema has not been released yet, so there is no older engine to run beside this one: both
 * versions are of the workflows, on one build of the engine.
 */
import { DurableEngine } from "../../../src/index.ts"
import { Place, type Process, quick } from "../../processes/harness.ts"
import { versionCast } from "../casts.ts"
import type { Context, Scenario } from "../scenario.ts"

const worker = { ...quick, leaseMs: 1500 }
/** Fifteen polls. */
const idleMs = 1500
const nobody = { note: async () => 0, seen: async () => undefined, close: async () => undefined }

export const versions: Scenario = {
  id: "S18",
  title: "Two versions of the workflows at once, while processes die",
  tiers: ["T1", "T2"],
  run: async (context) => {
    const rounds = context.sized({ T0: 1, T1: 1, T2: 10 })
    for (let round = 1; round <= rounds; round++) {
      await play(context)
      context.say(`round ${round} of ${rounds}`)
    }
  },
}

const play = async (context: Context): Promise<void> => {
  const { dice, count, sized } = context
  const url = await context.database()
  await using place = await Place.on({ url, drop: async () => undefined })
  const { old, young, patchedOld, patchedNew } = versionCast(nobody)
  const before = new DurableEngine({ url, schema: place.schema, workflows: [old, patchedOld] })
  const after = new DurableEngine({ url, schema: place.schema, workflows: [young, patchedNew] })
  context.atEnd(() => before.stop())
  context.atEnd(() => after.stop())
  const violate = (message: string, run: string | null) =>
    context.violate({ invariant: "S18", message, workflowRunId: run })

  const actor = (cast: string) =>
    place.spawn(
      { worker, quiet: true },
      { script: "../torture/actor.ts", env: { FLOWLY_CAST: cast } },
    )
  const start = async (cast: string): Promise<Process> => {
    const process = await actor(cast)
    await process.call("start")
    return process
  }
  /** What does not come about is a violation; the ledger says what was done instead. */
  const completed = (runs: ReadonlyArray<string>) =>
    Promise.all(runs.map((run) => place.reaches(run, "completed"))).catch((error: Error) =>
      context.violate({ invariant: "I2", message: error.message, workflowRunId: null }),
    )
  const n = sized({ T0: 5, T1: 25, T2: 60 })
  const items = () => Array.from({ length: n }, () => ({ input: { ms: dice.whole(50, 1800) } }))
  const ids = (outcomes: ReadonlyArray<PromiseSettledResult<{ readonly workflowRunId: string }>>) =>
    outcomes.flatMap((one) => (one.status === "fulfilled" ? [one.value.workflowRunId] : []))

  // all is old
  const olds = [await start("old"), await start("old")]
  const oldRuns = ids(await before.triggerMany(old, items()))
  const visits = ids(await before.triggerMany(patchedOld, items()))
  // the new comes, and dies, beside the old
  let young1 = await start("new")
  const newRuns = ids(await after.triggerMany(young, items()))
  const moreOldRuns = ids(await before.triggerMany(old, items()))
  const moreVisits = ids(await after.triggerMany(patchedNew, items()))
  await wait(dice.whole(100, 600))
  young1.signal("SIGKILL")
  olds[0]?.signal("SIGKILL")
  count("kills", 2)
  young1 = await start("new")
  await wait(dice.whole(100, 600))
  // the last of the old dies: runs of the old version wait, whole
  olds[1]?.signal("SIGKILL")
  count("kills")
  await completed(newRuns)
  const allOld = [...oldRuns, ...moreOldRuns]
  const waiting = await place.query<{ id: string; status: string }>(
    `select workflow_run_id as id, status from durable_workflow.workflow_runs
    where workflow_run_id = any($1::uuid[])
      and status not in ('completed', 'pending', 'running', 'sleeping', 'waiting')`,
    [allOld],
  )
  for (const { id, status } of waiting) violate(`without its code a run is ${status}`, id)
  // nobody takes them, to find only then that it does not know them: a token is one claim, or one sweep
  const tokens = async () =>
    new Map(
      (
        await place.query<{ id: string; token: number }>(
          `select workflow_run_id as id, claim_token::int as token
          from durable_workflow.workflow_runs where workflow_run_id = any($1::uuid[])`,
          [allOld],
        )
      ).map(({ id, token }) => [id, token]),
    )
  const first = await tokens()
  await wait(idleMs)
  for (const [id, token] of await tokens()) {
    const grown = token - (first.get(id) ?? 0)
    if (grown > 1) violate(`was given ${grown} tokens in ${idleMs} ms, and nobody knows it`, id)
  }
  // and one comes that knows both
  await start("both")
  await completed(allOld)
  const allVisits = [...visits, ...moreVisits]
  for (const run of allVisits) {
    await ended(place, run).then((status) => {
      // new code marked it, old code took it over, and found a record that it cannot have written
      if (status === "paused") {
        count("visits paused")
        return after.resume(run)
      }
      return undefined
    })
  }
  await completed(allVisits)
  const all = [...allOld, ...newRuns, ...allVisits]
  count("runs", all.length)
  await judge(context, place, all)
}

const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

const ended = async (place: Place, run: string): Promise<string> => {
  const deadline = performance.now() + 60_000
  for (;;) {
    const status = (await place.engine.getStatus(run))?.status ?? ""
    if (status === "completed" || status === "paused" || performance.now() > deadline) return status
    await wait(50)
  }
}

const judge = async ({ violate, count }: Context, place: Place, runs: ReadonlyArray<string>) => {
  const rows = await place.query<{ run: string; version: string | null; steps: Array<string> }>(
    `select r.workflow_run_id as run, r.version,
      array_agg(distinct l.step) as steps
    from durable_workflow.workflow_runs r join ledger l on l.run = r.workflow_run_id
    where r.workflow_run_id = any($1::uuid[]) group by 1, 2`,
    [runs],
  )
  if (rows.length !== runs.length) {
    const message = `${runs.length - rows.length} runs did nothing`
    violate({ invariant: "S18", message, workflowRunId: null })
  }
  for (const { run, version, steps } of rows) {
    count("steps", steps.length)
    const foreign = steps.filter((step) =>
      version === "1" ? !step.startsWith("old ") : version === "2" && !step.startsWith("new "),
    )
    if (foreign.length === 0) continue
    const message = `a run of version ${version} did ${foreign.join(", ")}`
    violate({ invariant: "S18", message, workflowRunId: run })
  }
  const twice = await place.query<{ run: string; step: string }>(
    `select workflow_run_id as run, step_key as step from durable_workflow.workflow_steps
    group by 1, 2 having count(*) > 1`,
  )
  for (const { run, step } of twice) {
    violate({ invariant: "I4", message: `${step} is recorded twice`, workflowRunId: run })
  }
}
