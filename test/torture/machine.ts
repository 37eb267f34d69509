/**
 * What the machine owes the processes: how long each was ready to run and was given no processor. The
 * kernel counts it (`schedstat`, of the main thread); it is read from outside, so that the processes
 * are not made any slower by being watched. Where it cannot be read, the machine owes nothing.
 */
import { readFileSync } from "node:fs"

interface Sample {
  readonly at: number
  readonly waitedMs: number
}

export interface Machine {
  /** How long the process waited for a processor between two instants; 0 where it is not known. */
  readonly waited: (name: string, from: number, to: number) => number
  /** Those that were watched throughout. */
  readonly watched: (from: number, to: number) => ReadonlyArray<string>
  readonly stop: () => void
}

const everyMs = 25

const waitedOf = (pid: number): number | null => {
  try {
    const [, ns] = readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ")
    return Number(ns) / 1e6
  } catch {
    return null
  }
}

/** How much of it had been by then: as if it grew evenly between two samples. */
const byThen = (samples: ReadonlyArray<Sample>, at: number): number => {
  // the first that is not before it
  let [next, end] = [0, samples.length]
  while (next < end) {
    const middle = (next + end) >> 1
    if ((samples[middle]?.at ?? 0) < at) next = middle + 1
    else end = middle
  }
  const [before, after] = [samples[next - 1], samples[next]]
  if (after === undefined) return samples.at(-1)?.waitedMs ?? 0
  if (before === undefined) return after.waitedMs
  const share = (at - before.at) / Math.max(1, after.at - before.at)
  return before.waitedMs + share * (after.waitedMs - before.waitedMs)
}

export const watchMachine = (
  processes: () => ReadonlyArray<{ readonly name: string; readonly pid: number }>,
): Machine => {
  const series = new Map<string, Array<Sample>>()
  const look = () => {
    for (const { name, pid } of processes()) {
      const waitedMs = waitedOf(pid)
      if (waitedMs === null) continue
      const sample = { at: Date.now(), waitedMs }
      const known = series.get(name)
      if (known === undefined) series.set(name, [sample])
      else known.push(sample)
    }
  }
  const timer = setInterval(look, everyMs)
  return {
    waited: (name, from, to) => {
      const samples = series.get(name) ?? []
      return Math.max(0, byThen(samples, to) - byThen(samples, from))
    },
    watched: (from, to) =>
      [...series].flatMap(([name, samples]) => {
        const [first, last] = [samples[0], samples.at(-1)]
        const throughout = first !== undefined && last !== undefined && first.at <= from
        return throughout && last.at >= to ? [name] : []
      }),
    stop: () => clearInterval(timer),
  }
}
