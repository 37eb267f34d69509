/** A driver that dies now and then stops nobody. */
import { summarize } from "../../../src/ErrorPayload.ts"
import type { Invariant } from "../scene.ts"

/** How often a call on which the driver dies is made, before a person is asked. */
const patience = 3

export const I23: Invariant = {
  id: "I23",
  claim: "no run is paused for a driver that has died less often than three times",
  watch: (scene) => ({
    onChange: ({ applied: { process }, rows }) => {
      for (const { before, after } of rows) {
        const { workflowRunId, status, pauseReason } = after
        if (status !== "paused" || before?.status === "paused" || pauseReason === null) continue
        if (!summarize(pauseReason).includes("the driver broke")) continue
        const deaths = scene.network.deaths.get(process) ?? 0
        if (deaths >= patience) continue
        const message = `is paused by ${process.name}, whose driver has died ${deaths} times`
        scene.violate("I23", workflowRunId, message)
      }
    },
  }),
}
