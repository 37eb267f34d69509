/** Effects outside, taken once by their key. (Transactional ones: I7 of the simulation.) */
import { grouped, type Invariant } from "./invariant.ts"

export const I7Sink: Invariant = {
  id: "I7",
  claim: "a step has one idempotency key for ever, and one effect under it",
  check: ({ sink, rows, records, violate }) => {
    const effects = grouped(sink, ({ run, step }) => `${run} ${step}`)
    for (const same of effects.values()) {
      const [first] = same
      if (first === undefined || same.length === 1) continue
      const keys = same.map(({ key }) => key).join()
      violate("I7", first.run, `${first.step} had ${same.length} keys: ${keys}`)
    }
    for (const id of rows().keys()) {
      for (const { stepKey, kind, status } of records(id)) {
        if (kind !== "step" || status !== "completed" || effects.has(`${id} ${stepKey}`)) continue
        violate("I7", id, `${stepKey} is completed, and had no effect`)
      }
    }
  },
}
