/**
 * What a start answers: a handle on the run, and how its result is waited for.
 */
import * as Effect from "effect/Effect"
import { Engine } from "../Engine.ts"
import { type Revive, summarize } from "../ErrorPayload.ts"
import { RunFailed, type RunNotFound, UnreadableValue } from "../FlowlyError.ts"
import { anyValue } from "../engine/values.ts"
import type { Encoded } from "../Payload.ts"
import { errorOf } from "./FlowlyError.ts"
import type { WorkflowStatus } from "./status.ts"
import type { CallersClient } from "./transaction.ts"

/**
 * A started run.
 */
export interface RunHandle<O> {
  readonly workflowRunId: string
  /** The idempotency key had this run already. */
  readonly existing: boolean
  /** The result, or a rejection: `FlowlyError` with code "RunFailed" and the error as its cause. */
  readonly result: () => Promise<O>
  readonly status: () => Promise<WorkflowStatus | null>
  /** As `engine.sendEvent`. */
  readonly sendEvent: (
    name: string,
    payload?: unknown,
    options?: SendOptions,
  ) => Promise<"sent" | "duplicate">
}

/**
 * How an event is sent.
 */
export interface SendOptions {
  /** Makes sending idempotent: a second event with this id changes nothing. */
  readonly id?: string | undefined
  /** Sends as a part of the transaction that is open on this client: see `TriggerOptions`. */
  readonly client?: CallersClient | undefined
}

/**
 * The result of a run when it has ended, or why there is none.
 */
export const resultOf = <O>(
  workflow: string,
  workflowRunId: string,
  revive: Revive,
): Effect.Effect<O, RunFailed | RunNotFound | UnreadableValue, Engine> =>
  Effect.flatMap(Engine, (engine) =>
    Effect.flatMap(
      engine.outcome(workflowRunId),
      ({ status, result, error }): Effect.Effect<O, RunFailed | UnreadableValue> =>
        status === "completed"
          ? read(result)
          : Effect.fail(
              new RunFailed({
                workflow,
                workflowRunId,
                status,
                reason: error === null ? "no error was recorded" : summarize(error),
                ...(error === null ? {} : { cause: errorOf(error, revive) }),
              }),
            ),
    ),
  )

const read = (result: Encoded | null): Effect.Effect<any, UnreadableValue> =>
  result === null
    ? Effect.succeed(undefined)
    : Effect.mapError(
        anyValue.decode(result),
        (reason) => new UnreadableValue({ field: "result", reason }),
      )
