/**
 * What becomes of claims whose holder never heard of them: it lives, its lease does not lapse, so nobody
 * else will ever have them. It must ask what it holds, and give them back; soon, for it knows that it
 * was not answered.
 */
import type { RunChange } from "./audit.ts"
import { grouped } from "./invariants/invariant.ts"
import type { Lost } from "./nemesis/gates.ts"
import type { RowLock } from "./nemesis/sessions.ts"
import type { Context } from "./scenario.ts"

export const judgeLostClaims = (
  changes: ReadonlyArray<RunChange>,
  given: {
    readonly lost: ReadonlyArray<Lost>
    readonly locks: ReadonlyArray<RowLock>
    readonly leaseMs: number
  },
  context: Pick<Context, "count" | "measure" | "violate">,
): void => {
  const { lost, locks, leaseMs } = given
  /** Neither its holder nor a sweep gives back what somebody else has locked. */
  const lockedMs = (run: string, since: number, until: number) =>
    locks
      .filter(({ runs }) => runs.includes(run))
      .reduce(
        (sum, { from, to }) => sum + Math.max(0, Math.min(to, until) - Math.max(from, since)),
        0,
      )
  const histories = grouped(changes, ({ run }) => run)
  for (const { name, role, pids, from } of lost) {
    // its connections end within a lease, and a later session may be given the same number
    const claims = changes.filter(
      ({ verb, who, pid, at }) =>
        verb === "claim" &&
        who === role &&
        pids.includes(pid) &&
        at.getTime() >= from &&
        at.getTime() <= from + leaseMs,
    )
    for (const { run, seq, at } of claims) {
      const next = histories.get(run)?.find((one) => one.seq > seq)
      // that of a run that never ends is told by others
      if (next === undefined) continue
      const [since, until] = [at.getTime(), next.at.getTime()]
      const ms = until - since - lockedMs(run, since, until)
      context.count("claims nobody heard of")
      context.measure("from a lost claim to its end", ms)
      if (ms <= 2 * leaseMs) continue
      context.violate({
        invariant: "I13",
        message: `${name} never heard of its claim, and held it for ${ms} ms (${next.verb})`,
        workflowRunId: run,
      })
    }
  }
}
