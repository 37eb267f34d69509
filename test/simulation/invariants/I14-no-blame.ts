/** What infrastructure does is never told as a failure of the run. */
import { summarize, type StoredError } from "../../../src/ErrorPayload.ts"
import type { Evidence, Invariant } from "../scene.ts"

const infrastructure =
  /StoreUnavailable|StoreRejected|ClaimLost|LeaseLost|Interrupt|the driver broke|TriggerTimeout/

export const I14: Invariant<Evidence> = {
  id: "I14",
  claim: "no run fails, and no step of it, with an error of the infrastructure",
  watch: (scene) => {
    const blames = (error: StoredError | null): string | null => {
      for (let one = error; one !== null; one = one.cause ?? null) {
        const text = summarize(one)
        // a value that the store refuses is the step's own failure
        if (text.includes("22P05")) continue
        if (infrastructure.test(`${one.tag ?? ""} ${one.name} ${text}`)) return text
      }
      return null
    }
    return {
      atEnd: () => {
        for (const row of scene.rows().values()) {
          const blamed = blames(row.error)
          if (blamed !== null) scene.violate("I14", row.workflowRunId, `ended with: ${blamed}`)
          for (const { stepKey, error } of scene.records(row.workflowRunId)) {
            const wrong = blames(error)
            if (wrong !== null) scene.violate("I14", row.workflowRunId, `${stepKey}: ${wrong}`)
          }
        }
      },
    }
  },
}
