/**
 * What checkers look at: the seed's options and program, the ledger, the store, and each change of
 * it as it is made.
 */
import { isDeepStrictEqual } from "node:util"
import type { EventRow, RunRow, StepRecord, TimerRow } from "../../src/WorkflowStore.ts"
import type { Faults, Options } from "./faults.ts"
import type { AskedSleep, Ledger, Try } from "./ledger.ts"
import type { Machine, Process } from "./machine.ts"
import type { Applied, Network } from "./network.ts"
import type { Prediction } from "./predict.ts"
import type { Program, Start } from "./program.ts"
import type { Timeline } from "./timeline.ts"

/** One row before and after a call was applied. */
export interface RowChange {
  readonly before: RunRow | null
  readonly after: RunRow
}

/** What one applied call changed. */
export interface Change {
  readonly applied: Applied
  /** By the store's clock. */
  readonly now: number
  readonly rows: ReadonlyArray<RowChange>
  /** Leases as they were before the call. */
  readonly leases: ReadonlyMap<string, number>
}

/** Runs whose records the call may have written. */
export const writtenBy = ({ verb, args }: Applied): ReadonlyArray<string> => {
  const runs = verb === "commit" ? args[0] : verb === "transact" ? [args[0]] : []
  return (runs as ReadonlyArray<{ readonly workflowRunId: string }>).map((one) => one.workflowRunId)
}

/** A start that was confirmed. */
export interface Acknowledged {
  readonly start: Start
  readonly workflowRunId: string
}

/** How a run ended, as one who waited was told. */
export interface Heard {
  readonly workflowRunId: string
  readonly status: string
  readonly result: unknown
}

/** What those who asked for a schedule know of it. */
export interface AskedSchedule {
  readonly everyMs: number
  /** From when it was surely there, by the store's clock. */
  sinceMs: number | null
  /** Until when. */
  untilMs: number | null
}

/** What somebody found wrong. */
export interface Violation {
  readonly invariant: string
  readonly message: string
  /** The run that it is about. */
  readonly workflowRunId: string | null
  readonly at: number
}

/** What stands when all has ended, whoever played it: the simulation or real processes. */
export interface Evidence {
  readonly program: Program
  readonly ledger: Pick<Ledger, "tries" | "executions" | "sink">
  readonly acknowledged: ReadonlyArray<Acknowledged>
  /** Runs that somebody asked to cancel, or may have. */
  readonly cancelled: ReadonlySet<string>
  /** The keys of records that a fork was born with. */
  readonly inherited?: (workflowRunId: string) => ReadonlySet<string>
  /** How often a claim of the run ended before its holder had parked or settled it. */
  readonly taken: (workflowRunId: string) => number
  /** Whether none of its claims ended so from then until it began to undo, or ended. */
  readonly undisturbed?: (workflowRunId: string, sinceMs: number) => boolean
  /** What the engines have logged. */
  readonly logs: ReadonlyArray<string>
  readonly rows: () => ReadonlyMap<string, RunRow>
  readonly records: (workflowRunId: string) => ReadonlyArray<StepRecord>
  readonly emitted: (workflowRunId: string) => ReadonlyArray<EventRow>
  readonly prediction: (row: RunRow) => Prediction
  readonly violate: (invariant: string, workflowRunId: string | null, message: string) => void
}

export interface Scene extends Evidence {
  readonly options: Options
  readonly machine: Machine
  readonly faults: Faults
  readonly network: Network
  readonly ledger: Ledger
  readonly timeline: Timeline
  readonly timers: (workflowRunId: string) => ReadonlyArray<TimerRow>
  readonly startOf: (workflowRunId: string) => Start | null
  readonly heard: ReadonlyArray<Heard>
  readonly schedules: ReadonlyMap<string, AskedSchedule>
  readonly inherited: (workflowRunId: string) => ReadonlySet<string>
}

/** One promise, and how it is watched over during a seed. */
export interface Invariant<S = Scene> {
  readonly id: string
  readonly claim: string
  readonly watch: (scene: S) => Checker
}

export interface Checker {
  readonly onChange?: (change: Change) => void
  readonly onTry?: (one: Try) => void
  readonly onSleep?: (asked: AskedSleep) => void
  /** After the liveness phase. */
  readonly atEnd?: () => void
  /** After all engines were asked to stop, and had the time to. */
  readonly afterStop?: (engines: ReadonlyArray<StoppedEngine>) => void
}

/** An engine that was asked to stop. */
export interface StoppedEngine {
  readonly process: Process
  readonly hasStopped: boolean
}

/** Remembers the rows, to tell what a call has changed. */
export class Observer {
  #rows = new Map<string, RunRow>()
  #leases = new Map<string, number>()

  observe(applied: Applied, network: Network, now: number): Change {
    const { runs, workers } = network.handle.inspect()
    const leases = this.#leases
    const rows: Array<RowChange> = []
    for (const after of runs) {
      const before = this.#rows.get(after.workflowRunId) ?? null
      if (before !== null && isSameRow(before, after)) continue
      rows.push({ before, after })
      this.#rows.set(after.workflowRunId, after)
    }
    this.#leases = new Map(workers.map((one) => [one.workerId, one.leaseExpiresAt]))
    return { applied, now, rows, leases }
  }
}

const isSameRow = (a: RunRow, b: RunRow): boolean =>
  a.status === b.status &&
  a.token === b.token &&
  a.workerId === b.workerId &&
  a.attempt === b.attempt &&
  a.wakeCounter === b.wakeCounter &&
  a.crashCount === b.crashCount &&
  a.dueAt === b.dueAt &&
  a.compensating === b.compensating &&
  a.cancelRequest === b.cancelRequest &&
  a.pauseRequest === b.pauseRequest &&
  a.result === b.result &&
  isDeepStrictEqual(a.error, b.error)
