/** A run that executes hears what is asked of it: its cancel, its pause, its deadline. */
import { hasGoodNetwork } from "../faults.ts"
import { epoch } from "../machine.ts"
import type { Invariant } from "../scene.ts"

export const I24: Invariant = {
  id: "I24",
  claim: "on a good network, no step begins longer than two polls after its run was asked to stop",
  watch: (scene) => {
    const askedAt = new Map<string, number>()
    const { pollMs, latencyMs } = scene.options
    const hearsWithinMs = 2 * pollMs + 4 * latencyMs + 500
    return {
      onChange: ({ rows }) => {
        for (const { after } of rows) {
          const { workflowRunId, cancelRequest, pauseRequest } = after
          if (cancelRequest === null && pauseRequest === null) askedAt.delete(workflowRunId)
          else if (!askedAt.has(workflowRunId)) askedAt.set(workflowRunId, scene.machine.now)
        }
      },
      onTry: ({ what, workflowRunId, stepKey }) => {
        if (what === "undo" || !hasGoodNetwork(scene.options)) return
        const now = scene.machine.now
        const deadlineAt = scene.rows().get(workflowRunId)?.deadlineAt ?? null
        const since = Math.max(
          now - (askedAt.get(workflowRunId) ?? Infinity),
          deadlineAt === null ? -Infinity : epoch + now - deadlineAt,
        )
        if (since <= hearsWithinMs) return
        const message = `${stepKey} begins ${since.toFixed(0)} ms after its run was asked to stop`
        scene.violate("I24", workflowRunId, message)
      },
    }
  },
}
