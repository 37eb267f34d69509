/**
 * The workload: programs of the simulation, with times for a real clock. Which plain steps are done in
 * a transaction is drawn with them.
 */
import type { Dice } from "../support/dice.ts"
import { type Block, type Command, makeProgram, type Program } from "../simulation/program.ts"

export interface Workload extends Program {
  /** Names of steps that are done in a transaction. */
  readonly transactional: ReadonlySet<string>
}

/** Nothing in a program waits longer than this, but for events that come. */
export const longestWaitMs = 4000

const quickened = (command: Command): Command => {
  switch (command.is) {
    case "sleep":
      return { ...command, ms: Math.min(command.ms, 3000) }
    case "all":
    case "race":
      return { ...command, arms: command.arms.map((arm) => arm.map(quickened)) }
    case "loop":
      return { ...command, block: command.block.map(quickened) }
    case "try":
      return {
        ...command,
        block: command.block.map(quickened),
        rescue: command.rescue.map(quickened),
      }
    default:
      return command
  }
}

/** Every command of a block, those inside of others too. */
export const commandsOf = (block: Block): ReadonlyArray<Command> =>
  block.flatMap((command): ReadonlyArray<Command> => {
    switch (command.is) {
      case "all":
      case "race":
        return [command, ...command.arms.flatMap(commandsOf)]
      case "loop":
        return [command, ...commandsOf(command.block)]
      case "try":
        return [command, ...commandsOf(command.block), ...commandsOf(command.rescue)]
      default:
        return [command]
    }
  })

/** Workflows of these dice, and as many starts as may ever be needed. */
export const makeWorkload = (
  dice: Dice,
  options: { readonly starts: number; readonly slowMs: number },
): Workload => {
  const given = makeProgram(dice.fork(), {
    runs: options.starts,
    commands: 12,
    withinMs: 0,
    slowMs: options.slowMs,
    races: true,
    cancels: true,
    refusals: false,
    events: true,
    controls: true,
  })
  const workflows = given.workflows.map(({ name, block }) => ({
    name,
    block: block.map(quickened),
  }))
  const own = dice.fork()
  const transactional = new Set<string>()
  for (const { block } of workflows) {
    for (const command of commandsOf(block)) {
      if (command.is === "step" && command.undoFails === null && own.chance(0.6)) {
        transactional.add(command.name)
      }
    }
  }
  return { workflows, starts: given.starts, transactional }
}

/** As it is sent to a process. */
export const packWorkload = (workload: Workload): string =>
  JSON.stringify({ ...workload, starts: [], transactional: [...workload.transactional] })

export const unpackWorkload = (text: string): Workload => {
  const { transactional, ...program } = JSON.parse(text) as Program & {
    readonly transactional: ReadonlyArray<string>
  }
  return { ...program, transactional: new Set(transactional) }
}
