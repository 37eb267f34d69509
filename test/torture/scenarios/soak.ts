/**
 * S21: everything goes wrong now and then, for as long as it is asked to; memory, handles, sessions and
 * dead rows must end where they began. Two processes are never killed: it is theirs that is measured,
 * the heap right after a collection. What grows by more than chance and 1 % an hour is a leak. A soak of
 * less than half an hour tells its figures, and judges the runs only.
 */
import { type Field, play } from "../arena.ts"
import { endingCommits, endingTransactions, losingClaims, overtaking } from "../nemesis/gates.ts"
import { disturbing, silencing } from "../nemesis/network.ts"
import { freezing, killing } from "../nemesis/processes.ts"
import { locking, terminating } from "../nemesis/sessions.ts"
import type { Context, Scenario } from "../scenario.ts"
import type { Vitals } from "../worker.ts"

export interface Sample {
  readonly at: number
  readonly sessions: number
  readonly deadTuples: number
  /** Of processes that have lived since the sample before. */
  readonly vitals: ReadonlyMap<string, Vitals>
}

const partsOfRss = ["heap pages", "external", "files", "native"] as const

/**
 * V8 makes its young generation larger and smaller by turns, from 1 to 128 MB. It keeps the pages that
 * it gives up, and takes fresh ones beside them: RSS grew by 13 MB within six minutes of that alone. Of
 * 32 MB at most it is as large as it gets before the warm-up is over.
 */
export const boundedYoung = ["--min-semi-space-size=16", "--max-semi-space-size=16"]

const everyMs = 10_000
/** Modules are loaded, code is compiled, caches are warm; of a short soak, a third. */
const warmMs = 600_000

const sampleOf = async ({ fleet, observer }: Field): Promise<Sample | null> => {
  const [row] = await observer
    .query<{ sessions: number; dead: number }>(
      `select (select count(*)::int from pg_stat_activity
          where datname = current_database() and application_name like 'flowly%') as sessions,
        (select coalesce(sum(n_dead_tup), 0)::int from pg_stat_user_tables
          where schemaname = 'durable_workflow') as dead`,
    )
    .catch(() => [])
  if (row === undefined) return null
  const vitals = new Map<string, Vitals>()
  for (const one of fleet.working()) {
    const late = new Promise<null>((resolve) => setTimeout(() => resolve(null), 2000))
    const told = await Promise.race([one.vitals(), late])
    if (told !== null) vitals.set(one.name, told)
  }
  return { at: Date.now(), sessions: row.sessions, deadTuples: row.dead, vitals }
}

export const S21: Scenario = {
  id: "S21",
  title: "a soak: everything at a low rate, for --minutes (default 60)",
  tiers: ["T2"],
  run: async (context) => {
    const minutes = context.minutes ?? 60
    const samples: Array<Sample> = []
    let next = 0
    await play(context, {
      workers: 4,
      spares: 1,
      inFlight: 20,
      // more than there is time for
      starts: Math.max(20_000, Math.ceil(minutes * 2000)),
      forMs: minutes * 60_000,
      flags: boundedYoung,
      onLook: async (field, phase) => {
        if (phase === "liveness" || Date.now() < next) return
        next = Date.now() + everyMs
        const sample = await sampleOf(field)
        if (sample !== null) samples.push(sample)
      },
      harms: (field) => {
        const { fleet, leaseMs, deaths, freezes, lost, locks, observer, url } = field
        const { tell } = field.timeline
        const given = { fleet, leaseMs, tell, times: Infinity, observer, url }
        // two processes are never killed: what they use at the end can be held against the beginning
        const lasting = new Set<string>()
        const isMortal = ({ name }: { readonly name: string }) => {
          if (lasting.size === 0) {
            for (const one of fleet.working().slice(0, 2)) lasting.add(one.name)
          }
          return !lasting.has(name)
        }
        return [
          killing({ ...given, isMortal, dice: context.dice.fork(), everyMs: 20_000 }, deaths),
          freezing({ ...given, dice: context.dice.fork(), everyMs: 20_000 }, freezes),
          terminating({ ...given, dice: context.dice.fork(), everyMs: 5000 }),
          disturbing({ ...given, dice: context.dice.fork(), everyMs: 10_000 }),
          locking({ ...given, dice: context.dice.fork(), everyMs: 15_000 }, locks),
          endingCommits({ ...given, dice: context.dice.fork(), everyMs: 20_000 }),
          endingTransactions({ ...given, dice: context.dice.fork(), everyMs: 20_000 }),
          losingClaims({ ...given, dice: context.dice.fork(), everyMs: 20_000 }, lost),
          overtaking({ ...given, dice: context.dice.fork(), everyMs: 30_000 }, freezes),
          silencing({ ...given, dice: context.dice.fork(), everyMs: 30_000 }),
        ]
      },
    })
    judge(context, samples, minutes)
  },
}

const mean = (values: ReadonlyArray<number>): number =>
  values.length === 0 ? 0 : values.reduce((sum, one) => sum + one, 0) / values.length

interface Trend {
  /** An hour. */
  readonly slope: number
  /** Of the mean, an hour. */
  readonly percent: number
  /** Of the percentage: what chance alone would make of it. */
  readonly error: number
}

/** The straight line through the points that is nearest to them. */
export const trendOf = (points: ReadonlyArray<readonly [hours: number, value: number]>): Trend => {
  const x = mean(points.map(([hours]) => hours))
  const y = mean(points.map(([, value]) => value))
  const spread = points.reduce((sum, [hours]) => sum + (hours - x) ** 2, 0)
  if (points.length < 3 || spread === 0 || y === 0) return { slope: 0, percent: 0, error: Infinity }
  const slope = points.reduce((sum, [hours, value]) => sum + (hours - x) * (value - y), 0) / spread
  const residue = points.reduce(
    (sum, [hours, value]) => sum + (value - y - slope * (hours - x)) ** 2,
    0,
  )
  const error = Math.sqrt(residue / (points.length - 2) / spread)
  return { slope, percent: (100 * slope) / y, error: (100 * error) / y }
}

/** Memory that grows by more in an hour is a leak, if it is not chance. */
const leakPercent = 1
/** In less there is nothing to be seen but warmth and chance. */
const tellingMinutes = 30

export const judge = (
  context: Pick<Context, "say" | "count" | "violate">,
  samples: ReadonlyArray<Sample>,
  minutes: number,
): void => {
  const [origin] = samples
  if (origin === undefined) return
  const isJudged = minutes >= tellingMinutes
  const violate = (message: string) => {
    if (isJudged) context.violate({ invariant: "I15", message, workflowRunId: null })
  }
  const warm = samples.filter(
    ({ at }) => at - origin.at >= Math.min(warmMs, (minutes * 60_000) / 3),
  )
  const size = Math.max(1, Math.floor(warm.length / 4))
  const [first, last] = [warm.slice(0, size), warm.slice(-size)]
  // frozen processes tell nothing, the last sample of all may lack one
  const names = new Set(
    last
      .flatMap(({ vitals }) => [...vitals.keys()])
      .filter((name) => first.some(({ vitals }) => vitals.has(name))),
  )
  for (const name of names) judgeMemory(context, name, warm, violate)

  const own = (pick: (one: Vitals) => number) => (one: Sample) =>
    [...one.vitals].flatMap(([name, vitals]) => (names.has(name) ? [pick(vitals)] : []))
  const quarters = (what: string, read: (one: Sample) => ReadonlyArray<number>) => {
    const [before, after] = [first, last].map((part) => Math.round(mean(part.flatMap(read))))
    context.say(`${what}: ${before} in the first quarter, ${after} in the last`)
    context.count(`${what}, first quarter`, before)
    context.count(`${what}, last quarter`, after)
    return { before, after }
  }
  const rows: ReadonlyArray<readonly [string, (one: Sample) => ReadonlyArray<number>]> = [
    ["MB RSS of a process", own(({ rssMb }) => rssMb)],
    ["MB heap of a process", own(({ heapMb }) => heapMb)],
    ["handles of a process", own(({ handles }) => handles)],
    ["contexts of a process", own(({ contexts }) => contexts)],
    ["sessions", ({ sessions }) => [sessions]],
    ["dead tuples", ({ deadTuples }) => [deadTuples]],
  ]
  for (const [what, read] of rows) {
    const { before = 0, after = 0 } = quarters(what, read)
    if (after <= before * 1.25 + (what === "dead tuples" ? 2000 : 5)) continue
    violate(`${what} grew from ${before} to ${after} in ${minutes} minutes`)
  }
  for (const part of partsOfRss)
    quarters(
      `MB ${part} of a process`,
      own(({ parts }) => parts[part]),
    )
}

/** The trends of a process: of all that it told, of the first half and of the second. */
const judgeMemory = (
  context: Pick<Context, "say">,
  name: string,
  samples: ReadonlyArray<Sample>,
  violate: (message: string) => void,
): void => {
  const told = samples.flatMap(({ at, vitals }) => {
    const one = vitals.get(name)
    return one === undefined ? [] : [{ hours: at / 3_600_000, vitals: one }]
  })
  const trends = (pick: (one: Vitals) => number) => {
    const points = told.map(({ hours, vitals }) => [hours, pick(vitals)] as const)
    const half = points.length >> 1
    return {
      whole: trendOf(points),
      halves: [trendOf(points.slice(0, half)), trendOf(points.slice(half))],
    }
  }
  const grown = partsOfRss.map((part) => {
    const { whole, halves } = trends(({ parts }) => parts[part])
    const [of, before, after] = [whole, ...halves].map(({ slope }) => slope.toFixed(1))
    return `${part} ${of} (${before}, then ${after})`
  })
  const memory = [
    ["RSS", ({ rssMb }: Vitals) => rssMb, `; of it, MB an hour: ${grown.join(", ")}`],
    ["heap after a collection", ({ heapMb }: Vitals) => heapMb, ""],
  ] as const
  for (const [what, pick, more] of memory) {
    const { whole, halves } = trends(pick)
    const { percent, error } = whole
    const [before, after] = halves.map((half) => half.percent.toFixed(1))
    const words =
      `${what} of ${name}: ${percent.toFixed(1)} % an hour, give or take ${error.toFixed(1)}` +
      ` (${before}, then ${after})${more}`
    const average = mean(told.map(({ vitals }) => pick(vitals))).toFixed(1)
    context.say(`${words} (${told.length} samples, mean ${average} MB)`)
    if (percent - 2 * error > leakPercent) violate(words)
  }
}
