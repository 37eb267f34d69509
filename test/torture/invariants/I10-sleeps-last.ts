/**
 * No sleep ends early, by the server's clock.
 *
 * When it was first asked for is told by its timer, which is set then: what a process says of its
 * asking may die with it, and what is left is the asking of a replay.
 */
import type { Invariant } from "./invariant.ts"

export const I10: Invariant = {
  id: "I10",
  claim: "a sleep is recorded as over no sooner than its duration after it was first asked for",
  check: ({ asked, records, timers, violate }) => {
    const durations = new Map(asked.map(({ run, step, ms }) => [`${run} ${step}`, ms]))
    for (const [key, ms] of durations) {
      const [run = "", step] = key.split(" ")
      const record = records(run).find(({ stepKey }) => stepKey === step)
      if (record?.status !== "completed" || record.completedAt === null) continue
      const timer = timers.get(key)
      if (timer === undefined) {
        violate("I10", run, `${step} is over, and had no timer`)
        continue
      }
      const { completedAt } = record
      const [setAt, wakeAt] = [timer.setAt.getTime(), timer.wakeAt.getTime()]
      const due = setAt + ms
      if (completedAt + 1 < wakeAt) {
        violate("I10", run, `${step} ended ${wakeAt - completedAt} ms early`)
      } else if (wakeAt + 1 < due) {
        violate("I10", run, `the timer of ${step} is ${due - wakeAt} ms too short`)
      }
    }
  },
}
