/**
 * The slots of a worker: how many are free, and which are kept for claims that are under way.
 *
 * A claim or an eager insert reserves its slots before it is sent, so that the worker never holds
 * more runs than it may execute. Its answer may come after the lease has lapsed: what a former
 * incarnation has claimed is given back, not executed. One whose answer never came may have left
 * claims that nothing here accounts for: the heartbeat is to ask for them.
 */
import type { ClaimedRun } from "../WorkflowStore.ts"
import type { Lease } from "./lease.ts"
import type { Runs } from "./runs.ts"

/**
 * Slots that a claim or an eager insert may fill: its runs are executed, or given back.
 */
export interface ReservedSlots {
  /** The incarnation that is to hold the claims. */
  readonly workerId: string
  readonly execute: (claimed: ReadonlyArray<ClaimedRun>) => void
  /** No effect after `execute`. */
  readonly release: (outcome: "unused" | "unknown") => void
}

/**
 * The slots of one worker.
 */
export interface Slots {
  readonly free: () => number
  readonly reserved: () => number
  readonly reserve: (slots: number) => ReservedSlots
}

/**
 * All slots free.
 */
export const makeSlots = (options: {
  readonly maxConcurrent: number
  readonly lease: Pick<Lease, "claiming" | "disown" | "workerId">
  readonly runs: Pick<Runs, "execute" | "size">
  /** There may be more to claim behind what is held. */
  readonly hasBacklog: () => boolean
  readonly wantPoll: () => void
  readonly wantReconcile: () => void
  readonly onFreed: () => void
}): Slots => {
  const { maxConcurrent, lease, runs, hasBacklog, wantPoll, wantReconcile, onFreed } = options
  let reserved = 0

  const reserve = (slots: number): ReservedSlots => {
    const claiming = lease.claiming()
    let open = true
    const end = () => {
      if (!open) return false
      open = false
      reserved -= slots
      claiming.end()
      return true
    }
    reserved += slots
    return {
      workerId: claiming.workerId,
      execute: (claimed: ReadonlyArray<ClaimedRun>) => {
        end()
        if (claiming.workerId === lease.workerId()) runs.execute(claimed)
        else if (claimed.length > 0) {
          // claimed by a former incarnation: its lease has lapsed
          lease.disown(claimed)
          wantReconcile()
        }
        onFreed()
      },
      release: (outcome: "unused" | "unknown") => {
        if (!end()) return
        // perhaps there is a claim that nothing here accounts for: ask what the store holds for us
        if (outcome === "unknown") wantReconcile()
        if (hasBacklog()) wantPoll()
        onFreed()
      },
    }
  }

  return {
    free: () => maxConcurrent - runs.size() - reserved,
    reserved: () => reserved,
    reserve,
  }
}
