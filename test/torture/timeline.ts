/** What was done to the processes, the connections and the server, and by whom, as it was done. */

export interface Deed {
  readonly at: number
  readonly who: string
  readonly what: string
}

export interface Timeline {
  readonly deeds: ReadonlyArray<Deed>
  readonly tell: (who: string, what: string) => void
}

export const makeTimeline = (): Timeline => {
  const deeds: Array<Deed> = []
  return { deeds, tell: (who, what) => deeds.push({ at: Date.now(), who, what }) }
}

/** A line an event, in order; times are seconds since the first. */
export const printDeeds = (deeds: ReadonlyArray<Deed>, limit: number): ReadonlyArray<string> => {
  const sorted = deeds.toSorted((a, b) => a.at - b.at)
  const first = sorted[0]?.at ?? 0
  const left = sorted.length - limit
  const line = ({ at, who, what }: Deed) =>
    `${((at - first) / 1000).toFixed(3).padStart(9)}  ${who.padEnd(9)} ${what}`
  if (left <= 0) return sorted.map(line)
  const half = Math.floor(limit / 2)
  return [
    ...sorted.slice(0, half).map(line),
    `           (${left} more)`,
    ...sorted.slice(-half).map(line),
  ]
}
