/** Medians, spreads and ratios of what was measured. */
import type { Contender, Sample, Target } from "./model.ts"

export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

/** A contender after all rounds. */
export interface Summary extends Spread {
  readonly name: string
  readonly unit: string
  /** By the name of the other contender: the median of the rounds' ratios, and their spread. */
  readonly ratios: Readonly<Record<string, Spread>>
  readonly extras: Readonly<Record<string, number>>
  readonly samples: ReadonlyArray<Sample>
}

export interface Verdict {
  readonly text: string
  readonly met: boolean
}

export const median = (numbers: ReadonlyArray<number>): number => {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2
}

export const quantile = (numbers: ReadonlyArray<number>, q: number): number => {
  const sorted = numbers.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN
}

const spread = (numbers: ReadonlyArray<number>): Spread => ({
  median: median(numbers),
  min: Math.min(...numbers),
  max: Math.max(...numbers),
})

/** Round by round: what slows the machine slows both. */
export const summarize = (
  contenders: ReadonlyArray<Contender>,
  samples: ReadonlyMap<string, ReadonlyArray<Sample>>,
): ReadonlyArray<Summary> =>
  contenders.map(({ name, unit, against = [] }) => {
    const taken = samples.get(name) ?? []
    const values = taken.map((one) => one.value)
    const ratios: Record<string, Spread> = {}
    for (const other of against) {
      const base = samples.get(other) ?? []
      ratios[other] = spread(values.map((value, at) => value / (base[at]?.value ?? Number.NaN)))
    }
    const names = [...new Set(taken.flatMap((one) => Object.keys(one.extras ?? {})))]
    const extras = Object.fromEntries(
      names.map((extra) => [extra, median(taken.flatMap((one) => one.extras?.[extra] ?? []))]),
    )
    return { name, unit, ...spread(values), ratios, extras, samples: taken }
  })

/** Whether the targets are met; those of contenders that were not measured are left out. */
export const judge = (
  targets: ReadonlyArray<Target>,
  summaries: ReadonlyArray<Summary>,
): ReadonlyArray<Verdict> =>
  targets.flatMap(({ of, figure, over, atLeast, atMost }) => {
    const [best] = summaries
      .filter(({ name }) => of.test(name))
      .map((one) => ({ name: one.name, value: figureOf(one, figure, over, summaries) }))
      .filter(({ value }) => Number.isFinite(value))
      .toSorted((a, b) => (atLeast === undefined ? a.value - b.value : b.value - a.value))
    if (best === undefined) return []
    const met =
      (atLeast === undefined || best.value >= atLeast) &&
      (atMost === undefined || best.value <= atMost)
    const wanted = atLeast === undefined ? `at most ${atMost}` : `at least ${atLeast}`
    const label = [
      ...(figure === "value" ? [] : [figure]),
      ...(over === undefined ? [] : [`x ${over.replace(/, at$/, "")}`]),
    ]
    return [{ met, text: `${best.name}: ${[show(best.value), ...label].join(" ")} (${wanted})` }]
  })

const figureOf = (
  summary: Summary,
  figure: string,
  over: string | undefined,
  all: ReadonlyArray<Summary>,
): number => {
  if (over === undefined) return figure === "value" ? summary.median : extra(summary, figure)
  const limit = Object.keys(summary.ratios).find((name) => name.startsWith(over))
  const other = all.find(({ name }) => name === limit)
  if (limit === undefined || other === undefined) return Number.NaN
  if (figure === "value") return summary.ratios[limit]?.median ?? Number.NaN
  return median(
    summary.samples.map(
      (one, at) =>
        (one.extras?.[figure] ?? Number.NaN) / (other.samples[at]?.extras?.[figure] ?? 0),
    ),
  )
}

const extra = (summary: Summary, name: string): number => summary.extras[name] ?? Number.NaN

/** Three digits are what a measurement is worth. */
export const show = (value: number): string => {
  if (!Number.isFinite(value)) return "–"
  if (value === 0) return "0"
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en")
  return Number(value.toPrecision(3)).toString()
}
