/** What happens between a process and its server. */
import type { Dice } from "../../support/dice.ts"
import type { Fleet } from "../fleet.ts"
import type { NetworkFault } from "../proxy.ts"
import type { Harm } from "./nemesis.ts"

const faults: ReadonlyArray<NetworkFault> = ["cut", "delay", "blackhole", "half-open"]

export const disturbing = (given: {
  readonly fleet: Fleet
  readonly dice: Dice
  readonly leaseMs: number
  readonly times: number
  readonly everyMs: number
  readonly tell: (who: string, what: string) => void
}): Harm => {
  const suffering = new Map<string, Promise<void>>()
  return {
    name: "network faults",
    times: given.times,
    everyMs: given.everyMs,
    act: async () => {
      const { fleet, dice, leaseMs, tell } = given
      const free = fleet.working().filter(({ name }) => !suffering.has(name))
      if (free.length === 0) return false
      const { name, proxy } = dice.pick(free)
      const fault = dice.pick(faults)
      const ms = Math.round(leaseMs * (0.1 + 1.9 * dice.roll()))
      tell("nemesis", fault === "cut" ? `cuts ${name} off` : `${fault} for ${name}, ${ms} ms`)
      const over = proxy.suffer(fault, ms).finally(() => {
        suffering.delete(name)
        if (fault !== "cut") tell("nemesis", `${fault} for ${name} is over`)
      })
      suffering.set(name, over)
      return true
    },
    relent: async () => {
      await Promise.all(suffering.values())
    },
  }
}
