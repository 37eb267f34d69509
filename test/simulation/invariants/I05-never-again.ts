/** A step whose outcome is recorded never runs again for that run, and its undo neither. */
import type { Invariant } from "../scene.ts"

export const I5: Invariant = {
  id: "I5",
  claim: "no body of a step or undo begins after its outcome was committed",
  watch: (scene) => ({
    onTry: ({ what, workflowRunId, stepKey, process }) => {
      const record = scene.records(workflowRunId).find((one) => one.stepKey === stepKey)
      const wrong = (message: string) =>
        scene.violate("I5", workflowRunId, `${what} ${stepKey} on ${process.name}: ${message}`)
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
  }),
}
