/** No sleep ends early, by the server's clock. */
import type { Invariant } from "./invariant.ts"

export const I10: Invariant = {
  id: "I10",
  claim: "a sleep is recorded as over no sooner than its duration after it was first asked for",
  check: ({ asked, audit, records, wakes, violate }) => {
    const first = new Map<string, number>()
    /** Runs that a dead process had before: what it asked for last, it may not have lived to tell. */
    const sweptAt = new Map<string, number>()
    for (const { run, verb, at } of audit.runs) {
      if (verb === "sweep" && !sweptAt.has(run)) sweptAt.set(run, at.getTime())
    }
    for (const { run, step, ms, at } of asked) {
      const key = `${run} ${step}`
      const due = at.getTime() + ms
      first.set(key, Math.min(first.get(key) ?? Infinity, due))
    }
    for (const [key, due] of first) {
      const [run = "", step] = key.split(" ")
      const record = records(run).find(({ stepKey }) => stepKey === step)
      if (record?.status !== "completed" || record.completedAt === null) continue
      const wake = wakes.get(key)?.getTime()
      const { completedAt } = record
      if (wake === undefined) violate("I10", run, `${step} is over, and had no timer`)
      else if (completedAt + 1 < wake)
        violate("I10", run, `${step} ended ${wake - completedAt} ms early`)
      else if (wake + 1 < due && (sweptAt.get(run) ?? Infinity) > wake)
        violate("I10", run, `the timer of ${step} is ${due - wake} ms too short`)
    }
  },
}
