/** S4 and S5: processes die, and stand still, under load. */
import { play } from "../arena.ts"
import { overtaking } from "../nemesis/gates.ts"
import { freezing, killing } from "../nemesis/processes.ts"
import { locking } from "../nemesis/sessions.ts"
import type { Scenario } from "../scenario.ts"

export const S4: Scenario = {
  id: "S4",
  title: "processes are killed under load",
  tiers: ["T0", "T1", "T2"],
  run: (context) =>
    play(context, {
      workers: context.sized({ T0: 2, T1: 4, T2: 4 }),
      spares: context.sized({ T0: 1, T1: 2, T2: 2 }),
      inFlight: context.sized({ T0: 20, T1: 40, T2: 40 }),
      // who is left has room for the runs of the dead: else the bound would be one on room
      maxConcurrent: 60,
      direct: true,
      holdsRecovery: true,
      harms: (field) => {
        const { fleet, leaseMs, deaths } = field
        const { tell } = field.timeline
        const times = context.times({ T0: 4, T1: 60, T2: 1000 })
        const kill = { fleet, dice: context.dice.fork(), leaseMs, tell }
        return [killing({ ...kill, times, everyMs: 1800 }, deaths)]
      },
    }),
}

export const S5: Scenario = {
  id: "S5",
  title: "processes stand still for half a lease to four",
  tiers: ["T0", "T1", "T2"],
  run: (context) =>
    play(context, {
      workers: context.sized({ T0: 2, T1: 4, T2: 4 }),
      spares: 0,
      inFlight: context.sized({ T0: 20, T1: 40, T2: 40 }),
      harms: (field) => {
        const { fleet, leaseMs, freezes, locks, url, observer } = field
        const { tell } = field.timeline
        const times = context.times({ T0: 3, T1: 40, T2: 500 })
        const freeze = { fleet, dice: context.dice.fork(), leaseMs, tell }
        return [
          freezing({ ...freeze, times, everyMs: 1700 }, freezes),
          locking(
            {
              url,
              dice: context.dice.fork(),
              leaseMs,
              times: times / 2,
              everyMs: 2000,
              tell,
            },
            locks,
          ),
          overtaking(
            {
              ...freeze,
              url,
              observer,
              dice: context.dice.fork(),
              times: times / 4,
              everyMs: 5000,
            },
            freezes,
          ),
        ]
      },
    }),
}
