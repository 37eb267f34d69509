/** S9: the server dies, takes no writes, takes nobody any more. */
import { play } from "../arena.ts"
import { crashing, exhausting, readOnly } from "../nemesis/servers.ts"
import type { Scenario } from "../scenario.ts"

export const S9: Scenario = {
  id: "S9",
  title: "the server is stopped at once, made read-only, out of connections",
  tiers: ["T1", "T2"],
  run: async (context) => {
    // of its own: it is not the others' to lose
    const server = await context.ownServer({ max_connections: "60" })
    // one at a time
    let last = Promise.resolve(true)
    const alone = (act: () => Promise<boolean>) => {
      last = last.catch(() => false).then(act)
      return last
    }
    await play(context, {
      server,
      workers: context.sized({ T0: 2, T1: 3, T2: 3 }),
      spares: 0,
      inFlight: 30,
      harms: ({ url, observer, timeline }) => {
        const given = {
          server,
          url,
          observer,
          alone,
          tell: timeline.tell,
          times: context.times({ T0: 1, T1: 5, T2: 100 }),
          everyMs: 12_000,
        }
        return [
          crashing({ ...given, dice: context.dice.fork() }),
          readOnly({ ...given, dice: context.dice.fork() }),
          exhausting({ ...given, dice: context.dice.fork() }),
        ]
      },
    })
  },
}
