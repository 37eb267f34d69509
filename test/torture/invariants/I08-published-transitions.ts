/** Statuses follow the published machine; what has ended stays ended. */
import { canTransition, type RunStatus } from "../../../src/Run.ts"
import type { Invariant } from "./invariant.ts"

export const I8: Invariant = {
  id: "I8",
  claim: "every change of status is in the transition table",
  check: ({ audit, violate }) => {
    for (const { run, verb, was, status } of audit.runs) {
      if (was === null || was === status) continue
      if (canTransition(was as RunStatus, status as RunStatus)) continue
      violate("I8", run, `${verb}: ${was} became ${status}`)
    }
  },
}
