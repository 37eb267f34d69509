/**
 * The nemesis: kills, freezes, restarts and cuts off processes while faults are on, and puts
 * everything right when they are over.
 */
import type { Dice } from "../support/dice.ts"
import { type Faults, type Options, type ProcessFault, processFaults } from "./faults.ts"
import type { Machine, Process } from "./machine.ts"
import type { RunWrite } from "../../src/WorkflowStore.ts"
import type { Applied, Network } from "./network.ts"
import type { Timeline } from "./timeline.ts"
import type { Node, Workers } from "./workers.ts"

export interface Nemesis {
  /** A call of the process was applied, and not answered yet. */
  readonly onApplied: (applied: Applied) => void
  /** Ends all faults that last. */
  readonly relent: () => void
}

export const makeNemesis = (given: {
  readonly machine: Machine
  readonly network: Network
  readonly options: Options
  readonly faults: Faults
  readonly workers: Workers
  readonly timeline: Timeline
  readonly isBusy: (process: Process) => boolean
}): Nemesis => {
  const { machine, network, options, faults, workers, timeline } = given
  const dice: Dice = machine.dice.fork()
  const later = (ms: number, f: () => void) => machine.after(machine.nature, ms, f)
  const victim = (): Node | null => {
    const alive = workers.alive().filter(({ started }) => started)
    // rather one that is at work
    const busy = alive.filter(({ process }) => given.isBusy(process))
    return alive.length === 0 ? null : dice.pick(busy.length > 0 && dice.chance(0.7) ? busy : alive)
  }
  const replace = () => later(dice.whole(10, 2 * options.leaseMs), () => workers.boot())
  const kill = (node: Node) => {
    workers.kill(node, "is killed")
    replace()
  }
  /** A process, or all that there are. */
  const some = (): ReadonlyArray<Process> => {
    const all = [workers.client, ...workers.alive()].map(({ process }) => process)
    return dice.chance(0.3) ? all : [dice.pick(all)]
  }
  const hit = (those: Set<Process>, what: string, ms: number) => {
    for (const process of some()) {
      those.add(process)
      timeline.add(process, what)
      later(ms, () => {
        if (those.delete(process)) timeline.add(process, `${what} no more`)
      })
    }
  }

  /** The next commit freezes its worker. */
  let armed = false

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
      timeline.add(node.process, "freezes")
      machine.freeze(node.process)
      later(options.leaseMs * (0.5 + 3.5 * dice.roll()), () => thaw(node.process))
    },
    freezeAtCommit: () => {
      armed = true
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
      hit(network.cut, "is cut off", options.leaseMs * 2 * dice.roll())
    },
    storm: () => {
      if (faults.take("storm")) hit(network.storm, "is in a storm", 8000 * dice.roll())
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
    onApplied: ({ verb, args, process }) => {
      if (!armed || verb !== "commit" || process.state !== "alive") return
      // of a run that goes on
      const goesOn = (args[0] as ReadonlyArray<RunWrite>).some(
        ({ records, transition }) => records.length > 0 && transition === null,
      )
      const isWorker = workers.alive().some((node) => node.process === process && node.started)
      if (!goesOn || !isWorker || !faults.take("freezeAtCommit")) return
      armed = false
      timeline.add(process, "freezes at its commit")
      machine.freeze(process)
      later(options.leaseMs * (1.5 + 2.5 * dice.roll()), () => thaw(process))
    },
    relent: () => {
      faults.on = false
      network.hintsLost = false
      network.cut.clear()
      network.storm.clear()
      for (const process of machine.processes) {
        process.skewMs = 0
        thaw(process)
      }
    },
  }
}
