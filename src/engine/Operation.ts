/**
 * What a body may ask for: the operations, as data with the functions that carry them out.
 *
 * The execution knows values only in their stored form. Encoding, decoding and typed errors are the
 * business of the authoring modules (`Step`, `Sleep`, `Child` …), which build these specs.
 */
import type * as Effect from "effect/Effect"
import type * as Result from "effect/Result"
import type { StoredError } from "../ErrorPayload.ts"
import type { Encoded } from "../Payload.ts"
import type { RetryPolicy } from "../RetryPolicy.ts"
import type { OnParentClose } from "../WorkflowStore.ts"
import type { Isolation, Transaction } from "../WorkflowStore.ts"

/**
 * What a step body is told about its try.
 */
export interface Attempt {
  readonly workflowRunId: string
  /** From 1. */
  readonly attempt: number
  /** Stable over all tries of this step in this run. */
  readonly idempotencyKey: string
  /** Aborts on a timeout, a cancel, a lost lease, or when the run ends without this step. */
  readonly signal: AbortSignal
}

/**
 * What a step's body is told besides: what an earlier try had told of its progress, and how to tell.
 */
export interface StepAttempt extends Attempt {
  /** Where the operation asks for one: the newest. */
  transaction?: Transaction | undefined
  /** `null`: no try has told anything. */
  readonly lastHeartbeat: Encoded | null
  readonly heartbeat: (details: Encoded) => void
}

/**
 * A failed try: what to store, and whether another try may help.
 */
export interface AttemptFailure {
  readonly error: StoredError
  readonly retryable: boolean
  /** The body had succeeded; what it gave could not be kept. */
  readonly unknown?: boolean | undefined
  /** No further try before that, whatever the policy says. `at` is an epoch millisecond. */
  readonly retryAfter?: RetryAfter | undefined
  /** Of a transaction's code: a fault of the moment, which is no failure of the try. */
  readonly fault?: ReturnType<Transaction["faultOf"]>
}

/**
 * When the next try may begin.
 */
export type RetryAfter = { readonly delayMs: number } | { readonly at: number }

/**
 * A function that undoes a completed step. It fails with what is to be stored.
 */
export type Undo = (
  /** `null`: the step's outcome is unknown. */
  result: Encoded | null,
  attempt: Attempt,
) => Effect.Effect<void, { readonly error: StoredError; readonly raw: unknown }>

/**
 * A try of a plain function. Calls `end` once, when the function has ended, whatever its signal says.
 */
export type Call = (
  attempt: StepAttempt,
  end: (result: Result.Result<Encoded, AttemptFailure>) => void,
) => void

/**
 * A step: its body is run and its outcome remembered.
 */
export interface StepOperation {
  readonly kind: "step" | "side_effect" | "token"
  readonly name: string
  readonly run: (attempt: StepAttempt) => Effect.Effect<Encoded, AttemptFailure>
  /** What `run` does, where it needs no fiber: called in its place. It does not throw. */
  readonly call?: Call | undefined
  readonly retry: RetryPolicy
  /** Its body runs in a transaction, which records its outcome too. */
  readonly transaction?: { readonly isolation: Isolation | null } | undefined
  /** Of one try. */
  readonly timeoutMs: number | null
  /** Of one try: without a heartbeat for so long it is given up. */
  readonly heartbeatTimeoutMs?: number | null
  /** Of all tries, from the beginning of the first. */
  readonly deadlineMs?: number | null
  readonly undo: {
    readonly run: Undo
    readonly retry: RetryPolicy
    readonly timeoutMs: number | null
    /** Undo the step also where its outcome is unknown. */
    readonly onUnknown: boolean
  } | null
}

/**
 * A durable timer: from when it is first reached, or until an instant.
 */
export interface SleepOperation {
  readonly kind: "sleep"
  readonly name: string
  readonly until: { readonly delayMs: number } | { readonly wakeAt: number }
}

/**
 * A child run.
 */
export interface ChildOperation {
  /** `child_start`: it is started, and not waited for; the result is its id and step key. */
  readonly kind: "child" | "child_start"
  /** The step key under which it was started earlier; `null`: it is started by this operation. */
  readonly startedAs: string | null
  readonly onParentClose: OnParentClose
  readonly name: string
  readonly workflow: string
  readonly version: string | null
  readonly input: Encoded
  readonly timeoutMs: number | null
  readonly maxAttempts: number | null
}

/**
 * An event for whoever listens to the engine.
 */
export interface EmitOperation {
  readonly kind: "emit"
  readonly name: string
  readonly payload: Encoded
}

/**
 * Wait for an event sent to the run; `null` as result means that the time was up.
 */
export interface EventOperation {
  readonly kind: "event"
  readonly name: string
  readonly event: string
  readonly timeoutMs: number | null
}

/**
 * Whether the run takes the new code of a patch; the result is `true` or `false`.
 */
export interface PatchOperation {
  readonly kind: "patch"
  readonly name: string
}

/**
 * A point of no return: what completed before it is no longer undone.
 */
export interface NoReturnOperation {
  readonly kind: "no_return"
  readonly name: string
}

/**
 * Any operation.
 */
export type Operation =
  | StepOperation
  | SleepOperation
  | ChildOperation
  | EmitOperation
  | EventOperation
  | NoReturnOperation
  | PatchOperation

/**
 * How an operation ended, in stored form, as it is delivered to the body.
 */
export type Outcome =
  | { readonly _tag: "Success"; readonly result: Encoded | null }
  | { readonly _tag: "Failure"; readonly error: StoredError }
