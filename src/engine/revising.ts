/**
 * An operator's word on undos, and why it was not heard.
 */
import * as Effect from "effect/Effect"
import { RunNotFound, RunStateConflict } from "../FlowlyError.ts"
import type { StoreError, WorkflowStore } from "../WorkflowStore.ts"

/**
 * Has undos of a run tried again, or skipped.
 */
export const reviseCompensation = (
  store: WorkflowStore["Service"],
  workflowRunId: string,
  stepKey: string | null,
  verb: "retry" | "skip",
): Effect.Effect<void, RunNotFound | RunStateConflict | StoreError> => {
  const operation = verb === "retry" ? "have undos tried again" : "have undos skipped"
  const refuse = (reason: string) =>
    Effect.fail(new RunStateConflict({ workflowRunId, operation, reason }))
  return Effect.flatMap(
    store.reviseCompensation({ workflowRunId, stepKey, verb }),
    (answer): Effect.Effect<void, RunNotFound | RunStateConflict> => {
      switch (answer) {
        case "revised":
          return Effect.void
        case "unknown":
          return Effect.fail(new RunNotFound({ workflowRunId }))
        case "which":
          return refuse("it has not ended: name the step")
        case "nothing":
          return refuse(
            stepKey === null
              ? "none of its undos has given up"
              : `step "${stepKey}" has no undo that gave up or is missing`,
          )
        case "refused":
          return refuse(
            `only a run that began to undo and has ended${verb === "retry" ? "" : ", or is paused,"} ` +
              "can, and only while no other run holds its concurrency key",
          )
      }
    },
  )
}
