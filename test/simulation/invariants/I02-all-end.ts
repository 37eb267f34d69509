/** Nothing is lost: whatever went wrong, every run comes to an end once it has stopped going wrong. */
import { summarize } from "../../../src/ErrorPayload.ts"
import { isTerminal } from "../../../src/Run.ts"
import type { Evidence, Invariant } from "../scene.ts"

export const I2: Invariant<Evidence> = {
  id: "I2",
  claim: "after the liveness phase every run is terminal",
  watch: (scene) => ({
    atEnd: () => {
      for (const row of scene.rows().values()) {
        if (isTerminal(row.status)) continue
        const why = row.pauseReason === null ? "" : `: ${summarize(row.pauseReason)}`
        scene.violate("I2", row.workflowRunId, `is still ${row.status}${why}`)
      }
      const known = new Set(scene.acknowledged.map(({ start }) => start.key))
      for (const { key } of scene.program.starts) {
        if (!known.has(key)) scene.violate("I2", null, `the start of ${key} was never confirmed`)
      }
    },
  }),
}
