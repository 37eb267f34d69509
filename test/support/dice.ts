/** Dice of a seed: the same seed, the same throws. */
export interface Dice {
  /** From 0 inclusive to 1 exclusive. */
  readonly roll: () => number
  readonly chance: (p: number) => boolean
  /** A whole number, both ends included. */
  readonly whole: (from: number, to: number) => number
  readonly pick: <A>(from: ReadonlyArray<A>) => A
  /** Dice of their own: what they are thrown for changes nothing here. */
  readonly fork: () => Dice
}

/** Mulberry32. */
export const diceOf = (seed: number): Dice => {
  let state = seed >>> 0
  const roll = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  return {
    roll,
    chance: (p) => roll() < p,
    whole: (from, to) => from + Math.floor(roll() * (to - from + 1)),
    pick: <A>(from: ReadonlyArray<A>): A => from[Math.floor(roll() * from.length)] as A,
    fork: () => diceOf(Math.floor(roll() * 4294967296)),
  }
}
