/**
 * A child: another workflow, run as a part of this one, with its own history.
 *
 * A child is started once, whatever happens (its place in the parent is unique), and while the
 * parent waits for it, the parent holds no slot. Its typed error comes back typed; every other
 * ending (cancelled, dead-lettered, a defect) is `ChildFailed`.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { ChildOperation } from "./engine/Operation.ts"
import { decodeFailure, schemaValue } from "./engine/values.ts"
import type { StoredError } from "./ErrorPayload.ts"
import { decodeError } from "./ErrorPayload.ts"
import { ChildFailed, InvalidInput } from "./FlowlyError.ts"
import { limitMistake } from "./DurationInput.ts"
import { checkName } from "./Name.ts"
import * as RetryPolicy from "./RetryPolicy.ts"
import type { Workflow } from "./Workflow.ts"
import type { OnParentClose } from "./WorkflowStore.ts"
import { noteFailure, pauseUnreadable, perform, type WorkflowRun } from "./WorkflowRun.ts"

/**
 * How a child is run.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The child's step key. Default: the workflow's name. */
  readonly name?: string | undefined
  readonly timeout?: Duration.Input | undefined
  readonly maxAttempts?: number | undefined
  /**
   * What becomes of the child if it is open when its parent ends, in whatever way. Default: it is
   * cancelled.
   */
  readonly onParentClose?: OnParentClose | undefined
}

/**
 * A child that was started.
 *
 * @category models
 * @since 0.1.0
 */
export interface Started<out A, out E> {
  readonly workflowRunId: string
  /** Waits for the child. */
  readonly result: Effect.Effect<A, E | ChildFailed, WorkflowRun>
}

/**
 * Runs a child and waits for it. The name, by default the workflow's, is its step key.
 *
 * @category constructors
 * @since 0.1.0
 */
export const run = <P, A, E>(
  workflow: Workflow<P, A, E>,
  payload: P,
  options?: Options,
): Effect.Effect<A, E | ChildFailed, WorkflowRun> =>
  Effect.flatMap(operationOf(workflow, payload, options), (operation) =>
    resultOf(workflow, operation),
  )

/**
 * Starts a child, and goes on when it is in the store; its `result` may be waited for later. If the
 * whole parent is tried again, a child that failed starts anew where its result is waited for.
 *
 * @category constructors
 * @since 0.1.0
 */
export const start = <P, A, E>(
  workflow: Workflow<P, A, E>,
  payload: P,
  options?: Options,
): Effect.Effect<Started<A, E>, never, WorkflowRun> =>
  Effect.gen(function* () {
    const operation = yield* operationOf(workflow, payload, options)
    const { workflowRunId, stepKey } = yield* startAlone(operation)
    return {
      workflowRunId,
      result: resultOf(workflow, awaitOf(operation, stepKey)),
    }
  })

/**
 * Starts a child as an operation of its own; answers where it is found.
 *
 * @category operations
 * @since 0.1.0
 */
export const startAlone = (
  operation: ChildOperation,
): Effect.Effect<
  { readonly workflowRunId: string; readonly stepKey: string },
  never,
  WorkflowRun
> =>
  Effect.map(Effect.orDie(perform({ ...operation, kind: "child_start" })), (result) =>
    JSON.parse(result?.json ?? "{}"),
  )

/**
 * The operation that waits for a child which was started.
 *
 * @category operations
 * @since 0.1.0
 */
export const awaitOf = (operation: ChildOperation, stepKey: string): ChildOperation => ({
  ...operation,
  name: `${stepKey}.result`,
  startedAs: stepKey,
})

const operationOf = <P, A, E>(
  workflow: Workflow<P, A, E>,
  payload: P,
  options: Options | undefined,
): Effect.Effect<ChildOperation> =>
  Effect.gen(function* () {
    const name = yield* Effect.orDie(
      Effect.fromResult(checkName(options?.name ?? workflow.name, "child name")),
    )
    const timeoutMs = options?.timeout === undefined ? null : Duration.toMillis(options.timeout)
    const mistake = limitMistake(timeoutMs, `timeout of child "${name}"`)
    if (mistake !== null) return yield* Effect.die(mistake)
    const maxAttempts = options?.maxAttempts ?? null
    if (maxAttempts !== null && !RetryPolicy.isAttempts(maxAttempts)) {
      const reason = `must be a whole number from 1 to ${RetryPolicy.mostAttempts}`
      const field = `maxAttempts of child "${name}"`
      return yield* Effect.die(new InvalidInput({ field, reason }))
    }
    const input = yield* Effect.orDie(
      schemaValue(workflow.payload).encode(payload, `input of child "${name}"`),
    )
    return {
      kind: "child",
      startedAs: null,
      onParentClose: options?.onParentClose ?? "cancel",
      name,
      workflow: workflow.name,
      version: workflow.version,
      input,
      timeoutMs,
      maxAttempts,
    }
  })

const resultOf = <P, A, E>(
  workflow: Workflow<P, A, E>,
  operation: ChildOperation,
): Effect.Effect<A, E | ChildFailed, WorkflowRun> =>
  Effect.gen(function* () {
    const { name } = operation
    return yield* perform(operation).pipe(
      Effect.matchEffect({
        onSuccess: (result) =>
          Effect.catch(
            schemaValue(workflow.success).decode(result ?? { codec: "json", json: "null" }),
            (reason) => pauseUnreadable(`result of child "${name}"`, reason),
          ),
        onFailure: ({ error, position }) =>
          decodeFailure(workflow.error, error).pipe(
            Effect.catch((reason) => pauseUnreadable(`error of child "${name}"`, reason)),
            Effect.flatMap((decoded) => {
              const failure: E | ChildFailed =
                decoded._tag === "Typed" ? decoded.error : asChildFailed(workflow.name, error)
              return Effect.andThen(noteFailure(failure, position), Effect.fail(failure))
            }),
          ),
      }),
    )
  })

const text = (value: unknown): string => (typeof value === "string" ? value : "?")

const asChildFailed = (workflow: string, stored: StoredError): ChildFailed => {
  const props = stored.props ?? {}
  return new ChildFailed({
    workflow,
    workflowRunId: text(props["workflowRunId"]),
    status: text(props["status"]),
    reason: text(props["reason"]),
    ...(stored.cause === undefined ? {} : { cause: decodeError(stored.cause) }),
  })
}
