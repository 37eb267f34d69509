/** Who waits for a run hears how it ended. */
import * as Payload from "../../../src/Payload.ts"
import type { Invariant } from "../scene.ts"

export const I22: Invariant = {
  id: "I22",
  claim: "an outcome that somebody waited for is the run's own",
  watch: (scene) => {
    const revived = new Set<string>()
    return {
      onChange: ({ applied, rows }) => {
        if (applied.verb !== "retryRun") return
        for (const { after } of rows) revived.add(after.workflowRunId)
      },
      atEnd: () => {
        for (const { workflowRunId, status, result } of scene.heard) {
          const row = scene.rows().get(workflowRunId)
          // it had ended so before it was given another attempt
          if (row === undefined || revived.has(workflowRunId)) continue
          const own = row.result === null ? null : Payload.decode(row.result)
          if (row.status === status && own === result) continue
          const message = `is ${row.status}, and one who waited heard ${status}`
          scene.violate("I22", workflowRunId, message)
        }
      },
    }
  },
}
