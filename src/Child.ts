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
import { decodeFailure, schemaValue } from "./engine/values.ts"
import type { StoredError } from "./ErrorPayload.ts"
import { decodeError } from "./ErrorPayload.ts"
import { ChildFailed } from "./FlowlyError.ts"
import type { Workflow } from "./Workflow.ts"
import { noteFailure, pauseUnreadable, perform, type WorkflowRun } from "./WorkflowRun.ts"

/**
 * Runs a child and waits for it. The name, by default the workflow's, is its step key.
 *
 * @category constructors
 * @since 0.1.0
 */
export const run = <P, A, E>(
  workflow: Workflow<P, A, E>,
  payload: P,
  options?: {
    readonly name?: string | undefined
    readonly timeout?: Duration.Input | undefined
    readonly maxAttempts?: number | undefined
  },
): Effect.Effect<A, E | ChildFailed, WorkflowRun> =>
  Effect.gen(function* () {
    const name = options?.name ?? workflow.name
    const input = yield* Effect.orDie(
      schemaValue(workflow.payload).encode(payload, `input of child "${name}"`),
    )
    return yield* perform({
      kind: "child",
      name,
      workflow: workflow.name,
      version: workflow.version,
      input,
      timeoutMs: options?.timeout === undefined ? null : Duration.toMillis(options.timeout),
      maxAttempts: options?.maxAttempts ?? null,
    }).pipe(
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
