/**
 * Who a run is: what happens when an id or a key is taken already.
 *
 * By default an idempotency key (or a chosen id) is joined, if the inputs are the same, and a
 * concurrency key refuses. `terminate-existing` ends the run in the way and takes its place: not in
 * one step, so another start may come between, and is then ended in its turn.
 */
import * as Effect from "effect/Effect"
import { ConcurrencyConflict, IdempotencyConflict } from "../FlowlyError.ts"
import { differingPaths } from "../Payload.ts"
import type { InsertAnswer, NewRun, RunRow } from "../WorkflowStore.ts"

/**
 * What to do where a key is taken.
 *
 * @category models
 * @since 0.1.0
 */
export type OnConflict = "join" | "reject" | "terminate-existing"

/** A start that came to its end. */
interface Started {
  readonly workflowRunId: string
  readonly existing: boolean
}

/** How often a start with `terminate-existing` makes room, before it gives up. */
export const mostReplacements = 10

/**
 * The run that has the key or the id already, if it may be joined.
 */
export const join = (
  run: NewRun,
  found: RunRow,
  onConflict: OnConflict | undefined,
  idempotencyKey: string | null,
): Effect.Effect<Started, IdempotencyConflict> => {
  const { workflow } = run
  const { workflowRunId } = found
  const fields = [
    ...(found.workflow === workflow ? [] : ["workflow"]),
    ...differingPaths(found.input, run.input),
  ]
  if (fields.length === 0 && (onConflict ?? "join") === "join") {
    return Effect.succeed({ workflowRunId, existing: true })
  }
  return Effect.fail(new IdempotencyConflict({ workflow, idempotencyKey, workflowRunId, fields }))
}

/**
 * What the answer to an insert means for the one who asked.
 */
export const started = (
  run: NewRun,
  answer: InsertAnswer,
  onConflict: OnConflict | undefined,
): Effect.Effect<Started, IdempotencyConflict | ConcurrencyConflict> => {
  const { workflow } = run
  switch (answer._tag) {
    case "Inserted":
      return Effect.succeed({ workflowRunId: answer.workflowRunId, existing: false })
    case "Existing":
      return join(run, answer.run, onConflict, run.idempotencyKey)
    case "ConcurrencyHeld": {
      const { workflowRunId } = answer
      if (onConflict === "join") return Effect.succeed({ workflowRunId, existing: true })
      const concurrencyKey = run.concurrencyKey ?? ""
      return Effect.fail(new ConcurrencyConflict({ workflow, concurrencyKey, workflowRunId }))
    }
  }
}
