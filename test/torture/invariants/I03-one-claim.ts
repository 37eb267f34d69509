/** One writer per run: claims never overlap, tokens grow, and only the holder of a claim writes. */
import type { RunChange } from "../audit.ts"
import { grouped, type Invariant } from "./invariant.ts"

/** The trigger looks at the clock a little after the statement did. */
const slackMs = 250

interface Claim {
  readonly worker: string
  readonly token: number
  readonly began: number
  /** The change that ended it. */
  ended: RunChange | null
}

export const I3: Invariant = {
  id: "I3",
  claim:
    "at any instant a run has at most one live claim, its tokens only grow, and whatever a holder " +
    "writes is written by the process of that holder, while it holds",
  check: ({ audit, roleOf, nameOf, violate }) => {
    const claims = new Map<string, Claim>()
    for (const [run, changes] of grouped(audit.runs, (one) => one.run)) {
      let open: Claim | null = null
      for (const change of changes) {
        const { verb, old_token, token, old_worker, worker, who } = change
        const wrong = (message: string) => violate("I3", run, `${verb}: ${message}`)
        if (old_token !== null && token < old_token) wrong(`token ${old_token} became ${token}`)
        const begins = worker !== null && (worker !== old_worker || token !== old_token)
        const ends = old_worker !== null && (worker !== old_worker || token !== old_token)
        if (ends) {
          if (open !== null) open.ended = change
          open = null
          const owner = roleOf.get(old_worker)
          if (verb === "sweep" && (change.old_lease_ms ?? -1) > 0) {
            wrong(`took a claim whose lease was live for ${change.old_lease_ms?.toFixed(0)} ms`)
          }
          if ((verb === "commit" || verb === "release") && owner !== who) {
            wrong(`${nameOf(who)} ended the claim of ${nameOf(owner ?? "somebody")}`)
          }
        }
        if (begins) {
          if (old_token !== null && token <= old_token) wrong(`token ${token} was given twice`)
          if (old_worker !== null) wrong("claimed what was held")
          if ((change.lease_ms ?? -Infinity) < -slackMs) wrong("claimed without a live lease")
          open = { worker, token, began: change.seq, ended: null }
          claims.set(`${run} ${token}`, open)
        }
      }
    }
    for (const { run, step, op, was, token, undo, undo_token, who, seq, xid } of audit.steps) {
      const fresh = op === "insert" || (op === "update" && was === "retrying")
      const used = [fresh ? token : null, undo === null ? null : undo_token]
      for (const one of used) {
        if (one === null) continue
        const wrong = (message: string) => violate("I3", run, `the record of ${step} ${message}`)
        const claim = claims.get(`${run} ${one}`)
        if (claim === undefined) {
          wrong(`was written under token ${one}, which nobody was given`)
          continue
        }
        const owner = roleOf.get(claim.worker)
        if (owner !== who) {
          wrong(`of ${nameOf(owner ?? "somebody")}'s claim was written by ${nameOf(who)}`)
        }
        const { ended } = claim
        if (ended !== null && ended.seq < seq && ended.xid !== xid) {
          wrong(`was written under token ${one} after that claim had ended (${ended.verb})`)
        }
      }
    }
    for (const { op, label, old_lease_ms } of audit.workers) {
      if (op !== "update" || (old_lease_ms ?? 0) > -slackMs) continue
      violate(
        "I3",
        null,
        `the lease of ${label} was renewed ${-Math.round(old_lease_ms ?? 0)} ms after its end`,
      )
    }
  },
}
