/** The words of the benchmark: a case has contenders, and each round takes a sample of each. */

/** One measurement. */
export interface Sample {
  /** In the contender's unit. */
  readonly value: number
  /** What else was seen: commits, WAL, CPU … The unit is in the name. */
  readonly extras?: Readonly<Record<string, number>>
}

/** One thing that is measured, in turns with the others of its case. */
export interface Contender {
  readonly name: string
  readonly unit: string
  /** Contenders by whose value of the same round this one's is divided. */
  readonly against?: ReadonlyArray<string>
  readonly measure: () => Promise<Sample>
}

/** What a case is to reach: of the contenders that match, the one that is nearest to it counts. */
export interface Target {
  readonly of: RegExp
  /** `value`, or the name of an extra. */
  readonly figure: string
  /** Divided by that of this contender, round by round. A part of its name that says which. */
  readonly over?: string
  readonly atLeast?: number
  readonly atMost?: number
}

/** A case, ready to be measured. */
export interface Prepared {
  readonly contenders: ReadonlyArray<Contender>
  readonly targets?: ReadonlyArray<Target>
  /** Plans, sizes and whatever else belongs into the output. */
  readonly notes?: () => Promise<ReadonlyArray<string>>
  readonly close?: () => Promise<void>
}

/** How large the cases are. */
export interface Sizes {
  /** Runs that a throughput sample counts; a fifth more are executed before them, to warm up. */
  readonly runs: number
  readonly concurrency: ReadonlyArray<number>
  /** Steps of the one long run. */
  readonly steps: number
  /** Lengths of replayed histories. */
  readonly replays: ReadonlyArray<number>
  readonly triggers: number
  readonly latencies: number
  readonly parked: number
  readonly idleSeconds: number
  /** Finished runs in the tables. */
  readonly history: number
  /** Due runs of a workflow that no worker knows. */
  readonly foreign: number
  readonly waiting: number
  /** Minutes of load for the bloat check; 0 leaves it out. */
  readonly minutes: number
}

/** What a case is given. */
export interface Bench {
  /** Superuser's address of the server, any database. */
  readonly server: string
  readonly sizes: Sizes
  /** Only what must be measured. */
  readonly quick: boolean
  /** Samples print their heaviest statements. */
  readonly statements: boolean
  readonly say: (line: string) => void
}

export interface Case {
  readonly id: string
  readonly title: string
  readonly prepare: (bench: Bench) => Promise<Prepared> | Prepared
}

/** The concurrency of cases that are measured at one only. */
export const typical = ({ concurrency }: Sizes): number =>
  concurrency[concurrency.length >> 1] ?? 50
