/**
 * What a run writes: one row of the journal's batch, and the answer to it.
 *
 * A write carries the token of its claim; the store alone says whether it still holds.
 *
 * @since 0.1.0
 */
import type { Attributes } from "../Attributes.ts"
import type { StoredError } from "../ErrorPayload.ts"
import type { Encoded } from "../Payload.ts"
import type { TerminalStatus } from "../Run.ts"
import type { OperationKind, TimerRow } from "./history.ts"
import type { NewRun, RunSignals } from "./runs.ts"
import type { ParkedWait } from "./situation.ts"

/**
 * An outcome to record. Final outcomes never change; a `retrying` record is replaced by a final
 * one, by one with more attempts, or by one with as many and a higher revision. What time ends (`endsByTimer`: a sleep, the
 * timeout of a wait for an event) is accepted only where its timer (earlier, or of this write) has
 * `wakeAt` <= now by the store's clock; a refused one holds nothing else back.
 *
 * @category models
 * @since 0.1.0
 */
export interface RecordWrite {
  readonly stepKey: string
  readonly name: string
  readonly kind: OperationKind
  readonly position: number | null
  readonly issuedAfter: number
  readonly status: "completed" | "failed" | "retrying"
  readonly attempts: number
  readonly result: Encoded | null
  readonly error: StoredError | null
  readonly hasCompensate: boolean
  /** With `retrying`: from the commit to the next try. */
  readonly retryDelayMs: number | null
  /** How long the operation took, by the worker's monotonic clock: `startedAt = now - this`. */
  readonly elapsedMs: number
  /** With kind `event`: the event this record consumes; `null` when its time was up. */
  readonly eventId: number | null
  /**
   * With `retrying`: orders the notes that are written between two ends of tries (a try begins, a
   * heartbeat), so that a delayed copy of an older one changes nothing. Default 0.
   */
  readonly revision?: number | undefined
  /** The step's latest heartbeat; without one, what stands is kept. */
  readonly heartbeat?: Encoded | null | undefined
  /**
   * As far as the writer knows, nothing stands under this key. A store may try to insert it without
   * looking; where something stands all the same, the rules above hold. Default false.
   */
  readonly first?: boolean | undefined
}

/**
 * Whether a record says that a time has come: the end of a sleep, or of a wait in vain.
 *
 * @category guards
 * @since 0.1.0
 */
export const endsByTimer = (record: RecordWrite): boolean =>
  (record.kind === "sleep" && record.status !== "retrying") ||
  (record.kind === "event" && record.eventId === null && record.status === "completed")

/**
 * A timer to fix: from the store's now, or absolute. An existing timer of the key wins.
 *
 * @category models
 * @since 0.1.0
 */
export type TimerWrite =
  | { readonly stepKey: string; readonly delayMs: number }
  | { readonly stepKey: string; readonly wakeAt: number }

/**
 * The outcome of undoing one step, kept on the step's record, which must stand (of an *unknown* step
 * the failed or `retrying` one). A final outcome changes by `reviseCompensation` alone.
 *
 * @category models
 * @since 0.1.0
 */
export interface CompensationWrite {
  readonly stepKey: string
  readonly status: "completed" | "failed" | "retrying"
  readonly attempts: number
  readonly error: StoredError | null
  /** With `retrying`: from the commit to the next try. Default: none. */
  readonly retryDelayMs?: number | null | undefined
}

/**
 * The one status change a run may make in a batch.
 *
 * - `Park`: release the claim; claimable again at `dueAt` (absolute) or `delayMs` after the commit,
 *   whichever is sooner, or when woken. If the row's wake counter differs from `wakeCounter`, the
 *   run is due now (status `pending`): nothing is lost. The run's deadline is always part of its
 *   due time (the store adds it; not while compensating). A compensating run keeps its status.
 * - `HandBack`: release the claim, due now. Not a failure.
 * - `Settle`: terminal. Wakes the parent. A `null` error of a compensating run keeps the error that
 *   `Compensate` recorded.
 * - `Compensate`: `running` → `compensating`, the claim stays.
 * - `RetryRun`: next attempt, `pending`, due after `delayMs` (sooner at the deadline; now if a
 *   cancel is requested). Removes the failed records from `failedPosition` on (`null`: the last
 *   failed record) with their timers, and all `retrying` records; marks completed ones after it as
 *   `carried`. An event that a removed record had consumed is unconsumed again.
 * - `Pause`: `paused`, claim released, history intact.
 *
 * All that release the claim reset the crash count. Where a pause is requested, `Park`, `HandBack`
 * and `RetryRun` leave the run `paused`: so a holder that was asked to pause hands back, and a request
 * that is withdrawn meanwhile leaves it due now.
 *
 * @category models
 * @since 0.1.0
 */
export type Transition =
  | {
      readonly _tag: "Park"
      readonly status: "sleeping" | "waiting"
      readonly dueAt: number | null
      readonly delayMs: number | null
      readonly wakeCounter: number
      /** What it waits for, for whoever asks: the first few. The store does not act on it. */
      readonly waits?: ReadonlyArray<ParkedWait> | undefined
    }
  | { readonly _tag: "HandBack" }
  | {
      readonly _tag: "Settle"
      readonly status: TerminalStatus
      readonly result: Encoded | null
      readonly error: StoredError | null
      /** Where an explicit retry starts: the earliest failed record that is the run's error. */
      readonly failedPosition: number | null
      /** `false`: as far as the writer knows it has no parent. A store need not look for one. */
      readonly wakesParent?: boolean | undefined
    }
  | { readonly _tag: "Compensate"; readonly error: StoredError }
  | {
      readonly _tag: "RetryRun"
      readonly failedPosition: number | null
      readonly delayMs: number
      readonly error: StoredError
    }
  | { readonly _tag: "Pause"; readonly error: StoredError }

/**
 * Everything one run produced since its last commit, folded: one row per run in a batch. Its parts
 * apply in the order of the fields. A child carries no idempotency or concurrency key. `emitted`
 * names the `emit` record that stands beside it, so that a write sent again emits once.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunWrite {
  readonly workflowRunId: string
  readonly token: number
  readonly timers: ReadonlyArray<TimerWrite>
  readonly records: ReadonlyArray<RecordWrite>
  readonly children: ReadonlyArray<NewRun>
  readonly emitted: ReadonlyArray<{
    readonly stepKey: string
    readonly name: string
    readonly payload: Encoded
  }>
  readonly compensations: ReadonlyArray<CompensationWrite>
  /** Sets these, and leaves others as they are; the one without a name is the status text. */
  readonly attributes?: Attributes | undefined
  readonly transition: Transition | null
}

/**
 * The answer to one run's write.
 *
 * - `committed`: applied and durable (also when an earlier sending of the same rows was: the run is
 *   unclaimed or terminal with our token, or still held by us and its records stand under it). Where
 *   the write released the claim, its signals are nobody's, and mean nothing.
 * - `busy`: the row was locked by another transaction and the token is still ours; nothing was
 *   applied; send the same rows again, in order.
 * - `lost`: the run's token is not ours (any more); this sending applied nothing. Also answered to
 *   a write without a releasing transition whose run we released, unless its records (and undos)
 *   stand under our token: it was never applied.
 *
 * @category models
 * @since 0.1.0
 */
export type WriteAnswer =
  | (RunSignals & {
      readonly _tag: "committed"
      readonly workflowRunId: string
      /**
       * The store's time of the commit: `completedAt` of the records in it, also when an earlier
       * sending had committed them.
       */
      readonly now: number
      /** The timers of this write as they are fixed. */
      readonly timers: ReadonlyArray<TimerRow>
      /** Ends by timer that came too early: not recorded; wait until `wakeAt` and send again. */
      readonly refusedSleeps: ReadonlyArray<TimerRow>
      /** The children of this write, with the ids that stand in the store. */
      readonly children: ReadonlyArray<{ readonly stepKey: string; readonly workflowRunId: string }>
    })
  | { readonly _tag: "busy"; readonly workflowRunId: string }
  | { readonly _tag: "lost"; readonly workflowRunId: string }
