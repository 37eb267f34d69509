/** What flowly does itself, it does once: an emitted event is there exactly once. */
import type { Invariant } from "../scene.ts"

export const I7: Invariant = {
  id: "I7",
  claim: "each emit that was recorded has exactly one event, and no other event was emitted",
  watch: (scene) => ({
    atEnd: () => {
      for (const { workflowRunId } of scene.rows().values()) {
        const emitted = scene.emitted(workflowRunId).map(({ name }) => name)
        const recorded = scene
          .records(workflowRunId)
          .filter(({ kind, status }) => kind === "emit" && status === "completed")
          .map(({ name }) => name)
        if (emitted.toSorted().join() === recorded.toSorted().join()) continue
        const message = `emitted [${emitted.join()}], but recorded [${recorded.join()}]`
        scene.violate("I7", workflowRunId, message)
      }
    },
  }),
}
