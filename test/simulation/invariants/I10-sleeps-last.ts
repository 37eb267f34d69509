/** No sleep ends early, by the store's clock; nor does a run begin that was scheduled for later. */
import { hasGoodNetwork } from "../faults.ts"
import { epoch } from "../machine.ts"
import type { Invariant } from "../scene.ts"

/** Several times as long as a commit takes, with one before it. */
const fixedWithinMs = 500

export const I10: Invariant = {
  id: "I10",
  claim: "a sleep is recorded as over no sooner than its duration after it was first asked for",
  watch: (scene) => ({
    onChange: ({ now, rows }) => {
      for (const { before, after } of rows) {
        const begins = before?.workerId == null && after.workerId !== null
        if (!begins || after.scheduledFor === null || now >= after.scheduledFor) continue
        scene.violate("I10", after.workflowRunId, "begins before it was scheduled for")
      }
    },
    onSleep: ({ workflowRunId, stepKey, process }) => {
      // a crash must not begin a sleep anew: it is fixed in the store as soon as it is reached
      // a batch with a value that the store refuses is halved, again and again
      if (!hasGoodNetwork(scene.options) || scene.options.refusals) return
      const asked = scene.rows().get(workflowRunId)
      scene.machine.after(scene.machine.nature, fixedWithinMs, () => {
        const row = scene.rows().get(workflowRunId)
        const same = row?.token === asked?.token && row?.workerId === asked?.workerId
        if (!same || row?.workerId == null || row.compensating || process.state !== "alive") return
        // who stops begins nothing any more
        if (process.stoppingAt !== null) return
        const body = scene.ledger.executions.findLast(
          (one) => one.workflowRunId === workflowRunId && one.process === process,
        )
        if (body?.ended !== false) return
        if (row.cancelRequest !== null || row.pauseRequest !== null) return
        if (scene.timers(workflowRunId).some((timer) => timer.stepKey === stepKey)) return
        scene.violate("I10", workflowRunId, `${stepKey} is slept, and no timer of it is stored`)
      })
    },
    atEnd: () => {
      for (const { workflowRunId, stepKey, at, ms } of scene.ledger.sleeps.values()) {
        if (scene.inherited(workflowRunId).has(stepKey)) continue
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
