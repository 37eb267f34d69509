/** The workload: programs of the simulation, with times for a real clock. */
import type { Dice } from "../support/dice.ts"
import { makeProgram } from "../simulation/drawProgram.ts"
import type { Command, Program } from "../simulation/program.ts"

/** Of every workload: a step that outlasts a lease, and ends when it is told to; and a transaction. */
const patient = "patient"
const transfer = { is: "transaction", name: "transfer", ms: 5, fails: 0, tries: 3 } as const
/** In the ledger. */
export const isPatient = `step like '${patient}%'`

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

/** Workflows of these dice, and as many starts as may ever be needed. */
export const makeWorkload = (
  dice: Dice,
  options: { readonly starts: number; readonly slowMs: number },
): Program => {
  const { workflows, starts } = makeProgram(dice, {
    runs: options.starts,
    commands: 12,
    withinMs: 0,
    slowMs: options.slowMs,
    races: true,
    cancels: true,
    refusals: false,
    events: true,
    controls: true,
    transactions: true,
  })
  const long: Command = {
    is: "step",
    name: patient,
    ms: options.slowMs,
    undoFails: null,
    undoMs: 1,
    heeds: true,
  }
  return {
    starts,
    workflows: workflows.map(({ name, block }, i) => ({
      name,
      block: [...(i === 0 ? [long] : []), ...(i === 1 ? [transfer] : []), ...block.map(quickened)],
    })),
  }
}
