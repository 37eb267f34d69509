/**
 * What is read to explain to people why a run does not move. No store acts on it.
 *
 * @since 0.1.0
 */
import type { ChildRow, TimerRow } from "./history.ts"
import type { RunRow, WorkflowRef } from "./runs.ts"

/**
 * Something that a parked run waits for: evidence, for people.
 *
 * @category models
 * @since 0.1.0
 */
export interface ParkedWait {
  readonly stepKey: string
  readonly kind: "sleep" | "event" | "child" | "backoff"
  /** Of an event: its name. */
  readonly event: string | null
  readonly until: number | null
  /** Of a backoff: the attempt that comes next, and how many there are. */
  readonly attempt: number | null
  readonly maxAttempts: number | null
}

/**
 * A worker as its row shows it.
 *
 * @category models
 * @since 0.1.0
 */
export interface WorkerState {
  readonly workerId: string
  readonly label: string
  readonly capacity: number
  readonly workflows: ReadonlyArray<WorkflowRef>
  readonly leaseExpiresAt: number
  readonly heartbeatAt: number
  readonly isLive: boolean
}

/**
 * What stands around a run, read for an explanation.
 *
 * @category models
 * @since 0.1.0
 */
export interface Situation {
  readonly now: number
  readonly run: RunRow
  /** As of its last park; of a run that has ended: none. */
  readonly waits: ReadonlyArray<ParkedWait>
  readonly children: ReadonlyArray<ChildRow>
  readonly dueTimes: ReadonlyArray<TimerRow>
  /** The last in the order of completion. */
  readonly lastStep: { readonly stepKey: string; readonly completedAt: number } | null
  /** Who holds the claim. */
  readonly holder: WorkerState | null
  /** The live ones. */
  readonly workers: ReadonlyArray<WorkerState>
  /** Due runs of its workflow and version that are claimed before it; counted up to 1,000. */
  readonly ahead: number
  /** The active run that has its concurrency key; it may be the run itself. */
  readonly keyHolder: string | null
}
