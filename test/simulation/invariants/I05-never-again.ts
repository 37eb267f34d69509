/** A step whose outcome is recorded never runs again for that run, and its undo neither. */
import { isTerminal } from "../../../src/Run.ts"
import { hasGoodNetwork } from "../faults.ts"
import type { Invariant } from "../scene.ts"

export const I5: Invariant = {
  id: "I5",
  claim:
    "no body of a step or undo begins after its outcome was committed, nor long after its run has ended",
  watch: (scene) => {
    const endedAt = new Map<string, number>()
    // two polls without hints, and the ways there and back
    const { pollMs, latencyMs } = scene.options
    const hearsWithinMs = hasGoodNetwork(scene.options)
      ? 2 * pollMs + 4 * latencyMs + 500
      : Infinity
    return {
      onChange: ({ rows }) => {
        for (const { after } of rows) {
          const { workflowRunId, status } = after
          if (!isTerminal(status)) endedAt.delete(workflowRunId)
          else if (!endedAt.has(workflowRunId)) endedAt.set(workflowRunId, scene.machine.now)
        }
      },
      onTry: ({ what, workflowRunId, stepKey, process }) => {
        const record = scene.records(workflowRunId).find((one) => one.stepKey === stepKey)
        const wrong = (message: string) =>
          scene.violate("I5", workflowRunId, `${what} ${stepKey} on ${process.name}: ${message}`)
        const since = scene.machine.now - (endedAt.get(workflowRunId) ?? Infinity)
        if (since > hearsWithinMs) wrong(`begins ${since.toFixed(0)} ms after its run has ended`)
        if (what === "step") {
          if (record !== undefined && record.status !== "retrying") {
            wrong(`begins, but is recorded as ${record.status}`)
          }
        } else if (record?.status !== "completed" && record?.hasCompensate !== true) {
          wrong(`begins, but the step is ${record?.status ?? "not recorded"}`)
        } else if (record.compensation !== null && record.compensation.status !== "retrying") {
          wrong(`begins, but is recorded as ${record.compensation.status}`)
        }
      },
    }
  },
}
