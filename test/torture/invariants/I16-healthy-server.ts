/** What the server says of us: nobody deadlocked, no index is broken. */
import type { Invariant } from "./invariant.ts"

export const I16: Invariant = {
  id: "I16",
  claim: "no deadlock, no invalid index (and, watched all the time: nobody idles in a transaction)",
  check: ({ deadlocks, invalidIndexes, violate }) => {
    if (deadlocks > 0) violate("I16", null, `the server resolved ${deadlocks} deadlocks`)
    for (const name of invalidIndexes) violate("I16", null, `the index ${name} is invalid`)
  },
}

/** Longer than a try of a transactional step, its commit and a busy machine need. */
export const longestIdleMs = 5000
