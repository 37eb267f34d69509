/**
 * The run a body executes in, and how a body asks for an operation.
 *
 * `WorkflowRun` is the one service a body may require. What a step needs beyond it is lifted into
 * the marker `Requires`, which the body may carry and which `Workflow.toLayer` turns back into plain
 * requirements: a service used in the body, outside a step, does not type-check.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { type BodyValues, makeBodyValues } from "./engine/bodyValues.ts"
import type { Delivered, Execution } from "./engine/Execution.ts"
import type { Operation } from "./engine/Operation.ts"
import { makePatches, type Patches } from "./engine/patches.ts"
import { type Attributes, check as checkAttributes, checkStatus, statusName } from "./Attributes.ts"
import { encodeError, type StoredError } from "./ErrorPayload.ts"
import { type InvalidInput, UnreadableValue } from "./FlowlyError.ts"
import { checkName } from "./Name.ts"
import type { Encoded } from "./Payload.ts"

/**
 * The run that the body belongs to.
 *
 * @category services
 * @since 0.1.0
 */
export class WorkflowRun extends Context.Service<
  WorkflowRun,
  {
    readonly workflowRunId: string
    readonly workflow: string
    /** Attempt of the whole run, from 1. */
    readonly attempt: number
    /** The machine that answers operations. */
    readonly execution: Execution
    /** Time and chance, the same on every replay. */
    readonly values: BodyValues
    readonly patches: Patches
    /** The services that steps were promised. */
    readonly services: Context.Context<never>
  }
>()("flowly/WorkflowRun") {}

/**
 * A marker: some step of this body needs `R`. There is no such service at run time.
 *
 * @category models
 * @since 0.1.0
 */
export interface Requires<in out R> {
  readonly "~flowly/Requires": (services: R) => R
}

/**
 * No service, but a hint in the error of a body that needs one which is neither `WorkflowRun` nor a
 * marker: what touches the world belongs into `Step.make`.
 *
 * @category models
 * @since 0.1.0
 */
export interface UseServicesInsideOfStepMake {
  readonly "~flowly/UseServicesInsideOfStepMake": never
}

/**
 * The marker for `R`, or nothing.
 *
 * @category models
 * @since 0.1.0
 */
export type Lift<R> = [R] extends [never] ? never : Requires<R>

/**
 * The services behind the markers in `R`.
 *
 * @category models
 * @since 0.1.0
 */
export type Unlift<R> = R extends Requires<infer S> ? S : never

/**
 * An operation failed; `position` is the place of its record.
 *
 * @category models
 * @since 0.1.0
 */
export interface OperationFailed {
  readonly error: StoredError
  readonly position: number
}

/**
 * Asks for an operation and waits for its delivery. An operation of a body that is over (parked,
 * handed back, lost) interrupts itself: it can neither settle nor suspend.
 *
 * @category operations
 * @since 0.1.0
 */
export const perform = (
  operation: Operation,
): Effect.Effect<Encoded | null, OperationFailed, WorkflowRun> =>
  Effect.flatMap(WorkflowRun, ({ execution }) => performOf(execution, operation))

/**
 * What `perform` does, of an execution that is at hand.
 *
 * @category operations
 * @since 0.1.0
 */
export const performOf = (
  execution: Execution,
  operation: Operation,
): Effect.Effect<Encoded | null, OperationFailed> =>
  whileItRuns(
    execution,
    Effect.callback<Encoded | null, OperationFailed>((resume) => {
      const issued = execution.issue(operation, ({ outcome, position }) => {
        if (outcome._tag === "Success") return resume(Effect.succeed(outcome.result))
        const { error } = outcome
        // what no payload codec could read back is no failure that a body may catch
        if (error.coded !== undefined) {
          const { kind, name } = operation
          pauseUnreadableUnsafe(execution, `error of ${kind} "${name}"`, error.message)
          return resume(Effect.interrupt)
        }
        resume(Effect.fail({ error, position }))
      })
      return Effect.sync(() => {
        if (issued !== null) execution.abandon(issued)
      })
    }),
  )

/**
 * What `perform` does, for a body that is no effect: calls back with the delivery, without a fiber. A
 * body that is over hears nothing more.
 *
 * @category operations
 * @since 0.1.0
 */
export const performUnsafe = (
  execution: Execution,
  operation: Operation,
  resume: (delivered: Delivered) => void,
): void => {
  if (execution.issue(operation, resume) === null) execution.wentOn()
}

const whileItRuns = <A, E>(execution: Execution, ask: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.suspend(() => {
    if (execution.mode !== "stopped" && execution.mode !== "ending") return ask
    // not from a finalizer, whose fiber is interrupted: that is the end of the body, not more of it
    const wentOn = Effect.interruptible(Effect.sync(() => execution.wentOn()))
    return Effect.andThen(wentOn, Effect.interrupt)
  })

/**
 * Whether the run takes the new code of a patch.
 *
 * @category operations
 * @since 0.1.0
 */
export const patched = (id: string): Effect.Effect<boolean, InvalidInput, WorkflowRun> =>
  Effect.andThen(
    Effect.fromResult(checkName(id, "patch id")),
    Effect.flatMap(WorkflowRun, ({ execution, patches }) =>
      whileItRuns(execution, patches.ask(id)),
    ),
  )

/**
 * Sets attributes of the run: to search runs by. Those not named stay. It costs no record, and waits
 * for nothing: they are stored with the run's next write, at the latest when it next waits.
 *
 * @category operations
 * @since 0.1.0
 */
export const setAttributes = (
  attributes: Attributes,
): Effect.Effect<void, InvalidInput, WorkflowRun> =>
  Effect.flatMap(WorkflowRun, ({ execution }) =>
    Effect.map(Effect.fromResult(checkAttributes(attributes, "attributes")), (checked) =>
      execution.publish(checked),
    ),
  )

/**
 * Sets the text that the run shows as its status, like attributes.
 *
 * @category operations
 * @since 0.1.0
 */
export const setStatus = (text: string): Effect.Effect<void, InvalidInput, WorkflowRun> =>
  Effect.flatMap(WorkflowRun, ({ execution }) =>
    Effect.map(Effect.fromResult(checkStatus(text)), (checked) =>
      execution.publish({ [statusName]: checked }),
    ),
  )

/**
 * Stops the run where a stored value does not fit the code: paused, its history intact. Never
 * continues.
 *
 * @category operations
 * @since 0.1.0
 */
export const pauseUnreadable = (
  field: string,
  reason: string,
): Effect.Effect<never, never, WorkflowRun> =>
  Effect.flatMap(WorkflowRun, ({ execution }) =>
    Effect.suspend(() => {
      pauseUnreadableUnsafe(execution, field, reason)
      return Effect.interrupt
    }),
  )

/**
 * What `pauseUnreadable` does, for a body that is no effect.
 *
 * @category operations
 * @since 0.1.0
 */
export const pauseUnreadableUnsafe = (
  execution: Execution,
  field: string,
  reason: string,
): void => {
  const error = execution.env.redact(encodeError(new UnreadableValue({ field, reason })))
  if (execution.mode !== "stopped") {
    execution.finish({ _tag: "Pause", error }, { _tag: "paused", error })
  }
}

/**
 * Remembers that `error`, as the body sees it, came from the record at `position`.
 *
 * @category operations
 * @since 0.1.0
 */
export const noteFailure = (
  error: unknown,
  position: number,
): Effect.Effect<void, never, WorkflowRun> =>
  Effect.map(WorkflowRun, ({ execution }) => noteFailureUnsafe(execution, error, position))

/**
 * What `noteFailure` does, for a body that is no effect.
 *
 * @category operations
 * @since 0.1.0
 */
export const noteFailureUnsafe = (execution: Execution, error: unknown, position: number): void => {
  if (!execution.failures.has(error)) execution.failures.set(error, position)
}

const sleepInBody =
  "a body must not sleep on the clock, which forgets: use Sleep.make(name, duration), which is durable"

/** The clock inside a body: the store's time of the last completion that the body saw. */
class BodyClock implements Clock.Clock {
  readonly #values: BodyValues

  constructor(values: BodyValues) {
    this.#values = values
  }

  currentTimeMillisUnsafe(): number {
    return this.#values.now()
  }

  currentTimeNanosUnsafe(): bigint {
    return BigInt(Math.round(this.#values.now())) * 1_000_000n
  }

  monotonicTimeNanosUnsafe(): bigint {
    return this.currentTimeNanosUnsafe()
  }

  get currentTimeMillis(): Effect.Effect<number> {
    return Effect.sync(() => this.currentTimeMillisUnsafe())
  }

  get currentTimeNanos(): Effect.Effect<bigint> {
    return Effect.sync(() => this.currentTimeNanosUnsafe())
  }

  get monotonicTimeNanos(): Effect.Effect<bigint> {
    return this.currentTimeNanos
  }

  // no time passes: what Effect.retry and its like do without a delay
  sleep(duration: Duration.Duration): Effect.Effect<void> {
    return Duration.toMillis(duration) <= 0 ? Effect.yieldNow : Effect.die(new Error(sleepInBody))
  }
}

/**
 * What a body's effects find: its run, the clock and the random numbers of the run, and `services`.
 *
 * @category services
 * @since 0.1.0
 */
export const bodyContext = (
  execution: Execution,
  services: Context.Context<never>,
): Context.Context<WorkflowRun> => {
  const { run } = execution
  const values = makeBodyValues(execution)
  return services.pipe(
    Context.add(WorkflowRun, {
      workflowRunId: run.workflowRunId,
      workflow: run.workflow,
      attempt: run.attempt,
      execution,
      values,
      patches: makePatches(execution),
      services,
    }),
    Context.add(Clock.Clock, new BodyClock(values)),
    Context.add(Random.Random, {
      nextIntUnsafe: values.randomInteger,
      nextDoubleUnsafe: values.random,
    }),
  )
}

/**
 * Runs a body's effect with what `bodyContext` has, on the scheduler of its run.
 *
 * @category services
 * @since 0.1.0
 */
export const runBody = (options: {
  readonly execution: Execution
  readonly services: Context.Context<never>
  readonly body: Effect.Effect<void, never, WorkflowRun>
}): (() => void) => {
  const { execution, services, body } = options
  const context = bodyContext(execution, services)
  const fiber = Effect.runForkWith(context)(body, { scheduler: execution.rest.scheduler })
  return () => fiber.interruptUnsafe()
}
