/**
 * S19: a process is told to stop, once or twice, whatever it is at, with time to finish its step or
 * without. It ends by itself, nothing of it runs after it said that it had stopped, and another
 * process continues at once, long before the lease would have lapsed. Nothing is counted as a crash.
 */
import { Place, quick } from "../../processes/harness.ts"
import type { Context, Scenario } from "../scenario.ts"

const leaseMs = 30_000
const pollIntervalMs = 200
/** Two polls, and what a busy machine takes for the rest. */
const soonMs = 2 * pollIntervalMs + 3000

const states = ["idle", "claiming", "in a step", "sleeping", "compensating"] as const
type State = (typeof states)[number]

interface Cell {
  readonly state: State
  readonly signals: 1 | 2
  readonly shutdownTimeoutMs: number
}

const every: ReadonlyArray<Cell> = states.flatMap((state) =>
  ([1, 2] as const).flatMap((signals) =>
    [100, 5000].map((shutdownTimeoutMs): Cell => ({ state, signals, shutdownTimeoutMs })),
  ),
)

export const shutdown: Scenario = {
  id: "S19",
  title: "Shutdown: what it is at, once or twice told, with time or without",
  tiers: ["T0", "T1", "T2"],
  run: async (context) => {
    const { sized, say, count } = context
    const cells = sized({
      T0: every.filter(
        (cell) => cell.state === "in a step" && cell.signals === 2 && cell.shutdownTimeoutMs < 1000,
      ),
      T1: every,
      T2: every,
    })
    const rounds = sized({ T0: 1, T1: 1, T2: 50 })
    for (let round = 1; round <= rounds; round++) {
      for (const cell of cells) {
        await play(context, cell)
        count("shutdowns")
      }
      say(`round ${round} of ${rounds}: ${cells.length} cells`)
    }
  },
}

const words = ({ state, signals, shutdownTimeoutMs }: Cell) =>
  `${state}, ${signals === 1 ? "one signal" : "two signals"}, ${shutdownTimeoutMs} ms`

const play = async (context: Context, cell: Cell): Promise<void> => {
  const { dice, measure, count } = context
  const { state, signals, shutdownTimeoutMs } = cell
  const url = await context.database()
  await using place = await Place.on({ url, drop: async () => undefined })
  const violate = (message: string, run: string | null = null) =>
    context.violate({ invariant: "S19", message: `${words(cell)}: ${message}`, workflowRunId: run })
  const worker = { ...quick, leaseMs, pollIntervalMs, shutdownTimeoutMs }
  const script = { script: "../torture/actor.ts" }
  const [first, second] = await Promise.all([
    place.spawn({ worker, outlives: true }, script),
    place.spawn({ worker }, script),
  ])
  const { three, order, slow } = place.workflows
  let runs: ReadonlyArray<string> = []
  const trigger = async (started: Promise<{ readonly workflowRunId: string }>) => {
    runs = [...runs, (await started).workflowRunId]
  }
  const ends = state === "compensating" ? "compensated" : "completed"
  if (state === "claiming") {
    const many = await place.engine.triggerMany(
      slow,
      Array.from({ length: 60 }, () => ({ input: { ms: 20 } })),
    )
    runs = many.flatMap((one) => (one.status === "fulfilled" ? [one.value.workflowRunId] : []))
    void first.call("start").catch(() => undefined)
    await new Promise((resolve) => setTimeout(resolve, dice.whole(0, 400)))
  } else {
    await first.call("start")
    if (state === "in a step") {
      await trigger(place.engine.trigger(three, { input: { ms: 700 } }))
      await first.passed("start two")
    } else if (state === "sleeping") {
      await trigger(place.engine.trigger(order, { input: { sleepMs: 2500 } }))
      await trigger(place.engine.trigger(order, { input: { sleepMs: 900 } }))
      await first.passed("end charge")
    } else if (state === "compensating") {
      await trigger(place.engine.trigger(order, { input: { fails: true, undoMs: 700 } }))
      await first.passed("start undo charge")
    }
  }
  count("runs", runs.length)

  const told = performance.now()
  first.signal("SIGTERM")
  count("signals")
  if (signals === 2) {
    await new Promise((resolve) => setTimeout(resolve, dice.whole(0, 100)))
    first.signal("SIGTERM")
    count("signals")
  }
  await first.passed("stopped")
  const stopped = performance.now()
  measure("to its stop", stopped - told)
  // its timeout, and what a busy machine takes for the rest
  if (stopped - told > shutdownTimeoutMs + 5000) violate(`stopped after ${stopped - told} ms`)
  const notesOf = async () =>
    (await place.query("select from ledger where pid = $1", [first.pid])).length
  const notes = await notesOf()
  const held = await place.query<{ id: string }>(
    `select r.workflow_run_id as id from durable_workflow.workflow_runs r
    where r.worker_id is not null`,
  )
  if (held.length > 0) violate(`${held.length} runs are still held`, held[0]?.id)

  const before = await second.call("start").then(() => performance.now())
  const exit = await first.exit()
  if (exit.code !== 0) violate(`its process ended with ${exit.code ?? exit.signal}`)
  if ((await notesOf()) !== notes) violate("something of it ran after it had stopped")
  if (runs.length > 0 && state !== "sleeping") {
    await resumes(place, runs, second.pid)
    const ms = performance.now() - before
    measure("to the next worker's first step", ms)
    if (ms > soonMs) violate(`the next worker went on after ${Math.round(ms)} ms`)
  }
  for (const run of runs) {
    await place.reaches(run, ends)
    await judge(place, cell, run, violate)
  }
  const [crashes] = await place.query<{ n: number }>(
    `select count(*)::int as n from durable_workflow.workflow_runs
    where crash_count > 0 or cardinality(crashed_by) > 0`,
  )
  if (crashes?.n !== 0) violate(`${crashes?.n} runs were counted as crashed`)
}

/** Until the second process did something, or nothing is left to do. */
const resumes = async (place: Place, runs: ReadonlyArray<string>, pid: number): Promise<void> => {
  const deadline = performance.now() + 25_000
  for (;;) {
    const noted = await place.query("select from ledger where pid = $1 limit 1", [pid])
    const open = await place.query(
      `select from durable_workflow.workflow_runs
      where workflow_run_id = any($1::uuid[]) and completed_at is null limit 1`,
      [runs],
    )
    if (noted.length > 0 || open.length === 0 || performance.now() > deadline) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

const bodies: Readonly<Record<State, ReadonlyArray<string>>> = {
  idle: [],
  claiming: ["slow"],
  "in a step": ["one", "two", "three"],
  sleeping: ["reserve", "charge", "pack", "ship"],
  compensating: ["reserve", "charge", "pack", "ship", "undo pack", "undo charge", "undo reserve"],
}

/** Each once; only the one that was given no time may have run twice. */
const judge = async (
  place: Place,
  { state, shutdownTimeoutMs }: Cell,
  run: string,
  violate: (message: string, run: string) => void,
) => {
  const did = await place.did(run)
  const once = did.filter((step, at) => did.indexOf(step) === at)
  const extra = did.length - once.length
  const hasTime = shutdownTimeoutMs > 1000
  if (once.join() !== bodies[state].join() || extra > (hasTime ? 0 : 1)) {
    violate(`it did ${did.join(", ")}`, run)
  }
}
