/**
 * S16: steps that take their process with them, and steps that answer with what cannot be kept. The
 * first are dead-lettered after so many claims, the others fail, in words; and nobody who happened to
 * execute beside them comes to harm.
 */
import { DurableEngine } from "../../../src/index.ts"
import { Place, type Process, quick } from "../../processes/harness.ts"
import { deadly, harmless, type Poison, poisonCast } from "../casts.ts"
import type { Context, Scenario } from "../scenario.ts"

const maxCrashes = 3
const worker = { ...quick, leaseMs: 1500, maxCrashes }

const nobody = { note: async () => 0, seen: async () => undefined, close: async () => undefined }

export const poison: Scenario = {
  id: "S16",
  title: "Poison: abort, full heap, endless loop, deep stack, values that cannot be kept",
  tiers: ["T0", "T1", "T2"],
  run: async (context) => {
    const { sized, say } = context
    const { doses, rounds, bystanders } = sized({
      T0: { doses: harmless, rounds: 1, bystanders: 10 },
      T1: { doses: [...deadly, ...harmless], rounds: 1, bystanders: 60 },
      T2: { doses: [...deadly, ...harmless], rounds: 5, bystanders: 200 },
    })
    for (let round = 1; round <= rounds; round++) {
      await play(context, doses, bystanders)
      say(`round ${round} of ${rounds}`)
    }
  },
}

const play = async (context: Context, doses: ReadonlyArray<Poison>, n: number): Promise<void> => {
  const { count, violate } = context
  const url = await context.database()
  await using place = await Place.on({ url, drop: async () => undefined })
  const cast = poisonCast(nobody)
  const engine = new DurableEngine({
    url,
    schema: place.schema,
    workflows: Object.values(cast),
  })
  context.atEnd(() => engine.stop())
  const runs = new Map<string, Poison>()
  for (const poisoned of doses) {
    const input = { poison: poisoned }
    const { workflowRunId } = await engine.trigger(cast.poisoned, { input, priority: -1 })
    runs.set(workflowRunId, poisoned)
  }
  const started = await engine.triggerMany(
    cast.bystander,
    Array.from({ length: n }, () => ({})),
  )
  count("runs", runs.size + n)
  const stage = { over: false }
  const supervisors = [1, 2].map(() => supervise(context, place, stage))
  const left = () =>
    place.query<{ id: string; status: string; workflow: string }>(
      `select workflow_run_id as id, status, workflow from durable_workflow.workflow_runs
      where completed_at is null`,
    )
  const deadline = performance.now() + 180_000
  for (;;) {
    const open = await left()
    if (open.length === 0) break
    const overdue = await runsBeyond(place, runs)
    if (overdue.length > 0) break
    if (performance.now() > deadline) {
      for (const { id, status, workflow } of open) {
        const message = `${runs.get(id) ?? workflow} is ${status} after three minutes`
        violate({ invariant: "I2", message, workflowRunId: id })
      }
      break
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  stage.over = true
  for (const [run, what] of runs) await judge(context, place, engine, run, what)
  const harmed = await place.query<{ id: string; status: string }>(
    `select workflow_run_id as id, status from durable_workflow.workflow_runs
    where workflow = 'bystander' and status <> 'completed'`,
  )
  for (const { id, status } of harmed) {
    violate({ invariant: "S16", message: `a bystander is ${status}`, workflowRunId: id })
  }
  if (started.some((one) => one.status === "rejected")) throw new Error("not all were started")
  await Promise.all(supervisors)
}

/** Deadly ones that were tried more often than they may be: nothing that follows would change it. */
const runsBeyond = async (
  place: Place,
  runs: ReadonlyMap<string, Poison>,
): Promise<ReadonlyArray<string>> => {
  const beyond: Array<string> = []
  for (const [run, what] of runs) {
    if (deadly.includes(what) && (await place.did(run)).length > maxCrashes) beyond.push(run)
  }
  return beyond
}

/** What went wrong is told by the error that the run ends with. */
const errors: Readonly<Record<Poison, RegExp>> = {
  abort: /PoisonRun/,
  memory: /PoisonRun/,
  spin: /PoisonRun/,
  overflow: /RangeError/,
  unserialisable: /SerializationError/,
  cyclic: /SerializationError/,
  huge: /PayloadTooLarge/,
}

const judge = async (
  { violate, count, measure }: Context,
  place: Place,
  engine: DurableEngine,
  run: string,
  what: Poison,
) => {
  const status = await engine.getStatus(run)
  const pids = (await place.ledger(run)).map(({ pid }) => pid)
  const tries = pids.length
  const isDeadly = deadly.includes(what)
  const says = JSON.stringify({ ...(status as any)?.error, name: (status as any)?.error?.name })
  const fail = (message: string) =>
    violate({ invariant: "S16", message: `${what}: ${message}`, workflowRunId: run })
  count("poisons")
  if (status?.status !== (isDeadly ? "dead_letter" : "failed")) {
    fail(`it is ${status?.status}: ${says}`)
  } else if (!errors[what].test(says)) fail(`its error is ${says}`)
  // killed between the claim and the note, a try leaves no trace; and a harmless one that was claimed
  // beside a deadly one dies with it, before its failure is recorded, and runs again elsewhere
  if (tries > maxCrashes || tries === 0) fail(`it ran ${tries} times`)
  if (new Set(pids).size < tries) fail(`one process ran it twice: ${pids.join()}`)
  const { createdAt, completedAt } = status as { createdAt: Date; completedAt?: Date }
  if (isDeadly && completedAt) measure("to the dead letter", +completedAt - +createdAt)
}

/** As an init system does: who dies is replaced, and who gives no sign of life is killed. */
const supervise = async (context: Context, place: Place, stage: { over: boolean }) => {
  while (!stage.over) {
    const process = await place.spawn(
      { worker, quiet: true },
      {
        script: "../torture/actor.ts",
        env: { FLOWLY_CAST: "poison", NODE_OPTIONS: "--max-old-space-size=96" },
      },
    )
    void process.call("start").catch(() => undefined)
    while (!stage.over && !process.hasExited()) {
      await new Promise((resolve) => setTimeout(resolve, 100))
      if (await isSilent(place, process)) {
        process.signal("SIGKILL")
        context.count("kills of the silent")
        await process.exit()
      }
    }
    if (process.hasExited()) context.count("deaths of processes")
    else process.signal("SIGKILL")
  }
}

/** Its lease has lapsed, and it has not noticed. */
const isSilent = async (place: Place, process: Process): Promise<boolean> => {
  const rows = await place.query<{ silent: boolean }>(
    `select bool_and(lease_expires_at < clock_timestamp() - interval '1500 milliseconds') as silent
    from durable_workflow.workflow_workers where label = $1`,
    [`pid ${process.pid}`],
  )
  return rows[0]?.silent === true
}
