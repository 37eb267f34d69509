/** What happens to processes: they die, and they stand still. */
import type { Dice } from "../../support/dice.ts"
import type { Fleet, WorkerProcess } from "../fleet.ts"
import type { Harm } from "./nemesis.ts"

interface Given {
  readonly fleet: Fleet
  readonly dice: Dice
  readonly leaseMs: number
  readonly times: number
  readonly everyMs: number
  readonly tell: (who: string, what: string) => void
}

export interface Death {
  readonly name: string
  readonly at: number
}

export interface Freeze {
  readonly name: string
  readonly from: number
  /** While it lasts: infinite. */
  to: number
}

/**
 * SIGKILL of one that works, while another does, and another takes its place as soon as it can. One in
 * three comes at once behind the one before: whoever took over dies, too.
 */
export const killing = (
  given: Given & {
    /** Default: everyone. */
    readonly isMortal?: (one: WorkerProcess) => boolean
  },
  deaths: Array<Death>,
): Harm => ({
  name: "kills",
  times: given.times,
  everyMs: given.everyMs,
  hurries: () => given.dice.chance(1 / 3),
  act: async () => {
    const { fleet, dice, tell } = given
    const working = fleet.working()
    const mortal = working.filter((one) => given.isMortal?.(one) ?? true)
    if (working.length < 2 || mortal.length === 0) return false
    const victim = dice.pick(mortal)
    tell("nemesis", `kills ${victim.name}`)
    victim.kill()
    deaths.push({ name: victim.name, at: Date.now() })
    void fleet.fill()
    return true
  },
})

/** SIGSTOP for half a lease to four, then SIGCONT. One at least goes on working. */
export const freezing = (given: Given, freezes: Array<Freeze>): Harm => {
  const { fleet, dice, leaseMs, tell } = given
  const frozen = new Set<WorkerProcess>()
  const thaw = (victim: WorkerProcess, freeze: Freeze) => {
    if (!frozen.delete(victim)) return
    freeze.to = Date.now()
    tell("nemesis", `thaws ${victim.name}`)
    victim.thaw()
  }
  const thaws: Array<() => void> = []
  return {
    name: "freezes",
    times: given.times,
    everyMs: given.everyMs,
    act: async () => {
      const working = fleet.working()
      if (working.length < 2) return false
      const victim = dice.pick(working)
      const ms = Math.round(leaseMs * (0.5 + 3.5 * dice.roll()))
      tell("nemesis", `freezes ${victim.name} for ${ms} ms`)
      const freeze: Freeze = { name: victim.name, from: Date.now(), to: Infinity }
      victim.freeze()
      frozen.add(victim)
      freezes.push(freeze)
      const end = () => thaw(victim, freeze)
      thaws.push(end)
      setTimeout(end, ms)
      return true
    },
    relent: async () => {
      for (const end of thaws) end()
    },
  }
}
