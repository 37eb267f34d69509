/** Bodies run again only for a reason: a declared retry, or something that went wrong. */
import type { Invariant } from "../scene.ts"

export const I6: Invariant = {
  id: "I6",
  claim: "tries of a step are at most those declared and one for each time its run was taken away",
  watch: (scene) => {
    /** How often a claim of the run ended before its run had parked or settled. */
    const taken = new Map<string, number>()
    return {
      onChange: ({ applied, rows }) => {
        for (const { before, after } of rows) {
          if (before === null || before.workerId === null) continue
          if (before.workerId === after.workerId && before.token === after.token) continue
          // a graceful stop hands back at a safe point, but gives up on what takes too long
          const lost = applied.verb !== "commit" || after.status === "pending"
          if (!lost) continue
          taken.set(after.workflowRunId, (taken.get(after.workflowRunId) ?? 0) + 1)
        }
      },
      atEnd: () => {
        const counts = new Map<string, number>()
        for (const { what, workflowRunId, stepKey, runAttempt, attempt } of scene.ledger.tries) {
          const key = `${what} ${workflowRunId} ${stepKey} ${runAttempt} ${attempt}`
          counts.set(key, (counts.get(key) ?? 0) + 1)
        }
        for (const [key, count] of counts) {
          const [what, workflowRunId = "", stepKey, , attempt] = key.split(" ")
          const allowed = 1 + (taken.get(workflowRunId) ?? 0)
          if (count <= allowed) continue
          scene.violate(
            "I6",
            workflowRunId,
            `try ${attempt} of ${what} ${stepKey} ran ${count} times, not at most ${allowed}`,
          )
        }
      },
    }
  },
}
