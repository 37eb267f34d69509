/** What a program may do, and what it has more of: drawn by a seed, before its program. */

/** Commands that a program may have more of than of others, if it has them at all. */
export const favourites = [
  "sleep",
  "flaky",
  "emit",
  "child",
  "event",
  "limited",
  "beats",
  "transaction",
  "token",
  "refused",
  "noReturn",
] as const

/** `slow`: steps of seconds; then arms of parallel blocks fail oftener, too. */
export type Favourite = (typeof favourites)[number] | "slow"

/** What the program may do, and how much of it. */
export interface ProgramOptions {
  readonly runs: number
  readonly commands: number
  readonly withinMs: number
  readonly slowMs: number
  readonly races: boolean
  readonly cancels: boolean
  readonly refusals: boolean
  readonly events: boolean
  /** Pauses, terminations, explicit retries. */
  readonly controls: boolean
  /** Time limits, deadlines and heartbeats of steps. */
  readonly limits?: boolean
  readonly transactions?: boolean
  /** Tokens and their answers. */
  readonly tokens?: boolean
  /** Children that are started and waited for later; points of no return. */
  readonly spawns?: boolean
  /** Starts of many, starts for later, forks, verbs by filter, outcomes that somebody waits for. */
  readonly operators?: boolean
  readonly cron?: boolean
  /** Steps that fail and are tried again; runs that are. */
  readonly retries?: boolean
  readonly undos?: boolean
  /** Bodies that throw, and that catch. */
  readonly failures?: boolean
  /** Emits, effects, and values of the body. */
  readonly emits?: boolean
  readonly favourite?: Favourite | null
  readonly together?: boolean
  /** Most runs that may be are forked; most that fail do so at a deadline. */
  readonly forks?: boolean
  readonly deadlines?: boolean
  /** Most runs may be tried again, and most workflows fail at first. */
  readonly attempts?: boolean
  /** More parallel blocks than others. */
  readonly wide?: boolean
}
