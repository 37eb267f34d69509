/** A fork begins with what its origin had done up to the point, and with nothing that it has undone. */
import type { ForkPoint } from "../../../src/Control.ts"
import type { Invariant } from "../scene.ts"

export const I25: Invariant = {
  id: "I25",
  claim: "a fork has the records of its origin before the point, none else, and none of its undos",
  watch: (scene) => ({
    onChange: ({ applied, rows }) => {
      if (applied.verb !== "forkRuns") return
      const forks = applied.args[0] as ReadonlyArray<{
        readonly workflowRunId: string
        readonly from: ForkPoint
        readonly newRunId: string
      }>
      for (const { workflowRunId, from, newRunId } of forks) {
        const isNew = rows.some(
          ({ before, after }) => before === null && after.workflowRunId === newRunId,
        )
        if (!isNew || (from !== null && !("position" in from))) continue
        const before = from === null ? Infinity : from.position
        const expected = scene
          .records(workflowRunId)
          .flatMap(({ stepKey, position }) => ((position ?? Infinity) < before ? [stepKey] : []))
        const records = scene.records(newRunId)
        const found = records.map(({ stepKey }) => stepKey)
        const wrong = (message: string) => scene.violate("I25", newRunId, message)
        if (found.toSorted().join() !== expected.toSorted().join()) {
          wrong(`begins with [${found.join()}], not with [${expected.join()}]`)
        }
        for (const { stepKey, compensation } of records) {
          if (compensation !== null) wrong(`takes ${stepKey} for undone`)
        }
      }
    },
  }),
}
