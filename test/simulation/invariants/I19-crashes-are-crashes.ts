/** A run is called poison only after its workers really died under it, one after the other. */
import type { Invariant } from "../scene.ts"

/** The default of workers. */
const mostCrashes = 5

export const I19: Invariant = {
  id: "I19",
  claim: "a run's crash count is no more than the claims in a row that lapsed without progress",
  watch: (scene) => {
    const lapsed = new Map<string, number>()
    return {
      onChange: ({ applied, rows }) => {
        for (const { before, after } of rows) {
          const { workflowRunId } = after
          const swept =
            applied.verb === "sweep" && before?.workerId != null && after.workerId === null
          const count = (lapsed.get(workflowRunId) ?? 0) + (swept ? 1 : 0)
          // a park, a hand-back or a record begins the count anew
          const letGo =
            applied.verb === "commit" && before?.workerId != null && after.workerId === null
          lapsed.set(workflowRunId, (after.crashCount === 0 && !swept) || letGo ? 0 : count)
          if (after.error?.tag === "PoisonRun" && before?.error?.tag !== "PoisonRun") {
            if (count < mostCrashes) {
              scene.violate("I19", workflowRunId, `is called poison after ${count} crashes`)
            }
          }
          if (after.crashCount <= (letGo ? 0 : count)) continue
          scene.violate(
            "I19",
            workflowRunId,
            `${applied.verb}: ${after.crashCount} crashes are counted, but ${count} claims lapsed`,
          )
        }
      },
    }
  },
}
