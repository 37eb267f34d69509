/**
 * What a store remembers of a run, and what a replay reads: records, timers, children, events.
 *
 * All times are epoch milliseconds of the store's clock.
 *
 * @since 0.1.0
 */
import type { StoredError } from "../ErrorPayload.ts"
import type { Encoded } from "../Payload.ts"
import type { RunStatus } from "../Run.ts"
import type { OnParentClose, RunSignals } from "./runs.ts"

/**
 * What kind of operation a record belongs to. A key asked for as another kind is a divergence.
 *
 * @category models
 * @since 0.1.0
 */
export type OperationKind =
  | "step"
  | "sleep"
  | "child"
  /** A child was started; its end is another operation. */
  | "child_start"
  | "event"
  | "side_effect"
  | "emit"
  | "token"
  /** What completed before it is no longer undone. */
  | "no_return"
  /** The run has taken the new code of a patch. */
  | "patch"

/**
 * One remembered outcome (or, with status `retrying`, a stored backoff).
 *
 * @category models
 * @since 0.1.0
 */
export interface StepRecord {
  readonly stepKey: string
  readonly name: string
  readonly kind: OperationKind
  /** Place in the order of completion, from 1; `null` while `retrying`. Gaps are legal. */
  readonly position: number | null
  /**
   * The highest position that the body had seen when it asked (0: none): what later positions decide,
   * they decide only after this was asked for again.
   */
  readonly issuedAfter: number
  readonly status: "completed" | "failed" | "retrying"
  /** Ended tries. 0 with `retrying`: begun, nothing else. */
  readonly attempts: number
  readonly result: Encoded | null
  readonly error: StoredError | null
  /**
   * It is to be undone if the run ends so. Of a step that has not completed: its outcome is unknown,
   * and it asked to be undone all the same.
   */
  readonly hasCompensate: boolean
  /** Kept from an earlier attempt of the run: delivered when asked for (run-level retry). */
  readonly carried: boolean
  readonly startedAt: number | null
  /** Store's time of the commit; `null` while `retrying`. */
  readonly completedAt: number | null
  /** With `retrying`: the next try is due then. */
  readonly retryAt: number | null
  /** With `retrying`: the number of the newest note that was written during a try. */
  readonly revision: number
  /** What the body last told of its progress. */
  readonly heartbeat: Encoded | null
  readonly compensation: {
    /** `skipped`: by an operator. */
    readonly status: "completed" | "failed" | "retrying" | "skipped"
    readonly attempts: number
    readonly error: StoredError | null
    /** With `retrying`: the next try is due then; `null`: at once. */
    readonly retryAt: number | null
  } | null
}

/**
 * A durable timer, fixed when the sleep was first reached.
 *
 * @category models
 * @since 0.1.0
 */
export interface TimerRow {
  readonly stepKey: string
  readonly wakeAt: number
}

/**
 * A child run as its parent's history sees it. For a key with several (one per parent attempt) the
 * newest attempt is given.
 *
 * @category models
 * @since 0.1.0
 */
export interface ChildRow {
  readonly stepKey: string
  readonly workflowRunId: string
  readonly parentAttempt: number
  readonly onParentClose: OnParentClose
  readonly status: RunStatus
  readonly result: Encoded | null
  readonly error: StoredError | null
}

/**
 * An event sent to a run, or emitted by it. Ordered by `eventId`, never by time.
 *
 * @category models
 * @since 0.1.0
 */
export interface EventRow {
  readonly eventId: number
  readonly workflowRunId: string
  readonly direction: "sent" | "emitted"
  readonly name: string
  readonly payload: Encoded
  /** The sender's idempotency id. */
  readonly id: string | null
  readonly createdAt: number
}

/**
 * What a run may be waiting for. `wakeCounter` was read no later than the rest.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunSources extends RunSignals {
  readonly workflowRunId: string
  /** The store's time of this reading. */
  readonly now: number
  readonly children: ReadonlyArray<ChildRow>
  /** Events sent to the run that no record has consumed, by `eventId`. */
  readonly events: ReadonlyArray<EventRow>
  /** When its open timers and stored backoffs are due: others may move them. */
  readonly dueTimes: ReadonlyArray<TimerRow>
}

/**
 * Everything a replay needs, read once per claim by a statement that began after the claim
 * committed. `records` are in order of position, the `retrying` ones last.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunHistory extends RunSources {
  readonly records: ReadonlyArray<StepRecord>
  readonly timers: ReadonlyArray<TimerRow>
}
