/**
 * Makes a failing case small: fewer starts, fewer kinds of faults, fewer faults, fewer workers, shorter
 * programs, as long as the same invariant fails. Each change throws the dice of the schedule anew, so
 * each candidate gets a few schedules.
 */
import type { Options } from "./faults.ts"
import { realMs } from "./machine.ts"
import type { Block, Command, Program } from "./program.ts"
import { simulate, type Verdict } from "./simulate.ts"

/** What can be played again. */
export interface Case {
  readonly options: Options
  readonly program: Program
}

const schedules = 3

/** The smallest case found within the budget that violates the invariant. */
export const shrink = async (
  given: Case,
  invariant: string,
  budgetMs: number,
): Promise<Verdict | null> => {
  const until = realMs() + budgetMs
  let best: Verdict | null = null
  let smallest = given
  for (let found = true; found;) {
    found = false
    for (const candidate of smaller(smallest)) {
      const verdict = await fails(candidate, invariant, until)
      if (realMs() > until) return best
      if (verdict === null) continue
      best = verdict
      smallest = { options: verdict.options, program: verdict.program }
      found = true
      break
    }
  }
  return best
}

const fails = async (
  { options, program }: Case,
  invariant: string,
  until: number,
): Promise<Verdict | null> => {
  for (let i = 0; i < schedules && realMs() < until; i++) {
    const schedule = options.schedule + (i === 0 ? 0 : i * 1_000_003)
    const verdict = await simulate({ options: { ...options, schedule }, program })
    if (verdict.violations.some((one) => one.invariant === invariant)) return verdict
  }
  return null
}

/** What is smaller by one step; the largest steps first. */
function* smaller({ options, program }: Case): Generator<Case> {
  const { starts, workflows, bulk = [], schedules: rules = [] } = program
  for (let at = 0; at < bulk.length; at++) {
    yield { options, program: { ...program, bulk: bulk.toSpliced(at, 1) } }
  }
  for (let at = 0; at < rules.length; at++) {
    yield { options, program: { ...program, schedules: rules.toSpliced(at, 1) } }
  }
  for (let size = Math.ceil(starts.length / 2); size >= 1; size = size === 1 ? 0 : size >> 1) {
    for (let at = 0; at < starts.length; at += size) {
      const fewer = starts.toSpliced(at, size)
      if (fewer.length > 0) yield { options, program: { ...program, starts: fewer } }
    }
  }
  for (const kinds of ["calls", "processes"] as const) {
    for (const kind of Object.keys(options[kinds])) {
      const { [kind as never]: _, ...rest } = options[kinds]
      yield { options: { ...options, [kinds]: rest }, program }
    }
  }
  const { maxFaults, workers } = options
  for (const fewer of [1, 3, 10, 30]) {
    if (fewer < (maxFaults ?? Infinity))
      yield { options: { ...options, maxFaults: fewer }, program }
  }
  if (workers > 1) yield { options: { ...options, workers: workers - 1 }, program }
  for (const [index, workflow] of workflows.entries()) {
    if (workflow.api === "effect") {
      const fewer = workflows.with(index, { ...workflow, api: "promise" })
      yield { options, program: { ...program, workflows: fewer } }
    }
    for (const block of shorter(workflow.block)) {
      const fewer = workflows.with(index, { ...workflow, block })
      yield { options, program: { ...program, workflows: fewer } }
    }
  }
}

/** Blocks with one command less, or with a command in place of what holds it. */
function* shorter(block: Block): Generator<Block> {
  for (const [index, command] of block.entries()) {
    yield block.toSpliced(index, 1)
    yield* inside(command).map((parts) => block.toSpliced(index, 1, ...parts))
    for (const less of lesser(command)) yield block.with(index, less)
  }
}

/** What may stand in its place. Not what fails: beside a race nobody could predict it. */
const inside = (command: Command): ReadonlyArray<Block> => {
  switch (command.is) {
    case "all":
    case "race":
      return command.arms
    case "loop":
      return [command.block]
    case "try":
      return [command.rescue]
    case "spawn":
      return [command.between]
    default:
      return []
  }
}

function* lesser(command: Command): Generator<Command> {
  switch (command.is) {
    case "all":
    case "race":
      for (const [index, arm] of command.arms.entries()) {
        if (command.arms.length > 2) yield { ...command, arms: command.arms.toSpliced(index, 1) }
        for (const less of shorter(arm)) yield { ...command, arms: command.arms.with(index, less) }
      }
      return
    case "loop":
      for (const less of shorter(command.block)) yield { ...command, block: less }
      return
    case "try":
      for (const less of shorter(command.rescue)) yield { ...command, rescue: less }
      for (const less of shorter(command.block.slice(0, -1))) {
        yield { ...command, block: [...less, ...command.block.slice(-1)] }
      }
      return
    default:
  }
}
