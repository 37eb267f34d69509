/**
 * Whoever cannot renew its lease lets go of its runs before they are given to others: it ends the
 * bodies that heed their signal. By its own clock it trusts its lease a quarter less than it lasts, so
 * at the sweep nothing of it should be left. A process that stands still cannot let go of anything;
 * what it waited for a processor is taken off.
 */
import { commandsOf } from "../../simulation/program.ts"
import { grouped, type Invariant } from "./invariant.ts"

const slackMs = 250

export const I26: Invariant = {
  id: "I26",
  claim: "no body that heeds its signal goes on when its run was swept",
  check: ({ program, audit, lines, freezes, roleOf, nameOf, waited, violate }) => {
    const heeding = new Set(
      program.workflows
        .flatMap(({ block }) => commandsOf(block))
        .flatMap((one) => (one.is === "step" && one.heeds && one.ms > 0 ? [one.name] : [])),
    )
    const changes = grouped(audit.runs, ({ run }) => run)
    for (const { what, run, step, worker, began_at, ended_at } of lines) {
      if (what !== "step" || ended_at === null || !heeding.has(step.replace(/#\d+$/, ""))) continue
      const began = began_at.getTime()
      const ended = ended_at.getTime()
      const own = changes.get(run) ?? []
      const at = own.findLastIndex((one) => one.at.getTime() <= began)
      const holder = own[at]?.worker ?? null
      if (holder === null || nameOf(roleOf.get(holder) ?? "") !== worker) continue
      const taken = own.slice(at + 1).find((one) => one.worker !== holder)
      if (taken?.verb !== "sweep") continue
      const swept = taken.at.getTime()
      const late = ended - swept
      if (late <= slackMs) continue
      const stoodStill = freezes.some(
        (one) => one.name === worker && one.from < ended && one.to > began,
      )
      if (stoodStill || late - waited(worker, swept, ended) <= slackMs) continue
      violate("I26", run, `${step} went on on ${worker} for ${late} ms after its run was swept`)
    }
  },
}
