/** Statuses follow the published machine; what has ended stays ended. */
import { canTransition, isTerminal } from "../../../src/Run.ts"
import type { Invariant } from "../scene.ts"

export const I8: Invariant = {
  id: "I8",
  claim: "every change of status is in the transition table, and a terminal run never changes",
  watch: (scene) => ({
    onChange: ({ applied, rows }) => {
      for (const { before, after } of rows) {
        const wrong = (message: string) =>
          scene.violate("I8", after.workflowRunId, `${applied.verb}: ${message}`)
        if (before === null) {
          if (after.status !== "pending" && after.status !== "running")
            wrong(`born ${after.status}`)
          continue
        }
        if (before.status !== after.status && !canTransition(before.status, after.status)) {
          wrong(`${before.status} became ${after.status}`)
        }
        if (isTerminal(before.status) && !isTerminal(after.status) && applied.verb !== "retryRun") {
          wrong(`a run that was ${before.status} is ${after.status}`)
        }
        if (isTerminal(before.status) && before.result?.json !== after.result?.json) {
          wrong(`the result of a run that was ${before.status} changed`)
        }
      }
    },
  }),
}
