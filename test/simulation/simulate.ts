/**
 * One seed, from its first die to its verdict: a safety phase with faults, a liveness phase without,
 * a graceful stop, and what the checkers say of each.
 */
import * as MemoryStore from "../../src/MemoryStore.ts"
import type { StoredError } from "../../src/ErrorPayload.ts"
import { isTerminal } from "../../src/Run.ts"
import type { RunRow, RunWrite } from "../../src/WorkflowStore.ts"
import { diceOf } from "../support/dice.ts"
import { makeClient } from "./client.ts"
import { makeProgram } from "./drawProgram.ts"
import { effectWorkflows } from "./effectBody.ts"
import {
  type FaultKind,
  Faults,
  type Options,
  optionsOf,
  printOptions,
  type Size,
} from "./faults.ts"
import { invariants } from "./invariants/index.ts"
import { Ledger } from "./ledger.ts"
import { epoch, Machine, type Process } from "./machine.ts"
import { makeNemesis } from "./nemesis.ts"
import { type Applied, Network } from "./network.ts"
import { attemptOf, type Prediction, predict } from "./predict.ts"
import type { Program } from "./program.ts"
import { printProgram } from "./printProgram.ts"
import { promiseWorkflows } from "./promiseBody.ts"
import { type Checker, Observer, type Scene, type StoppedEngine, type Violation } from "./scene.ts"
import { Timeline } from "./timeline.ts"
import { watchedBy } from "./watched.ts"
import { Workers } from "./workers.ts"

/** What became of a seed. */
export interface Verdict {
  readonly options: Options
  readonly program: Program
  readonly violations: ReadonlyArray<Violation>
  readonly faults: ReadonlyMap<FaultKind, number>
  readonly runs: number
  readonly tries: number
  readonly simulatedMs: number
  /** How long the liveness phase took. */
  readonly recoveryMs: number
  readonly fingerprint: string
  readonly timeline: Timeline
}

/** What a seed draws. */
export const drawn = (seed: number, size: Size): { options: Options; program: Program } => {
  const dice = diceOf(seed)
  const options = optionsOf(seed, dice.fork(), size)
  return { options, program: programOf(dice.fork(), options) }
}

const programOf = (dice: ReturnType<typeof diceOf>, options: Options): Program =>
  makeProgram(dice, {
    ...options,
    withinMs: options.safetyMs,
    slowMs: options.leaseMs * 1.5,
  })

/** Pauses that were asked for, and faults that end in one, for a person to look at. */
const isResumable = (reason: StoredError | null): boolean =>
  reason?.tag === "RunPaused" || (reason?.message.includes("the driver broke") ?? false)

/**
 * The longest in which no run ends once the faults are over: a hung call is given up after a minute, and
 * there may be several, one behind the other. How long all take is a matter of how much there is to do:
 * slow steps in loops, tried again, on two workers of one slot, take longer than this.
 */
const livenessMs = 20 * 60_000

/** Plays a seed. The same options and program, the same verdict. */
export const simulate = async ({
  options,
  program,
}: {
  readonly options: Options
  readonly program: Program
}): Promise<Verdict> => {
  const machine = new Machine(diceOf(options.schedule))
  const switchOff = machine.switchOn()
  try {
    return await play(machine, options, program)
  } finally {
    switchOff()
  }
}

const play = async (machine: Machine, options: Options, program: Program): Promise<Verdict> => {
  const timeline = new Timeline(machine)
  const faults = new Faults(options)
  const ledger = new Ledger()
  const handle = MemoryStore.makeUnsafe({ client: {} })
  const observer = new Observer()
  const violations: Array<Violation> = []
  const checkers: Array<Checker> = []
  const predictions = new Map<string, Prediction>()
  const taken = new Map<string, Array<number>>()
  const gaveUpAt = new Map<string, number>()
  const inherited = new Map<string, ReadonlySet<string>>()

  const network: Network = new Network({
    handle,
    sink: ledger.sink,
    machine,
    faults,
    options,
    timeline,
    onApplied: (applied) => {
      const change = observer.observe(applied, network, Math.floor(epoch + machine.now))
      for (const { before, after } of change.rows) {
        // events that found the run ended were refused
        const isNew = before === null || (isTerminal(before.status) && !isTerminal(after.status))
        if (isNew) client.onNewRun(after)
        if (before === null && applied.verb === "forkRuns") {
          const records = network.direct(handle.store.getSteps(after.workflowRunId))
          inherited.set(after.workflowRunId, new Set(records.map(({ stepKey }) => stepKey)))
        }
        const { workflowRunId } = after
        if (wasTaken(applied, before, after)) {
          taken.set(workflowRunId, [...(taken.get(workflowRunId) ?? []), machine.now])
        }
        const hasGivenUp = after.compensating || isTerminal(after.status)
        if (!hasGivenUp) gaveUpAt.delete(workflowRunId)
        else if (!gaveUpAt.has(workflowRunId)) gaveUpAt.set(workflowRunId, machine.now)
        timeline.add(
          applied.process,
          `${applied.verb}: ${timeline.name(after.workflowRunId)} ${before?.status ?? "new"} -> ` +
            `${after.status} token ${after.token}` +
            (after.workerId === null ? "" : ` held`) +
            (after.crashCount === 0 ? "" : ` crashes ${after.crashCount}`),
        )
      }
      for (const checker of checkers) checker.onChange?.(change)
      nemesis.onApplied(applied)
    },
  })
  const logs: Array<string> = []
  const watch = watchedBy(ledger, machine)
  const workers = new Workers({
    machine,
    logs,
    network,
    options,
    timeline,
    workflows: () => promiseWorkflows(program, watch),
    effects: () => effectWorkflows(program, watch),
  })
  const rows = () => new Map(handle.inspect().runs.map((row) => [row.workflowRunId, row]))
  const client = makeClient({
    machine,
    program,
    workers,
    timeline,
    ledger,
    rows: () => handle.inspect().runs,
  })
  const nemesis = makeNemesis({
    machine,
    network,
    options,
    faults,
    workers,
    timeline,
    isBusy: (process) => ledger.tries.some((one) => one.process === process && one.end === null),
  })
  const startOf = (id: string) =>
    client.acknowledged.find(({ workflowRunId }) => workflowRunId === id)?.start ?? null

  const scene: Scene = {
    options,
    program,
    machine,
    faults,
    network,
    ledger,
    timeline,
    acknowledged: client.acknowledged,
    cancelled: client.cancelled,
    heard: client.heard,
    schedules: client.schedules,
    inherited: (id) => inherited.get(id) ?? none,
    taken: (id) => taken.get(id)?.length ?? 0,
    undisturbed: (id, sinceMs) => {
      const until = gaveUpAt.get(id) ?? Infinity
      return taken.get(id)?.some((at) => at >= sinceMs && at <= until) !== true
    },
    logs,
    rows,
    records: (id) => network.direct(handle.store.getSteps(id)),
    emitted: (id) => network.direct(handle.store.getEvents(id)),
    timers: (id) => network.direct(handle.store.loadHistory([id]))[0]?.timers ?? [],
    startOf,
    prediction: (row) => {
      const { workflow, maxAttempts } = row
      const attempt = attemptOf(row)
      const key = `${workflow} ${attempt} ${maxAttempts}`
      const known = predictions.get(key)
      if (known !== undefined) return known
      const index = program.workflows.findIndex(({ name }) => name === workflow)
      const made = predict(program, index, attempt, maxAttempts)
      predictions.set(key, made)
      return made
    },
    violate: (invariant, workflowRunId, message) => {
      const about = workflowRunId === null ? "" : `${timeline.name(workflowRunId)} `
      timeline.add(machine.current, `VIOLATION ${invariant}: ${about}${message}`)
      violations.push({ invariant, message: about + message, workflowRunId, at: machine.now })
    },
  }
  checkers.push(...invariants.map((invariant) => invariant.watch(scene)))
  ledger.listeners.push((one) => {
    const { process, what, stepKey, attempt, workflowRunId } = one
    const name = timeline.name(workflowRunId)
    timeline.add(process, `${what} ${stepKey} of ${name}, try ${attempt}: ${one.nonce}`)
    for (const checker of checkers) checker.onTry?.(one)
  })

  ledger.sleepListeners.push((asked) => {
    for (const checker of checkers) checker.onSleep?.(asked)
  })

  // --- safety ----------------------------------------------------------------

  for (let i = 0; i < options.workers; i++) {
    machine.after(machine.nature, i * 7, () => workers.boot())
  }
  machine.after(machine.nature, options.safetyMs, () => {})
  await machine.run(() => machine.now >= options.safetyMs || violations.length > 0)

  // --- liveness --------------------------------------------------------------

  const since = machine.now
  timeline.add(machine.nature, "the faults are over")
  nemesis.relent()
  while (workers.alive().length < options.workers) workers.boot()
  const look = () => {
    for (const row of handle.inspect().runs) {
      if (row.status !== "paused" || !isResumable(row.pauseReason)) continue
      timeline.add(machine.nature, `resumes ${timeline.name(row.workflowRunId)}`)
      network.atOnce("resumeRun", handle.store.resumeRun(row.workflowRunId))
    }
    // a process that was frozen may have said it again, behind its removal
    for (const { key } of handle.inspect().schedules) {
      if (client.schedules.get(key)?.untilMs == null) continue
      network.atOnce("removeSchedule", handle.store.removeSchedule(key))
    }
    machine.after(machine.nature, 1000, look)
  }
  look()
  let ended = 0
  let lastEnd = since
  let looked = 0
  await machine.run(() => {
    if (violations.length > 0 || machine.now - lastEnd > livenessMs) return true
    if (machine.now < looked) return false
    looked = machine.now + 100
    const { runs } = handle.inspect()
    const now = runs.filter(({ status }) => isTerminal(status)).length
    if (now > ended) lastEnd = machine.now
    ended = now
    return client.done() && ended === runs.length
  })
  const recoveryMs = machine.now - since

  // --- the verdict -----------------------------------------------------------

  if (violations.length === 0) for (const checker of checkers) checker.atEnd?.()
  if (violations.length === 0 && !client.done()) {
    scene.violate("I2", null, "somebody outside was never answered")
  }
  if (violations.length === 0) {
    const engines = await stopAll(machine, workers)
    for (const checker of checkers) checker.afterStop?.(engines)
  }
  for (const crash of machine.crashes) {
    const text = crash instanceof Error ? (crash.stack ?? crash.message) : String(crash)
    violations.push({ invariant: "I0", message: text, workflowRunId: null, at: machine.now })
  }
  return {
    options,
    program,
    violations,
    faults: faults.counts,
    runs: handle.inspect().runs.length,
    tries: ledger.tries.length,
    simulatedMs: machine.now,
    recoveryMs,
    fingerprint: timeline.fingerprint(),
    timeline,
  }
}

const none: ReadonlySet<string> = new Set()

/** Stops every engine, and lets what it left run out. */
const stopAll = async (
  machine: Machine,
  workers: Workers,
): Promise<ReadonlyArray<StoppedEngine>> => {
  const stopped = new Set<Process>()
  const nodes = [workers.client, ...workers.alive()]
  for (const node of nodes) workers.stop(node, () => stopped.add(node.process))
  // a call that hangs is given up after a minute
  const until = machine.now + 150_000
  await machine.run(() => stopped.size === nodes.length || machine.now > until)
  // steps that nobody waits for any more come to their own end
  const after = machine.now + 60_000
  machine.after(machine.nature, 60_000, () => {})
  await machine.run(() => machine.now >= after)
  return nodes.map(({ process }) => ({ process, hasStopped: stopped.has(process) }))
}

/** A claim that ended, but not by a park, a settlement or a pause of its holder. */
const wasTaken = ({ verb, args }: Applied, before: RunRow | null, after: RunRow): boolean => {
  if (before === null || before.workerId === null) return false
  if (before.workerId === after.workerId && before.token === after.token) return false
  if (verb !== "commit" || after.status === "pending" || after.status === "paused") return true
  const { workflowRunId } = after
  const write = (args[0] as ReadonlyArray<RunWrite>).find(
    (one) => one.workflowRunId === workflowRunId,
  )
  return write?.transition?._tag === "HandBack"
}

/** What a reader needs to see of a seed that failed. */
export const report = (verdict: Verdict): string => {
  const { options, program, violations, timeline } = verdict
  const first = violations[0]
  const about = first?.workflowRunId == null ? null : timeline.name(first.workflowRunId)
  return [
    `FLOWLY_SEED=${options.seed}`,
    printOptions(options),
    printProgram(program),
    ...(about === null ? [] : [`what was told of ${about}:`, ...timeline.tail(60, about)]),
    "the last that happened:",
    ...timeline.tail(40),
    ...violations.map(
      ({ invariant, message, at }) => `${invariant} at ${at.toFixed(0)}: ${message}`,
    ),
    `FLOWLY_SEED=${options.seed}`,
  ].join("\n")
}
