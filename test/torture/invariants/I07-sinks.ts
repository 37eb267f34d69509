/** Effects outside, taken once by their key, and effects inside of a transaction: exactly one each. */
import * as Payload from "../../../src/Payload.ts"
import { grouped, type Invariant } from "./invariant.ts"

const nameOf = (stepKey: string): string => stepKey.replace(/#\d+$/, "")

export const I7Sinks: Invariant = {
  id: "I7",
  claim:
    "a step has one idempotency key, and one effect under it; a transactional step that completed " +
    "has one transfer, that of the try which is recorded, and one that did not has none",
  check: ({ sink, transfers, workload, rows, records, violate }) => {
    const effects = grouped(sink, ({ run, step }) => `${run} ${step}`)
    for (const same of effects.values()) {
      const [first] = same
      if (first === undefined || same.length === 1) continue
      violate(
        "I7",
        first.run,
        `${first.step} had ${same.length} keys: ${same.map((one) => one.key).join()}`,
      )
    }
    const moved = grouped(transfers, ({ run, step }) => `${run} ${step}`)
    const accounted = new Set<string>()
    for (const id of rows().keys()) {
      for (const { stepKey, kind, status, result } of records(id)) {
        if (kind !== "step" || status !== "completed") continue
        const key = `${id} ${stepKey}`
        if (!effects.has(key)) violate("I7", id, `${stepKey} is completed, and had no effect`)
        if (!workload.transactional.has(nameOf(stepKey))) continue
        accounted.add(key)
        const own = moved.get(key) ?? []
        if (own.length !== 1) {
          violate("I7", id, `${stepKey} is completed, and was transferred ${own.length} times`)
        }
        const { nonce } = (Payload.decode(result ?? { codec: "json", json: "{}" }) ?? {}) as {
          readonly nonce?: string
        }
        if (own.length === 1 && own[0]?.nonce !== nonce) {
          violate("I7", id, `${stepKey} was transferred by another try than the recorded one`)
        }
      }
    }
    for (const [key, [one]] of moved) {
      if (accounted.has(key) || one === undefined) continue
      violate("I7", one.run, `${one.step} was transferred, and is not recorded as completed`)
    }
  },
}
