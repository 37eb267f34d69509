/**
 * What goes wrong: named kinds of faults, and the swarm. Each seed first draws which features its
 * programs have, which kinds of faults come, how often, and how its workers are set up: many seeds
 * with a few of them each find more than all of them always.
 */
import type { Dice } from "../support/dice.ts"
import { favourites, type Favourite } from "./programOptions.ts"

/**
 * Of store calls. Each says what the caller is told, and what happens to the store.
 *
 * - `failBefore`: an error, "not applied"; nothing happens.
 * - `dropped`: an error, "unknown"; nothing happened.
 * - `failAfter`: an error, "unknown"; it was applied.
 * - `lateApply`: an error, "unknown"; it is applied a while later, behind what was sent after it.
 * - `hang`: no answer ever; perhaps applied.
 * - `slow`: both ways take seconds.
 * - `twice`: applied, applied again later, and answered with the first answer.
 * - `busy`: some rows of a commit are locked by others: not applied, answered `busy`.
 * - `defect`: the driver dies, after it was applied or before.
 */
export const callFaults = [
  "failBefore",
  "dropped",
  "failAfter",
  "lateApply",
  "hang",
  "slow",
  "twice",
  "busy",
  "defect",
] as const

/**
 * Of processes and networks.
 *
 * - `kill`: a worker dies; another starts a while later.
 * - `killAll`: all workers die at once.
 * - `freeze`: a worker stands still for half a lease to four, and goes on.
 * - `freezeAtCommit`: a worker stands still just when a commit of it was applied: it learns of that when
 *   it thaws, and another has gone on meanwhile.
 * - `restart`: a worker stops gracefully, and starts anew.
 * - `storm`: all calls of a process, or of any, fail for a while: not sent, lost, or applied.
 * - `outage`: no call of a process, or of any, is answered or applied for a while.
 * - `loseHints`: hints do not arrive.
 * - `clockJump`: the wall clock of a worker jumps, by up to an hour.
 */
export const processFaults = [
  "kill",
  "killAll",
  "freeze",
  "freezeAtCommit",
  "restart",
  "storm",
  "outage",
  "loseHints",
  "clockJump",
] as const

/**
 * What programs and those outside may do beyond steps, sleeps, events, children, parallel blocks and
 * races, which each seed has. A seed has each feature with a probability of a third; one seed in five
 * has none.
 */
export const features = [
  "retries",
  "undos",
  "failures",
  "emits",
  "cancels",
  "refusals",
  "controls",
  "limits",
  "transactions",
  "tokens",
  "spawns",
  "operators",
  "cron",
] as const

export type Feature = (typeof features)[number]
export type CallFault = (typeof callFaults)[number]
export type ProcessFault = (typeof processFaults)[number]
export type FaultKind = CallFault | ProcessFault

/** All that a seed draws before it begins, printed when it fails, and what a shrinker changes. */
export interface Options extends Readonly<Record<Feature, boolean>> {
  readonly seed: number
  /** The dice of scheduling, latencies and faults. */
  readonly schedule: number
  readonly workers: number
  readonly maxConcurrent: number
  readonly leaseMs: number
  readonly pollMs: number
  readonly shortWaitMs: number
  /** One way of a call takes up to so long. */
  readonly latencyMs: number
  /** The same, of the answer to a reading of a run's sources: it crosses answers to commits. */
  readonly sourcesMs: number
  readonly runs: number
  readonly commands: number
  /** How long the faults go on. */
  readonly safetyMs: number
  readonly races: boolean
  readonly events: boolean
  /** The command that its programs have most. */
  readonly favourite: Favourite | null
  /** Most runs that may be are forked; most that fail do so at a deadline. */
  readonly forks: boolean
  readonly deadlines: boolean
  /** Most runs may be tried again, and most workflows fail at first. */
  readonly attempts: boolean
  /** All runs begin at about the same time. */
  readonly together: boolean
  /** Its programs have more parallel blocks. */
  readonly wide: boolean
  /** Of a call: its probability. */
  readonly calls: Readonly<Partial<Record<CallFault, number>>>
  /** Of processes: the mean pause between two, in milliseconds. */
  readonly processes: Readonly<Partial<Record<ProcessFault, number>>>
  /** After so many faults there are no more: for the shrinker. */
  readonly maxFaults: number | null
}

/** How much a seed does: a test run in seconds takes small ones. */
export type Size = "small" | "large"

/** What no run may notice: it costs no claim, and no try. */
const harmless: ReadonlyArray<FaultKind> = ["busy", "loseHints", "clockJump"]
/** What is sent comes again, or late: nothing dies. */
const resent: ReadonlyArray<FaultKind> = ["failAfter", "lateApply", "twice", "busy"]
/** Deaths alone, on a network that works. */
const deaths: ReadonlyArray<FaultKind> = ["kill", "killAll", "restart"]
const everything: ReadonlyArray<FaultKind> = [...callFaults, ...processFaults]

/** From which kinds a seed draws. */
const profiles = [everything, everything, everything, everything, resent, deaths, harmless]

/** Whether a seed has no faults but these. */
const hasOnly = (options: Options, kinds: ReadonlyArray<FaultKind>): boolean =>
  [...Object.keys(options.calls), ...Object.keys(options.processes)].every((kind) =>
    kinds.includes(kind as FaultKind),
  )

/** Whether nothing happens that could cost a run its claim. */
export const isHarmless = (options: Options): boolean => hasOnly(options, harmless)

/** Whether each call is answered in time, and by what happened. */
export const hasGoodNetwork = (options: Options): boolean =>
  hasOnly(options, [...deaths, "loseHints", "clockJump"])

/** The options of a seed. */
export const optionsOf = (seed: number, dice: Dice, size: Size): Options => {
  const large = size === "large"
  const calls: Partial<Record<CallFault, number>> = {}
  const processes: Partial<Record<ProcessFault, number>> = {}
  const among = dice.pick(profiles)
  for (const kind of callFaults) {
    const wanted = dice.chance(0.3) || among === harmless || among === resent
    const rate = dice.pick([0.002, 0.01, 0.05]) * (kind === "hang" || kind === "defect" ? 0.2 : 1)
    if (wanted && among.includes(kind)) calls[kind] = among === harmless ? 0.2 : rate
  }
  for (const kind of processFaults) {
    const wanted = dice.chance(0.35) || among === deaths
    const mean = dice.pick([3000, 10_000, 30_000])
    if (wanted && among.includes(kind)) processes[kind] = mean
  }
  const leaseMs = dice.pick([3000, 6000, 15_000])
  // ticks are minutes apart, so that such seeds are long
  const plain = dice.chance(0.2)
  const has = Object.fromEntries(
    features.map((one) => [one, dice.chance(one === "cron" ? 0.1 : 1 / 3) && !plain]),
  ) as Record<Feature, boolean>
  const { cron } = has
  const events = dice.chance(0.6)
  const isOn: Partial<Record<Favourite, boolean>> = {
    flaky: has.retries,
    emit: has.emits,
    event: events,
    limited: has.limits,
    beats: has.limits,
    transaction: has.transactions,
    token: has.tokens,
    refused: has.refusals,
    noReturn: has.spawns && has.undos,
  }
  const favourite = dice.pick(favourites.filter((one) => isOn[one] !== false))
  const isCalm = among === deaths || among === harmless
  const latencyMs = dice.pick(isCalm ? [1, 5, 50] : [1, 5, 50, 300])
  const options: Options = {
    seed,
    schedule: seed ^ 0x5eed,
    workers: dice.whole(2, large ? 5 : 3),
    maxConcurrent: dice.pick([1, 2, 5, 20]),
    leaseMs,
    pollMs: cron ? 3000 : dice.pick([500, 1000, 3000]),
    shortWaitMs: dice.pick([0, 100, 1000]),
    latencyMs,
    sourcesMs: dice.chance(0.3) ? dice.pick([200, 2000]) : latencyMs,
    runs: large ? dice.whole(10, 40) : dice.whole(3, 12),
    commands: large ? 20 : 10,
    safetyMs: cron
      ? dice.whole(180_000, large ? 900_000 : 420_000)
      : large
        ? dice.whole(30_000, 120_000)
        : dice.whole(15_000, 40_000),
    races: dice.chance(0.6),
    events,
    favourite: dice.chance(0.7) ? favourite : null,
    forks: false,
    deadlines: false,
    attempts: false,
    together: dice.chance(0.4),
    wide: dice.chance(0.3),
    ...has,
    calls,
    processes,
    maxFaults: null,
  }
  // last of all: the others stay what they are
  if (dice.chance(0.2) && !isHarmless(options)) return laborious(options)
  return dice.chance(0.5) ? dice.pick([sagas, forks, deadlines, families])(options) : options
}

/** Long steps, while others fail, are undone, and workers are restarted: what ends amid of work. */
const laborious = (options: Options): Options => ({
  ...options,
  undos: true,
  failures: true,
  favourite: "slow",
  processes: { ...options.processes, restart: 3000 },
})

/** Runs that fail, also behind points of no return. */
const sagas = (options: Options): Options => ({
  ...options,
  undos: true,
  failures: true,
  spawns: true,
  favourite: "noReturn",
})

/** Runs that are forked, also when they have undone what they did; somebody waits for their ends. */
const forks = (options: Options): Options => ({
  ...options,
  undos: true,
  failures: true,
  operators: true,
  forks: true,
})

/** Steps whose time is up while their workers come and go. */
const deadlines = (options: Options): Options => ({
  ...options,
  limits: true,
  failures: true,
  favourite: "limited",
  deadlines: true,
  processes: { ...options.processes, restart: 3000 },
})

/** Runs with children, which fail at first, and are tried again. */
const families = (options: Options): Options => ({
  ...options,
  retries: true,
  favourite: "child",
  attempts: true,
})

/** What the nemesis of a seed did. */
export class Faults {
  readonly counts = new Map<FaultKind, number>()
  on = true
  total = 0
  readonly #options: Options

  constructor(options: Options) {
    this.#options = options
  }

  /** Whether one more may happen; if so, it is counted. */
  take(kind: FaultKind): boolean {
    const { maxFaults } = this.#options
    if (!this.on || (maxFaults !== null && this.total >= maxFaults)) return false
    this.total++
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1)
    return true
  }
}

/** The options as one line a reader can compare. */
export const printOptions = (options: Options): string =>
  Object.entries(options)
    .map(([key, one]) => `${key}=${typeof one === "object" ? JSON.stringify(one) : String(one)}`)
    .join(" ")
