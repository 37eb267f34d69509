/**
 * How soon the runs of a killed process go on: from the kill to the next claim of each. The bound that
 * the engine promises: 95 % within a lease and a poll, all within two of each.
 *
 * Three things are not the engine's, and are taken off. Where a run had recorded nothing under the claim
 * that ended, it is held back on purpose, longer each time. A run that a client pauses behind the sweep
 * waits to be resumed. And from the end of the lease to the sweep, and from there to the claim, somebody
 * needs a processor: what *every* living process waited for one (of these, the least), or the server's
 * process for the session that did it, if that waited longer; not both. Nothing else is: not what the
 * server works or waits otherwise, nor an event loop that is busy with work of ours. Figures without this
 * allowance are told, too.
 */
import type { RunChange } from "./audit.ts"
import type { Evidence } from "./evidence.ts"
import { grouped } from "./invariants/invariant.ts"
import type { Machine } from "./machine.ts"
import type { Context } from "./scenario.ts"

export interface Recovery {
  readonly run: string
  /** Who was killed. */
  readonly name: string
  /** From the kill to the next claim, less what it was held back on purpose, and paused. */
  readonly ms: number
  readonly pausedMs: number
  /** Of these, what the machine is to blame for. */
  readonly machineMs: number
  /** Until its claim was taken from the dead. */
  readonly sweptMs: number
  /** It had crashed before: such runs are claimed one at a time, on purpose. */
  readonly isSuspect: boolean
}

export const recoveries = (
  found: Pick<Evidence, "audit" | "deaths" | "roleOf" | "nameOf">,
  machine: Omit<Machine, "stop">,
): ReadonlyArray<Recovery> => {
  const { audit, deaths, roleOf, nameOf } = found
  const all: Array<Recovery> = []
  for (const [run, changes] of grouped(audit.runs, (one) => one.run)) {
    for (const { name, at } of deaths) {
      const last = changes.findLastIndex((one) => one.at.getTime() <= at)
      const held = changes[last]
      if (held === undefined || held.worker === null) continue
      if (nameOf(roleOf.get(held.worker) ?? "") !== name) continue
      const rest = changes.slice(last + 1)
      const [ended] = rest
      // its last statement was on its way
      if (ended === undefined || ended.verb !== "sweep") continue
      const until = rest.findIndex((one) => one.worker !== null)
      const claimed = rest[until]
      if (claimed === undefined) continue
      const sweptAt = ended.at.getTime()
      const claimedAt = claimed.at.getTime()
      const dueAt = ended.crashes > 0 ? (ended.due_at?.getTime() ?? sweptAt) : sweptAt
      // an event that comes meanwhile ends the wait
      const triedAt = Math.max(sweptAt, Math.min(dueAt, claimedAt))
      const pauses = pausesOf(rest.slice(0, until + 1), triedAt)
      const pausedMs = pauses.reduce((sum, [from, to]) => sum + to - from, 0)
      const freeAt = pauses.at(-1)?.[1] ?? triedAt
      const lapsedAt = Math.max(at, sweptAt + Math.min(0, ended.old_lease_ms ?? 0))
      const living = machine.watched(lapsedAt, claimedAt)
      const owed = ({ pid }: RunChange, from: number, to: number) => {
        const least = living.map((one) => machine.waited(one, from, to))
        return Math.max(
          least.length === 0 ? 0 : Math.min(...least),
          machine.sessionWaited(pid, from, to),
        )
      }
      all.push({
        run,
        name,
        ms: claimedAt - at - (triedAt - sweptAt) - pausedMs,
        pausedMs,
        machineMs: owed(ended, lapsedAt, sweptAt) + owed(claimed, freeAt, claimedAt),
        sweptMs: sweptAt - at,
        isSuspect: ended.crashes >= 2,
      })
    }
  }
  return all
}

/** When the run was paused, as far as that was later than `since`. */
const pausesOf = (changes: ReadonlyArray<RunChange>, since: number) =>
  changes.flatMap(({ at, status }, i): ReadonlyArray<readonly [from: number, to: number]> => {
    const to = changes[i + 1]?.at.getTime() ?? 0
    if (status !== "paused" || to <= since) return []
    return [[Math.max(since, at.getTime()), to]]
  })

/** Of fewer, one is more than 5 %, and says nothing. */
const enough = 20

export const judgeRecovery = (
  all: ReadonlyArray<Recovery>,
  options: { readonly leaseMs: number; readonly pollIntervalMs: number; readonly holds: boolean },
  context: Pick<Context, "measure" | "count" | "violate">,
): void => {
  const bound = options.leaseMs + options.pollIntervalMs
  const judged = all.filter(({ isSuspect }) => !isSuspect)
  for (const { ms, pausedMs, sweptMs, machineMs } of judged) {
    context.measure("from a kill to the sweep", sweptMs)
    context.measure("from a kill to the next claim", ms)
    if (pausedMs > 0) context.measure("beside it, paused by a client", pausedMs)
    context.measure("of it for want of a processor", machineMs)
    context.measure("without the machine's part", ms - machineMs)
  }
  if (!options.holds) return
  const later = (limit: number, less: (one: Recovery) => number) =>
    judged.filter((one) => one.ms - less(one) > limit)
  const machine = ({ machineMs }: Recovery) => machineMs
  const late = later(bound, machine)
  context.count("recoveries judged", judged.length)
  context.count("late by the clock", later(bound, () => 0).length)
  context.count("late without the machine's part", late.length)
  const violate = (run: string | null, message: string) =>
    context.violate({ invariant: "recovery", message, workflowRunId: run })
  if (judged.length >= enough && late.length > judged.length * 0.05) {
    const slowest = Math.max(...late.map((one) => one.ms - one.machineMs)).toFixed(0)
    violate(
      null,
      `${late.length} of ${judged.length} runs went on later than a lease and a poll ` +
        `(${bound} ms), not 5 % at most; the slowest after ${slowest} ms`,
    )
  }
  for (const { run, name, ms, machineMs } of later(2 * bound, machine)) {
    violate(
      run,
      `went on ${ms.toFixed(0)} ms after the kill of ${name}, of which the machine ` +
        `took ${machineMs.toFixed(0)} ms; two leases and two polls are ${2 * bound} ms`,
    )
  }
}
