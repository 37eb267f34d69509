/** No sleep ends early, by the store's clock; nor does a wait that times out. */
import { epoch } from "../machine.ts"
import type { Invariant } from "../scene.ts"

export const I10: Invariant = {
  id: "I10",
  claim: "a sleep is recorded as over no sooner than its duration after it was first asked for",
  watch: (scene) => ({
    atEnd: () => {
      for (const { workflowRunId, stepKey, at, ms } of scene.ledger.sleeps.values()) {
        const record = scene.records(workflowRunId).find((one) => one.stepKey === stepKey)
        if (record?.status !== "completed" || record.completedAt === null) continue
        const timer = scene.timers(workflowRunId).find((one) => one.stepKey === stepKey)
        const early = (due: number) => (record.completedAt ?? 0) < Math.floor(due)
        if (timer === undefined) {
          scene.violate("I10", workflowRunId, `${stepKey} is over, but had no timer`)
        } else if (early(timer.wakeAt) || early(epoch + at + ms)) {
          scene.violate("I10", workflowRunId, `${stepKey} ended early`)
        } else if (timer.wakeAt < Math.floor(epoch + at + ms)) {
          scene.violate("I10", workflowRunId, `the timer of ${stepKey} is too short`)
        }
      }
    },
  }),
}
