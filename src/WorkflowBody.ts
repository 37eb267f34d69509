/**
 * What an engine executes for a workflow: its body, from the stored input to the stored end. Both APIs
 * register theirs here; nothing of it is for applications.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { Engine, type RegisteredWorkflow } from "./Engine.ts"
import type { BodyEnd, CompensateOn, Execution } from "./engine/Execution.ts"
import { type AnyCodec, encodeFailure, type ValueCodec } from "./engine/values.ts"
import { encodeError } from "./ErrorPayload.ts"
import { type DuplicateWorkflow, type InvalidInput, UnreadableValue } from "./FlowlyError.ts"
import { checkName } from "./Name.ts"
import { runBody, type WorkflowRun } from "./WorkflowRun.ts"

/**
 * A body, registered with the engine for the life of the layer: what both APIs build on. `startBody`
 * answers how to abandon the body that it has started; an abandoned one has no end.
 *
 * @category layers
 * @since 0.1.0
 */
export const registerBody = (
  workflow: Omit<RegisteredWorkflow, "startBody">,
  startBody: (services: Context.Context<never>) => RegisteredWorkflow["startBody"],
): Layer.Layer<never, DuplicateWorkflow | InvalidInput, Engine> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      yield* Effect.fromResult(checkName(workflow.name, "workflow name"))
      const engine = yield* Engine
      yield* engine.register({
        ...workflow,
        startBody: startBody(yield* Effect.context<never>()),
      })
    }),
  )

/**
 * A body with its codecs, registered with the engine for the life of the layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const register = (options: {
  readonly name: string
  readonly version: string | null
  readonly payload: ValueCodec<any>
  readonly success: ValueCodec<any>
  readonly error: AnyCodec | null
  readonly compensateOn?: Partial<CompensateOn> | undefined
  readonly body: (payload: any) => Effect.Effect<any, any, WorkflowRun>
}): Layer.Layer<never, DuplicateWorkflow | InvalidInput, Engine> =>
  registerBody(
    {
      name: options.name,
      version: options.version,
      compensateOn: { failure: true, cancel: true, timeout: true, ...options.compensateOn },
    },
    (services) => (execution, onEnd) =>
      runBody({
        execution,
        services,
        body: Effect.flatMap(bodyOf(options, execution.run.input), (end) =>
          Effect.sync(() => onEnd(redacted(execution, end))),
        ),
      }),
  )

/**
 * The end of a body that is told: also what it could not read is redacted, for a Schema tells what it
 * was given.
 *
 * @category combinators
 * @since 0.1.0
 */
export const redacted = (execution: Execution, end: BodyEnd): BodyEnd =>
  end._tag === "Success" ? end : { ...end, error: execution.env.redact(end.error) }

/**
 * The end of a body that cannot read a stored value.
 *
 * @category combinators
 * @since 0.1.0
 */
export const unreadable = (field: string, reason: string): BodyEnd => ({
  _tag: "Unreadable",
  error: encodeError(new UnreadableValue({ field, reason })),
})

/** The body from payload to end, in stored form. Interruption alone is not an end. */
const bodyOf = (
  options: Parameters<typeof register>[0],
  input: Parameters<ValueCodec<any>["decode"]>[0],
): Effect.Effect<BodyEnd, never, WorkflowRun> =>
  options.payload.decode(input).pipe(
    Effect.matchEffect({
      onFailure: (reason) => Effect.succeed(unreadable("input", reason)),
      onSuccess: (payload) =>
        Effect.suspend(() => options.body(payload)).pipe(
          Effect.exit,
          Effect.flatMap((exit) => endOf(options, exit)),
        ),
    }),
  )

const endOf = (
  options: Parameters<typeof register>[0],
  exit: Exit.Exit<any, any>,
): Effect.Effect<BodyEnd> => {
  if (Exit.isSuccess(exit)) {
    return options.success.encode(exit.value, "result of the workflow").pipe(
      Effect.match({
        onSuccess: (result): BodyEnd => ({ _tag: "Success", result }),
        onFailure: (error): BodyEnd => ({
          _tag: "Failure",
          error: encodeError(error),
          raw: error,
        }),
      }),
    )
  }
  for (const reason of exit.cause.reasons) {
    if (Cause.isFailReason(reason)) {
      return Effect.map(encodeFailure(options.error, reason.error), (error): BodyEnd => ({
        _tag: "Failure",
        error,
        raw: reason.error,
      }))
    }
  }
  const raw = Cause.squash(exit.cause)
  return Effect.succeed({ _tag: "Failure", error: encodeError(raw), raw })
}
