/** Somebody who does harm: at random moments, so many times, until there is peace. */
import type { Dice } from "../../support/dice.ts"

export interface Harm {
  readonly name: string
  /** How often it is done at most. */
  readonly times: number
  /** Between one and the next, on average. */
  readonly everyMs: number
  /** Like radioactive decay; else regularly, give or take a half. */
  readonly poisson?: boolean
  /** Whether the next one comes within a tenth of that time. */
  readonly hurries?: () => boolean
  /** False: there was nothing to harm; it does not count. */
  readonly act: () => Promise<boolean>
  /** Undoes what lasts. */
  readonly relent?: () => Promise<void>
}

export interface Nemesis {
  /** All have done as much as they were to do. */
  readonly isSpent: () => boolean
  readonly done: () => ReadonlyMap<string, number>
  readonly relent: () => Promise<void>
}

export const unleash = (
  harms: ReadonlyArray<Harm>,
  dice: Dice,
  onBreak: (name: string, error: unknown) => void,
): Nemesis => {
  const done = new Map<string, number>()
  const state = { peace: false }
  const wakes = new Set<() => void>()
  const wait = (ms: number) =>
    new Promise<void>((resolve) => {
      const wake = () => {
        clearTimeout(timer)
        wakes.delete(wake)
        resolve()
      }
      const timer = setTimeout(wake, ms)
      wakes.add(wake)
    })
  const play = async (harm: Harm, own: Dice): Promise<void> => {
    const { name, times, everyMs, poisson, hurries, act } = harm
    while (!state.peace && (done.get(name) ?? 0) < times) {
      const share = poisson === true ? -Math.log(1 - own.roll()) : 0.5 + own.roll()
      await wait(everyMs * share * (hurries?.() === true ? 0.1 : 1))
      if (state.peace) return
      try {
        if (await act()) done.set(name, (done.get(name) ?? 0) + 1)
      } catch (error) {
        onBreak(name, error)
      }
    }
  }
  const all = harms.map((harm) => play(harm, dice.fork()))
  let isSpent = false
  const spent = (async () => {
    await Promise.all(all)
    isSpent = true
  })()
  return {
    isSpent: () => isSpent,
    done: () => done,
    relent: async () => {
      state.peace = true
      for (const wake of wakes) wake()
      await spent
      for (const { relent } of harms) await relent?.()
    },
  }
}
