/**
 * The nemesis: kills, freezes, restarts and cuts off processes while faults are on, and puts
 * everything right when they are over.
 */
import type { Dice } from "../support/dice.ts"
import { type Faults, type Options, type ProcessFault, processFaults } from "./faults.ts"
import type { Machine, Process } from "./machine.ts"
import type { Network } from "./network.ts"
import type { Timeline } from "./timeline.ts"
import type { Node, Workers } from "./workers.ts"

export interface Nemesis {
  /** Ends all faults that last. */
  readonly relent: () => void
  /** Processes killed, frozen or cut off so far. */
  readonly disruptions: () => number
}

export const makeNemesis = (given: {
  readonly machine: Machine
  readonly network: Network
  readonly options: Options
  readonly faults: Faults
  readonly workers: Workers
  readonly timeline: Timeline
}): Nemesis => {
  const { machine, network, options, faults, workers, timeline } = given
  const dice: Dice = machine.dice.fork()
  let disruptions = 0
  const later = (ms: number, f: () => void) => machine.after(machine.nature, ms, f)
  const victim = (): Node | null => {
    const alive = workers.alive().filter(({ started }) => started)
    return alive.length === 0 ? null : dice.pick(alive)
  }
  const replace = () => later(dice.whole(10, 2 * options.leaseMs), () => workers.boot())
  const kill = (node: Node) => {
    disruptions++
    workers.kill(node, "is killed")
    replace()
  }
  const cut = (processes: ReadonlyArray<Process>, ms: number) => {
    disruptions += processes.length
    for (const process of processes) {
      network.cut.add(process)
      timeline.add(process, "is cut off")
    }
    later(ms, () => {
      for (const process of processes) {
        network.cut.delete(process)
        timeline.add(process, "is reachable")
      }
    })
  }

  const strike: Readonly<Record<ProcessFault, () => void>> = {
    kill: () => {
      const node = victim()
      if (node !== null && faults.take("kill")) kill(node)
    },
    killAll: () => {
      if (faults.take("killAll")) for (const node of workers.alive()) kill(node)
    },
    freeze: () => {
      const node = victim()
      if (node === null || node.process.state !== "alive" || !faults.take("freeze")) return
      disruptions++
      timeline.add(node.process, "freezes")
      machine.freeze(node.process)
      later(options.leaseMs * (0.5 + 3.5 * dice.roll()), () => thaw(node.process))
    },
    restart: () => {
      const node = victim()
      if (node === null || node.process.state !== "alive" || !faults.take("restart")) return
      workers.stop(node, () => {
        workers.kill(node, "is gone")
        workers.boot()
      })
    },
    outage: () => {
      if (!faults.take("outage")) return
      const all = [workers.client, ...workers.alive()].map(({ process }) => process)
      const some = dice.chance(0.3) ? all : [dice.pick(all)]
      cut(some, options.leaseMs * 2 * dice.roll())
    },
    loseHints: () => {
      if (!faults.take("loseHints")) return
      network.hintsLost = true
      later(dice.whole(1000, 20_000), () => {
        network.hintsLost = false
      })
    },
    clockJump: () => {
      const node = victim()
      if (node === null || !faults.take("clockJump")) return
      node.process.skewMs += dice.whole(-3_600_000, 3_600_000)
      timeline.add(node.process, `has its wall clock wrong by ${node.process.skewMs} ms`)
    },
  }

  const thaw = (process: Process) => {
    if (process.state !== "frozen") return
    timeline.add(process, "thaws")
    machine.thaw(process)
  }

  for (const kind of processFaults) {
    const mean = options.processes[kind]
    if (mean === undefined) continue
    const again = () => {
      later(-Math.log(1 - dice.roll()) * mean, () => {
        if (!faults.on) return
        strike[kind]()
        again()
      })
    }
    again()
  }

  return {
    disruptions: () => disruptions,
    relent: () => {
      faults.on = false
      network.hintsLost = false
      network.cut.clear()
      for (const process of machine.processes) {
        process.skewMs = 0
        thaw(process)
      }
    },
  }
}
