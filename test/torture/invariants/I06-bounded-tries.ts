/** Bodies run again only for a reason: a declared retry, or a claim that was taken away. */
import { grouped, type Invariant } from "./invariant.ts"

const nameOf = (stepKey: string): string => stepKey.replace(/#\d+$/, "")

export const I6: Invariant = {
  id: "I6",
  claim: "each try of a step runs once, and once more for each time its run was taken away",
  check: ({ lines, transactional, taken, violate }) => {
    // the code of a transactional step runs again where its transaction did not come about
    const once = lines.filter(
      ({ what, step }) => what === "undo" || !transactional.has(nameOf(step)),
    )
    const tries = grouped(
      once,
      ({ what, run, step, run_attempt, attempt }) =>
        `${what} ${run} ${step} ${run_attempt} ${attempt}`,
    )
    for (const same of tries.values()) {
      const [first] = same
      if (first === undefined) continue
      const allowed = 1 + taken(first.run)
      if (same.length <= allowed) continue
      const { what, run, step, attempt } = first
      violate(
        "I6",
        run,
        `try ${attempt} of ${what} ${step} ran ${same.length} times, not ${allowed} at most`,
      )
    }
  },
}
