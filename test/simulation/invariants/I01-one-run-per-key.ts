/** Same key, same run: however often, and from however many processes, it was triggered. */
import type { Evidence, Invariant } from "../scene.ts"

export const I1: Invariant<Evidence> = {
  id: "I1",
  claim: "every confirmed start has exactly one run, and all of its confirmations name that run",
  watch: (scene) => ({
    atEnd: () => {
      const rows = scene.rows()
      const perKey = new Map<string, string>()
      for (const { workflowRunId, idempotencyKey } of rows.values()) {
        if (idempotencyKey === null) continue
        const other = perKey.get(idempotencyKey)
        if (other !== undefined) scene.violate("I1", workflowRunId, `shares ${idempotencyKey}`)
        perKey.set(idempotencyKey, workflowRunId)
      }
      for (const { start, workflowRunId } of scene.acknowledged) {
        if (perKey.get(start.key) !== workflowRunId) {
          scene.violate(
            "I1",
            workflowRunId,
            `was confirmed for ${start.key}, which has another run`,
          )
        }
      }
      const children = new Set<string>()
      for (const { workflowRunId, parent } of rows.values()) {
        if (parent === null) continue
        const place = `${parent.workflowRunId} ${parent.stepKey} ${parent.attempt}`
        if (children.has(place)) scene.violate("I1", workflowRunId, "is a second child of one step")
        children.add(place)
      }
    },
  }),
}
