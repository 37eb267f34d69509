/**
 * A step whose outcome is recorded never runs again for that run, and its undo neither.
 *
 * A body begins right after its process has looked whether its lease is trusted: a process may be
 * frozen between the two, and begin when it thaws. That is at most one body for each thaw.
 */
import type { Invariant } from "./invariant.ts"

const afterThawMs = 1000

export const I5: Invariant = {
  id: "I5",
  claim: "no body of a step or undo begins after its outcome was committed, by the server's clock",
  check: ({ audit, lines, rows, records, freezes, violate }) => {
    const undone = new Map<string, number>()
    for (const { run, step, undo, at } of audit.steps) {
      const key = `${run} ${step}`
      const isFinal = undo === "completed" || undo === "failed"
      if (isFinal && !undone.has(key)) undone.set(key, at.getTime())
    }
    const recorded = new Map<string, number>()
    for (const id of rows().keys()) {
      for (const { stepKey, completedAt } of records(id)) {
        if (completedAt !== null) recorded.set(`${id} ${stepKey}`, completedAt)
      }
    }
    const excused = new Set<unknown>()
    for (const { what, run, step, worker, began_at } of lines) {
      const key = `${run} ${step}`
      const finalAt = what === "step" ? recorded.get(key) : undone.get(key)
      const beganAt = began_at.getTime()
      // times of records are rounded to milliseconds
      if (finalAt === undefined || beganAt <= finalAt + 1) continue
      const thaw = freezes.find(
        (one) =>
          one.name === worker &&
          beganAt >= one.to - 50 &&
          beganAt <= one.to + afterThawMs &&
          finalAt <= one.to &&
          !excused.has(one),
      )
      if (thaw !== undefined) {
        excused.add(thaw)
        continue
      }
      violate(
        "I5",
        run,
        `${what} ${step} begins on ${worker} ${beganAt - finalAt} ms after its outcome`,
      )
    }
  },
}
