import type { Evidence } from "../evidence.ts"

/** One promise, and how it is judged when all is quiet. */
export interface Invariant {
  readonly id: string
  readonly claim: string
  readonly check: (found: Evidence) => void
}

/** Lists by what they are of. */
export const grouped = <A>(
  all: ReadonlyArray<A>,
  keyOf: (one: A) => string,
): ReadonlyMap<string, ReadonlyArray<A>> => {
  const groups = new Map<string, Array<A>>()
  for (const one of all) {
    const key = keyOf(one)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [one])
    else group.push(one)
  }
  return groups
}
