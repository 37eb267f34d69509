/**
 * Runs, as a store takes them, hands them to a worker and shows them.
 *
 * All times are epoch milliseconds of the store's clock. What a verb does with these, and what its
 * answers mean, stands in `WorkflowStore.ts`.
 *
 * @since 0.1.0
 */
import type { Attributes } from "../Attributes.ts"
import type { PauseRequest } from "../Control.ts"
import type { StoredError } from "../ErrorPayload.ts"
import type { Encoded } from "../Payload.ts"
import type { RunStatus } from "../Run.ts"

/**
 * A workflow as runs name it. A run belongs to the version that started it; `null` is the version of
 * runs that were started without one.
 *
 * @category models
 * @since 0.1.0
 */
export interface WorkflowRef {
  readonly name: string
  readonly version: string | null
}

/**
 * A child's place in its parent. (`parent run`, `step key`, `parent attempt`) is unique, so replay
 * cannot start a second child.
 *
 * @category models
 * @since 0.1.0
 */
export interface ParentRef {
  readonly workflowRunId: string
  readonly stepKey: string
  readonly attempt: number
}

/**
 * A run to insert. Its id (UUIDv7) is made by the caller, so that an insert can be sent again.
 *
 * @category models
 * @since 0.1.0
 */
export interface NewRun {
  readonly workflowRunId: string
  readonly workflow: string
  readonly version: string | null
  readonly input: Encoded
  /** Lower is claimed first. Default 0. */
  readonly priority: number
  /** Not claimed before this instant; `null`: due at once. */
  readonly scheduledFor: number | null
  /** The run's deadline is its insertion or `scheduledFor`, whichever is later, plus this. */
  readonly timeoutMs: number | null
  /** Attempts of the whole run; `null`: one, and the run ends as `failed`, not `dead_letter`. */
  readonly maxAttempts: number | null
  /** Unique per workflow: for ever, or until `idempotencyRetentionMs` after the insertion. */
  readonly idempotencyKey: string | null
  /**
   * From then on the key is free again, once the run is terminal: an insert with it takes it from the
   * run. Default `null`: never.
   */
  readonly idempotencyRetentionMs?: number | null | undefined
  /** At most one non-terminal run per workflow and key. */
  readonly concurrencyKey: string | null
  readonly parent: ParentRef | null
  /** Searchable; not of a child, nor of a tick. */
  readonly attributes?: Attributes | null | undefined
  /** Of a child that is open when its parent ends. Default: "cancel". */
  readonly onParentClose?: OnParentClose | undefined
  /**
   * Its id was made for this very insert: as far as the writer knows nobody has it. A store may try to
   * insert the run without looking; where the id is taken all the same, the rules hold. Default false.
   */
  readonly fresh?: boolean | undefined
}

/**
 * What becomes of a child that is open when its parent ends, in whatever way.
 *
 * @category models
 * @since 0.1.0
 */
export type OnParentClose = "cancel" | "abandon"

/**
 * The answer to one insert. Checked in this order: id, idempotency key, parent's step, concurrency
 * key; earlier runs of the same call count. (Of runs of one call that stand in each other's way by one
 * key, and differ by another, the store may take any first: it orders a call by keys.)
 *
 * - `Inserted`: the row is there (also when this very id was inserted by an earlier sending).
 *   `token` is set when the insert itself claimed it for `claimFor` (token 1) and that very claim
 *   is still held: a later claim by the same worker is another claim.
 * - `Existing`: the idempotency key (or the parent's step) already has this run.
 * - `ConcurrencyHeld`: an active run holds the concurrency key.
 *
 * @category models
 * @since 0.1.0
 */
export type InsertAnswer =
  | {
      readonly _tag: "Inserted"
      readonly workflowRunId: string
      readonly token: number | null
      readonly createdAt: number
      readonly deadlineAt: number | null
    }
  | { readonly _tag: "Existing"; readonly run: RunRow }
  | { readonly _tag: "ConcurrencyHeld"; readonly workflowRunId: string }

/**
 * A request to cancel, kept on the row until the claim's holder acts on it.
 *
 * @category models
 * @since 0.1.0
 */
export interface CancelRequest {
  /** `null`: as the workflow chooses. */
  readonly compensate: boolean | null
  readonly reason: string | null
}

/**
 * What changes on a claimed run from outside, and travels with every answer about it.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunSignals {
  readonly wakeCounter: number
  readonly cancelRequest: CancelRequest | null
  /** Never beside a cancel request, which withdraws it. */
  readonly pauseRequest: PauseRequest | null
  /** By the store's clock. Never true while compensating. */
  readonly deadlinePassed: boolean
}

/**
 * A claimed run: the row as the claim left it. History is read by a later statement.
 *
 * @category models
 * @since 0.1.0
 */
export interface ClaimedRun extends RunSignals {
  readonly workflowRunId: string
  readonly workflow: string
  readonly version: string | null
  readonly token: number
  /** What its random numbers are drawn from: its id; of a fork that of the first origin. */
  readonly seed: string
  /** The run is undoing: claim it to compensate. */
  readonly compensating: boolean
  /** Attempt of the whole run, from 1. */
  readonly attempt: number
  readonly maxAttempts: number | null
  readonly input: Encoded
  readonly error: StoredError | null
  readonly parent: ParentRef | null
  readonly createdAt: number
  /** Of the run's first claim. */
  readonly startedAt: number
  readonly deadlineAt: number | null
  readonly crashCount: number
  /**
   * False when there is nothing to read: the first claim ever, of a run that nothing has woken (an
   * event may have come before the first claim).
   */
  readonly hasHistory: boolean
}

/**
 * Which runs are meant: those that fulfil all that is given (`null` and `undefined` select nothing
 * away). Attributes must be equal, each of those named.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunSelection {
  readonly statuses: ReadonlyArray<RunStatus> | null
  readonly workflow: string | null
  readonly parentRunId: string | null
  readonly idempotencyKey?: string | null | undefined
  readonly concurrencyKey?: string | null | undefined
  readonly attributes?: Attributes | null | undefined
  /** Created at or after; before. */
  readonly createdFrom?: number | null | undefined
  readonly createdBefore?: number | null | undefined
}

/**
 * A run as its row shows it.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunRow {
  readonly workflowRunId: string
  readonly workflow: string
  readonly version: string | null
  readonly status: RunStatus
  /** It has begun to undo; stays true to the end (also while `paused`, and when terminal). */
  readonly compensating: boolean
  readonly attempt: number
  readonly maxAttempts: number | null
  readonly input: Encoded
  readonly result: Encoded | null
  readonly error: StoredError | null
  /** Why the run is paused; history is intact. */
  readonly pauseReason: StoredError | null
  readonly parent: ParentRef | null
  readonly idempotencyKey: string | null
  readonly concurrencyKey: string | null
  readonly priority: number
  readonly attributes: Attributes
  /** What the run says about its state; `null`: nothing so far. */
  readonly statusText: string | null
  /** Of an unclaimed run: claimable from then on; `null`: when woken. Else without meaning. */
  readonly dueAt: number | null
  readonly scheduledFor: number | null
  readonly deadlineAt: number | null
  readonly cancelRequest: CancelRequest | null
  readonly pauseRequest: PauseRequest | null
  readonly wakeCounter: number
  readonly token: number
  /** Incarnation id of the worker that holds the claim. */
  readonly workerId: string | null
  readonly crashCount: number
  readonly createdAt: number
  readonly startedAt: number | null
  readonly completedAt: number | null
}
