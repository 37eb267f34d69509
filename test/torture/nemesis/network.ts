/** What happens between a process and its server. */
import type { Dice } from "../../support/dice.ts"
import type { Fleet } from "../fleet.ts"
import type { Observer } from "../observer.ts"
import type { NetworkFault } from "../proxy.ts"
import { isPatient } from "../workload.ts"
import type { Harm } from "./nemesis.ts"

const faults: ReadonlyArray<NetworkFault> = ["cut", "delay", "blackhole", "half-open"]

interface Given {
  readonly fleet: Fleet
  readonly dice: Dice
  readonly leaseMs: number
  readonly times: number
  readonly everyMs: number
  readonly tell: (who: string, what: string) => void
}

export const disturbing = (given: Given): Harm => {
  const suffering = new Set<Promise<void>>()
  return {
    name: "network faults",
    times: given.times,
    everyMs: given.everyMs,
    act: async () => {
      const { fleet, dice, leaseMs, tell } = given
      const free = fleet.working().filter(({ proxy }) => !proxy.suffers())
      if (free.length === 0) return false
      const { name, proxy } = dice.pick(free)
      const fault = dice.pick(faults)
      const ms = Math.round(leaseMs * (0.1 + 1.9 * dice.roll()))
      tell("nemesis", fault === "cut" ? `cuts ${name} off` : `${fault} for ${name}, ${ms} ms`)
      const over = proxy.suffer(fault, ms).finally(() => {
        suffering.delete(over)
        if (fault !== "cut") tell("nemesis", `${fault} for ${name} is over`)
      })
      suffering.add(over)
      return true
    },
    relent: async () => {
      await Promise.all(suffering)
    },
  }
}

/** A process hears nothing any more, just when it has begun a step that outlasts its lease. */
export const silencing = (given: Given & { readonly observer: Observer }): Harm => ({
  name: "silenced steps",
  times: given.times,
  everyMs: given.everyMs,
  act: async () => {
    const { fleet, leaseMs, observer, tell } = given
    const deadline = performance.now() + 5000
    while (performance.now() < deadline) {
      const begun = await observer.query<{ worker: string }>(
        `select worker from torture.ledger where ${isPatient}
          and began_at > clock_timestamp() - interval '100 milliseconds'`,
      )
      const victim = fleet
        .working()
        .find(({ name, proxy }) => !proxy.suffers() && begun.some(({ worker }) => worker === name))
      if (victim === undefined) {
        await new Promise((resolve) => setTimeout(resolve, 30))
        continue
      }
      tell("nemesis", `blackhole for ${victim.name}, in a long step`)
      await victim.proxy.suffer("blackhole", leaseMs * 2)
      tell("nemesis", `blackhole for ${victim.name} is over`)
      return true
    }
    return false
  },
})
