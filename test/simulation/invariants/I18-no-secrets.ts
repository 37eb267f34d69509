/** What users hand in stays where it belongs, and leaves JavaScript's own objects alone. */
import { canary } from "../watched.ts"
import type { Evidence, Invariant } from "../scene.ts"

const before = Object.getOwnPropertyNames(Object.prototype).join()

export const I18: Invariant<Evidence> = {
  id: "I18",
  claim: "no input shows in a log or an error; Object.prototype is as it was",
  watch: (scene) => ({
    atEnd: () => {
      if (Object.getOwnPropertyNames(Object.prototype).join() !== before) {
        scene.violate("I18", null, "Object.prototype was changed")
      }
      if (scene.logs.some((line) => line.includes(canary))) {
        scene.violate("I18", null, "an input was logged")
      }
      for (const row of scene.rows().values()) {
        const errors = [row.error, row.pauseReason]
        for (const { error } of scene.records(row.workflowRunId)) errors.push(error)
        if (!JSON.stringify(errors).includes(canary)) continue
        scene.violate("I18", row.workflowRunId, "an input stands in an error")
      }
    },
  }),
}
