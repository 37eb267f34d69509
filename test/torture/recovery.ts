/**
 * How soon the runs of a killed process go on: from the kill to the next claim of each. Where a run had
 * recorded nothing under the claim that ended, the engine holds it back on purpose, longer each time;
 * that wait is taken off.
 */
import type { Evidence } from "./evidence.ts"
import { grouped } from "./invariants/invariant.ts"

export interface Recovery {
  readonly run: string
  /** Who was killed. */
  readonly name: string
  readonly ms: number
  /** Until its claim was taken from the dead. */
  readonly sweptMs: number
  /** It had crashed before: such runs are claimed one at a time, on purpose. */
  readonly isSuspect: boolean
}

export const recoveries = (found: Evidence): ReadonlyArray<Recovery> => {
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
      const claimed = rest.find((one) => one.worker !== null)
      if (claimed === undefined) continue
      const heldBack =
        ended.crashes > 0 && ended.due_at !== null ? ended.due_at.getTime() - ended.at.getTime() : 0
      all.push({
        run,
        name,
        ms: claimed.at.getTime() - at - heldBack,
        sweptMs: ended.at.getTime() - at,
        isSuspect: ended.crashes >= 2,
      })
    }
  }
  return all
}
