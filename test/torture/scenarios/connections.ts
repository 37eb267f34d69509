/** S6 and S7: sessions are ended, and the network between a process and the server misbehaves. */
import { play } from "../arena.ts"
import { endingCommits, endingTransactions, losingClaims } from "../nemesis/gates.ts"
import { disturbing, silencing } from "../nemesis/network.ts"
import { terminating } from "../nemesis/sessions.ts"
import type { Scenario } from "../scenario.ts"

export const S6: Scenario = {
  id: "S6",
  title: "the server ends sessions, two a second",
  tiers: ["T0", "T1", "T2"],
  run: (context) =>
    play(context, {
      workers: context.sized({ T0: 2, T1: 3, T2: 3 }),
      spares: 0,
      inFlight: context.sized({ T0: 20, T1: 40, T2: 40 }),
      harms: ({ url, fleet, observer, timeline, leaseMs, lost }) => {
        const { tell } = timeline
        const times = context.times({ T0: 10, T1: 200, T2: 5000 })
        const gated = { url, fleet, observer, leaseMs, tell, times: Math.ceil(times / 10) }
        return [
          terminating({ observer, dice: context.dice.fork(), times, everyMs: 500, tell }),
          endingCommits({ ...gated, dice: context.dice.fork(), everyMs: 4000 }),
          endingTransactions({ ...gated, dice: context.dice.fork(), everyMs: 4000 }),
          losingClaims({ ...gated, dice: context.dice.fork(), everyMs: 4000 }, lost),
        ]
      },
    }),
}

export const S7: Scenario = {
  id: "S7",
  title: "connections are cut, slow, silent, half-open",
  tiers: ["T1", "T2"],
  run: (context) =>
    play(context, {
      workers: context.sized({ T0: 2, T1: 4, T2: 4 }),
      spares: 0,
      inFlight: context.sized({ T0: 20, T1: 40, T2: 40 }),
      harms: ({ fleet, observer, leaseMs, timeline }) => {
        const times = context.times({ T0: 10, T1: 200, T2: 3000 })
        const given = { fleet, leaseMs, tell: timeline.tell }
        return [
          disturbing({ ...given, dice: context.dice.fork(), times, everyMs: 450 }),
          silencing({
            ...given,
            observer,
            dice: context.dice.fork(),
            times: Math.ceil(times / 20),
            everyMs: 6000,
          }),
        ]
      },
    }),
}
