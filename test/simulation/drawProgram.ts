/** Draws programs: workflows, runs of them, and what operators do; by the dice of a seed. */
import type { Dice } from "../support/dice.ts"
import { makeBlocks } from "./drawBlocks.ts"
import { predict } from "./predict.ts"
import {
  type Bulk,
  commandsOf,
  hasAttempts,
  type Program,
  type ProgramSchedule,
  type ProgramWorkflow,
  type Start,
} from "./program.ts"
import type { ProgramOptions } from "./programOptions.ts"

/** The program of these dice. */
export const makeProgram = (dice: Dice, options: ProgramOptions): Program => {
  const workflows = drawWorkflows(dice, options)
  const starts = drawStarts(dice, options, workflows)
  // children stay out of it: their parents could not be predicted
  const last = workflows.length - 1
  const bulk = options.operators === true ? drawBulk(dice, options, last) : []
  const schedules = options.cron === true ? drawSchedules(dice, options, last) : []
  // last of all: the others stay what they are
  return { workflows: withApis(dice, workflows), starts, bulk, schedules }
}

const drawWorkflows = (dice: Dice, options: ProgramOptions): ReadonlyArray<ProgramWorkflow> => {
  const { block, failure, reliable, site } = makeBlocks(dice, options)
  const workflows: Array<ProgramWorkflow> = []
  const count = dice.whole(3, 5)
  for (let i = 0; i < count; i++) {
    const most = dice.whole(2, options.commands)
    const place = { depth: 0, arm: false, children: i, racing: false, rescued: false }
    const body = [...block(place, () => dice.whole(2, 6), most)]
    if (options.retries !== false && dice.chance(options.attempts === true ? 0.7 : 0.4)) {
      body.splice(dice.whole(0, body.length), 0, { is: "shaky", name: site() })
    }
    const mayFail = options.failures !== false || options.undos !== false
    if (mayFail && dice.chance(0.3)) body.push(failure(place))
    workflows.push({ name: `w${i}`, block: body })
    const alone = predict({ workflows, starts: [] }, i, 1, null)
    if (alone.statuses.has("completed")) reliable.push(i)
  }
  return workflows
}

/** In a third of the programs all bodies are promises; in the others, half of them. */
const withApis = (
  dice: Dice,
  workflows: ReadonlyArray<ProgramWorkflow>,
): ReadonlyArray<ProgramWorkflow> => {
  if (dice.chance(1 / 3)) return workflows
  return workflows.map((one) => ({ ...one, api: dice.pick(["promise", "effect"]) }))
}

const drawStarts = (
  dice: Dice,
  options: ProgramOptions,
  workflows: ReadonlyArray<ProgramWorkflow>,
): ReadonlyArray<Start> => {
  const forkable = (workflow: number): boolean =>
    !hasAttempts(workflows, workflow) &&
    !commandsOf(workflows[workflow]?.block ?? []).some(({ is }) => is === "token")
  const operated = (workflow: number, alone: boolean): Partial<Start> => ({
    delayMs: dice.chance(0.2) ? dice.whole(1, 10_000) : null,
    watched: dice.chance(0.5),
    batch: dice.chance(0.3) ? workflow : null,
    fork:
      alone && dice.chance(options.forks === true ? 0.9 : 0.3) && forkable(workflow)
        ? {
            afterMs: dice.whole(0, 15_000),
            position: dice.chance(0.7) ? dice.whole(1, 8) : null,
          }
        : null,
  })
  const attemptsOf = (): number | null => {
    if (options.attempts === true) return dice.chance(0.9) ? dice.whole(2, 3) : null
    return options.retries !== false && dice.chance(0.4) ? dice.whole(1, 3) : null
  }
  return Array.from({ length: options.runs }, (_, i): Start => {
    const workflow = dice.whole(0, workflows.length - 1)
    const cancels = options.cancels && dice.chance(0.15)
    const start: Start = {
      key: `k${i}`,
      workflow,
      atMs:
        options.together === true || dice.chance(0.5)
          ? dice.whole(0, 200)
          : dice.whole(0, options.withinMs),
      maxAttempts: attemptsOf(),
      timeoutMs: options.cancels && dice.chance(0.05) ? dice.whole(1, 20_000) : null,
      cancel: cancels ? { afterMs: dice.whole(0, 15_000), compensate: dice.chance(0.7) } : null,
      pause:
        options.controls && dice.chance(0.15)
          ? { afterMs: dice.whole(0, 10_000), forMs: dice.whole(0, 10_000) }
          : null,
      terminateAfterMs: options.controls && dice.chance(0.03) ? dice.whole(0, 15_000) : null,
      retryAfterMs: options.controls && dice.chance(0.1) ? dice.whole(0, 20_000) : null,
      triggers: dice.chance(0.2) ? 2 : 1,
    }
    if (options.operators !== true) return start
    const alone = !cancels && start.timeoutMs === null && start.terminateAfterMs === null
    return { ...start, ...operated(workflow, alone) }
  })
}

const drawBulk = (dice: Dice, options: ProgramOptions, last: number): ReadonlyArray<Bulk> => {
  const bulk: Array<Bulk> = []
  const at = () => dice.whole(0, options.withinMs)
  if (options.cancels && dice.chance(0.3)) {
    bulk.push({ atMs: at(), verb: "cancel", workflow: last })
  }
  if (dice.chance(0.4)) bulk.push({ atMs: at(), verb: "retry", workflow: last })
  if (dice.chance(0.4)) {
    const [workflow, atMs] = [dice.whole(0, last), at()]
    bulk.push({ atMs, verb: "pause", workflow })
    bulk.push({ atMs: atMs + dice.whole(0, 8000), verb: "resume", workflow })
  }
  return bulk
}

const drawSchedules = (
  dice: Dice,
  { withinMs }: ProgramOptions,
  workflow: number,
): ReadonlyArray<ProgramSchedule> =>
  Array.from({ length: dice.whole(1, 3) }, (_, i): ProgramSchedule => {
    const atMs = dice.whole(0, 60_000)
    const untilMs = dice.whole(atMs + 60_000, withinMs)
    return {
      key: `c${i}`,
      workflow,
      everyMin: dice.pick([1, 1, 2]),
      atMs,
      untilMs,
      againMs: dice.chance(0.5) ? dice.whole(atMs, untilMs) : null,
    }
  })
