/** What was recorded stands, and is what a body of the step answered. */
import * as Payload from "../../../src/Payload.ts"
import type { Invariant } from "./invariant.ts"

export const I4: Invariant = {
  id: "I4",
  claim: "a final record never changes or goes; it is what a try of that very step answered",
  check: ({ audit, lines, rows, records, violate }) => {
    for (const { run, step, op, was, status, rewritten } of audit.steps) {
      if (!rewritten) continue
      const what = op === "delete" ? "is gone" : `became another (${was}, ${status})`
      violate("I4", run, `the record of ${step} ${what}`)
    }
    const tries = new Map(lines.map((one) => [one.nonce, one]))
    for (const id of rows().keys()) {
      const positions = new Set<number>()
      for (const { stepKey, kind, status, result, position } of records(id)) {
        if (position !== null && positions.has(position)) {
          violate("I4", id, `position ${position} was given twice`)
        }
        if (position !== null) positions.add(position)
        if (kind !== "step" || status !== "completed" || result === null) continue
        const { nonce } = (Payload.decode(result) ?? {}) as { readonly nonce?: string }
        const one = tries.get(nonce ?? "")
        if (one?.run === id && one.step === stepKey && one.how !== "failed") continue
        violate("I4", id, `${stepKey}: no try ever answered what is recorded`)
      }
    }
  },
}
