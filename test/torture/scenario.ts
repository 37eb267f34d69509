/**
 * A scenario of the torture suite: what is done to real processes on a real Postgres, and what must
 * hold all the same. It counts what it did, and tells what it found; it asserts nothing by throwing
 * (what it throws is a fault of the suite, and fails the run as such).
 */
import type { Dice } from "../support/dice.ts"
import type { Server } from "./server.ts"

/** Every commit, every merge, every release. */
export type Tier = "T0" | "T1" | "T2"

export const tiers: ReadonlyArray<Tier> = ["T0", "T1", "T2"]

export interface Scenario {
  /** As in the catalogue: "S4". */
  readonly id: string
  readonly title: string
  /** The tiers that it belongs to. Asked for by its id, it is played in any tier. */
  readonly tiers: ReadonlyArray<Tier>
  readonly run: (context: Context) => Promise<void>
}

/** What somebody found wrong. */
export interface Violation {
  /** "I3", or the scenario's id where it is of its own. */
  readonly invariant: string
  readonly message: string
  /** The run that it is about. */
  readonly workflowRunId: string | null
  /** Who did what when, for a reader. */
  readonly timeline?: ReadonlyArray<string> | undefined
}

/** What a scenario is given, and whom it tells. */
export interface Context {
  readonly tier: Tier
  readonly seed: number
  /** Of the seed and the scenario: every choice is made with these. */
  readonly dice: Dice
  /** `--minutes`: how long it shall last, where it has no other end. */
  readonly minutes: number | null
  /** Where databases may be created. Shared with the other scenarios: it is not to be stopped. */
  readonly server: Server
  /** Another one, of the same kind, that may be killed. Stopped at the end, if it still runs. */
  readonly ownServer: (settings?: Readonly<Record<string, string>>) => Promise<Server>
  /** A fresh database on the shared server (or on `server`), dropped at the end. */
  readonly database: (server?: Server) => Promise<string>
  /** How often harm is done: `--times`, else the tier's number. */
  readonly times: (sizes: Readonly<Record<Tier, number>>) => number
  /** The one for this tier. */
  readonly sized: <A>(sizes: Readonly<Record<Tier, A>>) => A
  /** "kills", "freezes", "cuts", "backend kills", "restarts", "runs", "steps", "ledger rows" … */
  readonly count: (what: string, by?: number) => void
  /** One of many: the report has how many, the median, the 95th percentile and the longest. */
  readonly measure: (what: string, milliseconds: number) => void
  readonly violate: (violation: Violation) => void
  /** How many were told so far. */
  readonly violations: () => number
  /** A line of progress. */
  readonly say: (line: string) => void
  /** Done at the end, last first, also after a failure. */
  readonly atEnd: (release: () => Promise<void>) => void
}
