/** S6 and S7: sessions are ended, and the network between a process and the server misbehaves. */
import { play } from "../arena.ts"
import { disturbing } from "../nemesis/network.ts"
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
      harms: ({ observer, timeline }) => [
        terminating({
          observer,
          dice: context.dice.fork(),
          times: context.times({ T0: 10, T1: 200, T2: 5000 }),
          everyMs: 500,
          tell: timeline.tell,
        }),
      ],
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
      harms: ({ fleet, leaseMs, timeline }) => [
        disturbing({
          fleet,
          leaseMs,
          dice: context.dice.fork(),
          times: context.times({ T0: 10, T1: 200, T2: 3000 }),
          everyMs: 450,
          tell: timeline.tell,
        }),
      ],
    }),
}
