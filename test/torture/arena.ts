/**
 * The field of most scenarios: worker processes that execute generated programs, clients that start
 * runs and steer them, somebody who does harm.
 *
 * Safety: the harm is done, while as many runs as wanted are kept under way. Liveness: no more harm, no
 * more starts; every run must end. Where the number of those that have not stops to fall, everything
 * that may tell why is shown, and it is over. Then the processes stop, and must end by themselves.
 * Then the evidence is judged.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { DurableEngine } from "../../src/index.ts"
import { withClient } from "../support/provision.ts"
import { auditTables } from "./audit.ts"
import { type Client, makeClient } from "./client.ts"
import { type Evidence, gather, programOf, storyOf } from "./evidence.ts"
import { Fleet } from "./fleet.ts"
import { invariants } from "./invariants/index.ts"
import { longestIdleMs } from "./invariants/I16-healthy-server.ts"
import { judgeLostClaims } from "./lostClaims.ts"
import type { Lost } from "./nemesis/gates.ts"
import type { RowLock } from "./nemesis/sessions.ts"
import { type Harm, unleash } from "./nemesis/nemesis.ts"
import type { Death, Freeze } from "./nemesis/processes.ts"
import { makeObserver, type Observer } from "./observer.ts"
import { watchMachine } from "./machine.ts"
import { judgeRecovery, recoveries } from "./recovery.ts"
import type { Context } from "./scenario.ts"
import type { Server } from "./server.ts"
import { makeTimeline, printDeeds, type Timeline } from "./timeline.ts"
import { witnessTables } from "./witness.ts"
import { longestWaitMs, makeWorkload } from "./workload.ts"

export interface ArenaOptions {
  /** Default: the shared one. */
  readonly server?: Server
  readonly workers: number
  readonly spares: number
  /** Runs that are under way at once, children not counted. */
  readonly inFlight: number
  readonly leaseMs?: number
  readonly pollIntervalMs?: number
  readonly maxConcurrent?: number
  /** No proxy stands between a process and its server. */
  readonly direct?: boolean
  /** Of Node, for the worker processes. */
  readonly flags?: ReadonlyArray<string>
  /** Starts that there are at most. */
  readonly starts?: number
  /** At least so many starts; goes on until the harm is done, too. */
  readonly atLeast?: number
  /** Ends the safety phase, whatever has been done. */
  readonly forMs?: number
  readonly harms: (field: Field) => ReadonlyArray<Harm>
  /** The recovery bound is judged. Default: told only. */
  readonly holdsRecovery?: boolean
  /** Looks at what nobody else does, from time to time, and at the end. */
  readonly onLook?: (field: Field, phase: "safety" | "liveness") => Promise<void>
}

/** What harm is done to. */
export interface Field {
  readonly context: Context
  readonly url: string
  readonly server: Server
  readonly fleet: Fleet
  readonly observer: Observer
  readonly timeline: Timeline
  readonly leaseMs: number
  readonly deaths: Array<Death>
  readonly freezes: Array<Freeze>
  readonly lost: Array<Lost>
  readonly locks: Array<RowLock>
}

const lookMs = 250
/** Whatever happens, every run has ended by then. */
const livenessMs = 180_000
const closeMs = 40_000

export const play = async (context: Context, options: ArenaOptions): Promise<void> => {
  const { dice, say, count } = context
  const { leaseMs = 1500, pollIntervalMs = 100, maxConcurrent = 12 } = options
  const server = options.server ?? context.server
  const url = await context.database(server)
  const timeline = makeTimeline()
  const { tell } = timeline
  const workload = makeWorkload(dice.fork(), {
    starts: options.starts ?? 20_000,
    slowMs: leaseMs * 1.5,
  })

  const migrator = new DurableEngine({ url, workflows: [] })
  await migrator.migrate()
  await migrator.stop()
  await withClient(url, (client) => client.query(witnessTables + ";" + auditTables))

  const folder = await mkdtemp(path.join(tmpdir(), "flowly-workload-"))
  context.atEnd(() => rm(folder, { recursive: true, force: true }))
  const file = path.join(folder, "workload.json")
  await writeFile(file, JSON.stringify({ ...workload, starts: [] }))

  let found: Evidence | null = null
  const violate = (invariant: string, workflowRunId: string | null, message: string) => {
    const about = workflowRunId === null ? "" : `run ${workflowRunId}: `
    const story =
      workflowRunId === null || found === null || context.violations() >= 5
        ? undefined
        : [
            ...programOf(found, workflowRunId),
            ...printDeeds(storyOf(found, timeline, workflowRunId), 90),
          ]
    const general = workflowRunId === null ? printDeeds(timeline.deeds, 40) : undefined
    context.violate({
      invariant,
      message: about + message,
      workflowRunId,
      timeline: story ?? general,
    })
  }

  const observer = makeObserver(url)
  context.atEnd(() => observer.close())
  const prefix = `flowly_${path.basename(new URL(url).pathname).slice(-14)}`
  const fleet = new Fleet({
    url,
    prefix,
    dice: dice.fork(),
    workload: file,
    worker: { leaseMs, pollIntervalMs, maxConcurrent, shutdownTimeoutMs: 3000 },
    size: options.workers,
    spares: options.spares,
    direct: options.direct === true,
    flags: options.flags ?? [],
    tell,
    onCrash: (name, how, stderr) => {
      violate("I15", null, `process ${name} ended by itself (${how}): ${stderr.slice(-1500)}`)
    },
    onFailure: (name, what, message) => {
      tell(name, `${what}: ${message}`)
      if (what !== "start") violate(what === "I18" ? "I18" : "I15", null, `${name}: ${message}`)
    },
  })
  context.atEnd(() => fleet.end())
  const machine = watchMachine(() => fleet.working(), prefix)
  context.atEnd(async () => machine.stop())
  await fleet.fill()
  await Promise.race([
    Promise.all(fleet.alive().map(({ started }) => started)),
    new Promise((resolve) => setTimeout(resolve, 30_000)),
  ])
  const client: Client = makeClient({ url, workload, dice: dice.fork(), tell })
  context.atEnd(() => client.stop())

  const deaths: Array<Death> = []
  const freezes: Array<Freeze> = []
  const lost: Array<Lost> = []
  const locks: Array<RowLock> = []
  const field: Field = {
    context,
    url,
    server,
    fleet,
    observer,
    timeline,
    leaseMs,
    deaths,
    freezes,
    lost,
    locks,
  }

  // --- safety ----------------------------------------------------------------

  const began = performance.now()
  tell("suite", "the safety phase begins")
  const nemesis = unleash(options.harms(field), dice.fork(), (name, error) => {
    tell("nemesis", `${name}: ${String(error)}`)
    // a server that is away is one thing, harm that cannot be done another
    if (error instanceof TypeError) violate("suite", null, `${name}: ${error.stack}`)
  })
  const strandedOnce = new Set<string>()
  const idled = new Set<string>()
  let shown = began
  let open = 0
  const look = async (phase: "safety" | "liveness") => {
    const seen = await observer.look()
    await options.onLook?.(field, phase)
    if (seen === null) return null
    open = seen.open
    client.serve(seen.fresh)
    for (const { id, why } of seen.stranded) {
      // one snapshot is one instant; two statements of a look are not
      if (strandedOnce.has(`${id} ${why}`)) violate("I13", id, why)
      strandedOnce.add(`${id} ${why}`)
    }
    // who stands still, or did just now, cannot end what it had begun
    const still = new Set(
      freezes.filter(({ to }) => to > Date.now() - longestIdleMs / 2).map(({ name }) => name),
    )
    const frozen = new Set(
      fleet.everyone.filter(({ name }) => still.has(name)).map(({ role }) => role),
    )
    for (const { role, ms, query } of seen.idling) {
      if (ms < longestIdleMs || frozen.has(role) || idled.has(role)) continue
      idled.add(role)
      violate("I16", null, `${role} idles in a transaction for ${ms.toFixed(0)} ms: ${query}`)
    }
    if (performance.now() - shown > 5000) {
      shown = performance.now()
      const harm = [...nemesis.done()].map(([name, n]) => `${n} ${name}`).join(", ")
      say(`${phase}: ${client.acknowledged.length} starts, ${seen.open} runs open, ${harm}`)
    }
    return seen
  }
  const over = () => {
    if (context.violations() > 0) return true
    const ms = performance.now() - began
    if (options.forMs !== undefined && ms > options.forMs) return true
    const enough = client.begun() >= (options.atLeast ?? 0)
    return nemesis.isSpent() && enough && options.forMs === undefined
  }
  while (!over()) {
    // what a look does not show yet is under way, too
    const unseen = client.begun() - client.confirmed()
    for (let i = open + unseen; i < options.inFlight; i++) client.start()
    await new Promise((resolve) => setTimeout(resolve, lookMs))
    await look("safety")
  }

  // --- liveness --------------------------------------------------------------

  tell("suite", "the faults are over")
  await nemesis.relent()
  for (const [name, n] of nemesis.done()) count(name, n)
  await fleet.fill()
  const since = performance.now()
  say(`the faults are over; ${open} runs have not ended`)
  const patienceMs = 3 * leaseMs + longestWaitMs + 10_000
  let least = Infinity
  let fellAt = since
  for (;;) {
    const seen = await look("liveness")
    const now = performance.now()
    if (seen !== null) await client.resume(seen.paused)
    if (seen !== null && seen.open === 0 && client.settled()) break
    if (seen !== null && seen.open < least) {
      least = seen.open
      fellAt = now
    }
    if (now - fellAt < patienceMs && now - since < livenessMs) {
      await new Promise((resolve) => setTimeout(resolve, lookMs))
      continue
    }
    const dump = await observer.dump()
    const message =
      seen?.open === 0
        ? "clients are still not answered"
        : `${seen?.open ?? "?"} runs have not ended, and their number has not fallen for ${Math.round((now - fellAt) / 1000)} s`
    context.violate({
      invariant: "I2",
      message,
      workflowRunId: null,
      timeline: [...dump, ...printDeeds(timeline.deeds, 60)],
    })
    break
  }
  context.measure("until all had ended", performance.now() - since)

  // --- the processes stop ----------------------------------------------------

  await client.stop()
  const left = await fleet.close(closeMs)
  for (const name of left) violate("I15", null, `${name} has not ended by itself after its stop`)
  const sessions = await observer
    .query<{ n: number }>(
      `select count(*)::int as n from pg_stat_activity
      where datname = current_database() and application_name like 'flowly%'`,
    )
    .catch(() => [])
  if ((sessions[0]?.n ?? 0) > 0) violate("I15", null, `${sessions[0]?.n} sessions are left`)

  // --- the verdict -----------------------------------------------------------

  const names = new Map(fleet.everyone.map(({ role, name }) => [role, name]))
  const { logs } = fleet
  found = await gather({
    url,
    workload,
    client,
    timeline,
    logs,
    freezes,
    deaths,
    names,
    waited: machine.waited,
    violate,
  })
  const rows = [...found.rows().values()]
  count("runs", rows.length)
  count(
    "steps",
    rows.reduce((sum, { workflowRunId }) => sum + (found?.records(workflowRunId).length ?? 0), 0),
  )
  count("ledger rows", found.lines.length)
  count("restarts", Math.max(0, fleet.everyone.length - options.workers))
  count(
    "claims taken away",
    rows.reduce((sum, row) => sum + (found?.taken(row.workflowRunId) ?? 0), 0),
  )
  const poisoned = rows.filter(({ error }) => error?.tag === "PoisonRun").length
  if (poisoned > 0) count("runs dead-lettered for their crashes", poisoned)
  // what has not ended is told already
  const stuck = context.violations() > 0
  for (const { id, check } of invariants) {
    if (stuck && id === "I9") continue
    check(found)
  }
  const judging: Pick<Context, "count" | "measure" | "violate"> = {
    ...context,
    // with the run's story
    violate: ({ invariant, workflowRunId, message }) => violate(invariant, workflowRunId, message),
  }
  judgeLostClaims(found.audit.runs, { lost, locks, leaseMs }, judging)
  const bound = { leaseMs, pollIntervalMs, holds: options.holdsRecovery === true }
  judgeRecovery(recoveries(found, machine), bound, judging)
}
