/**
 * How a completed step is undone, when its run fails, is cancelled or times out.
 *
 * Compensations run in reverse order of completion, each remembered, each with tries and a timeout
 * of its own. One that gives up does not stop the others; the run then ends as `failed`, and an
 * operator has it tried again, or skipped (`Engine.retryCompensation`, `Engine.skipCompensation`).
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Attempt } from "./engine/Operation.ts"
import { checkName } from "./Name.ts"
import * as RetryPolicy from "./RetryPolicy.ts"
import { perform, type WorkflowRun } from "./WorkflowRun.ts"

/**
 * An undo for results of type `A`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Compensation<in A, out E = never, out R = never> {
  readonly run: (result: A, attempt: Attempt) => Effect.Effect<unknown, E, R>
  readonly retry: RetryPolicy.RetryPolicy
  readonly timeoutMs: number | null
}

/**
 * A point of no return: what has completed before it is no longer undone, whatever becomes of the run.
 * Remembered, like a step.
 *
 * @category constructors
 * @since 0.1.0
 */
export const pointOfNoReturn = (name: string): Effect.Effect<void, never, WorkflowRun> =>
  Effect.fromResult(checkName(name, "name of a point of no return")).pipe(
    Effect.andThen(perform({ kind: "no_return", name })),
    Effect.orDie,
    Effect.asVoid,
  )

/**
 * The tries of an undo that says nothing else: three, a second apart, then two.
 *
 * @category constructors
 * @since 0.1.0
 */
export const defaultRetry: RetryPolicy.RetryPolicy = RetryPolicy.make({ maxAttempts: 3 })

/**
 * An undo with its own tries and timeout.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <A, E = never, R = never>(
  run: (result: A, attempt: Attempt) => Effect.Effect<unknown, E, R>,
  options?: {
    readonly retry?: Partial<RetryPolicy.RetryPolicy> | undefined
    readonly timeout?: Duration.Input | undefined
  },
): Compensation<A, E, R> => ({
  run,
  retry: options?.retry === undefined ? defaultRetry : RetryPolicy.make(options.retry),
  timeoutMs: options?.timeout === undefined ? null : Duration.toMillis(options.timeout),
})
