/**
 * Sequences of a seed, and the small ones in which a difference stays.
 *
 * A throw is a verb and dice: removing throws, or dice from the end of one (dice that are used up
 * give zeros, the plainest choice), leaves a sequence that can be played.
 */
import { diceOf } from "../../support/dice.ts"
import { type Throw, throwable } from "./stage.ts"

/** A throw of chosen dice: by the order in which the verb's generator asks them. */
const chosen = (verb: Throw["verb"], ...dice: ReadonlyArray<number>): Throw => ({ verb, dice })

/** Picks of `advance`. */
const [aLease, aMinute] = [6, 7]

/** The worker dies: a short lease, all that is due, and nobody renews it until a sweep comes. */
const crash = (slot: number, suspects: boolean): ReadonlyArray<Throw> => [
  // beyond the backoff of the crash before
  chosen("advance", aMinute),
  chosen("registerWorker", slot, 0, 0, 3),
  chosen("claimRuns", slot, 0, 0, suspects ? 4 : 0, suspects ? 1 : 0),
  chosen("advance", aMinute),
  chosen("sweep"),
]

/** A step fails, and its run goes on; whether one is held, or several (which asks a die more). */
const stepFails = chosen("commit", 0, 0, 0, 0, 0, 0, 0, 2, 2)

/**
 * What by chance alone comes too seldom: leases that lapse with runs under them, runs that have crashed
 * several times, workers that come back from a freeze. What else is thrown comes in between.
 */
const crashes: ReadonlyArray<
  (slot: number, any: (verb: Throw["verb"]) => Throw) => ReadonlyArray<Throw>
> = [
  (slot, any) => [
    chosen("registerWorker", slot, 0, 0, 2),
    chosen("claimRuns", slot),
    any("commit"),
    chosen("advance", aLease),
    any("renewLease"),
    chosen("sweep"),
    any("commit"),
    any("claimRuns"),
  ],
  // a frozen worker returns; a suspect is claimed, and makes progress or not
  (slot, any) => [
    ...crash(slot, false),
    ...crash(slot, false),
    any("refundCrashes"),
    any("refundCrashes"),
    // what is a suspect is due by now, and no claim of the others takes it
    chosen("advance", aMinute),
    chosen("registerWorker", slot, 0, 0, 2),
    chosen("claimRuns", slot),
    chosen("claimRuns", slot, 0, 0, 4, 1),
    any("commit"),
    any("sweep"),
    any("refundCrashes"),
  ],
  (slot, any) => [
    // what it records before is there when it is retried
    chosen("registerWorker", slot, 0, 0, 2),
    chosen("claimRuns", slot),
    stepFails,
    any("commit"),
    any("commit"),
    // a claim that has recorded something counts for no crash
    ...crash(slot, false),
    ...crash(slot, false),
    ...crash(slot, false),
    ...crash(slot, true),
    any("deadLetterPoison"),
    any("retryRun"),
    any("retryRun"),
    any("deadLetterPoison"),
  ],
]

/** A run that undoes its steps, and operators who have a word to say about that. */
const undos: (slot: number, any: (verb: Throw["verb"]) => Throw) => ReadonlyArray<Throw> = (
  slot,
  any,
) => [
  chosen("registerWorker", slot, 0, 0, 2),
  chosen("claimRuns", slot),
  ...Array.from({ length: 6 }, () => any("commit")),
  any("reviseCompensation"),
  any("commit"),
  any("commit"),
  any("reviseCompensation"),
  chosen("claimRuns", slot),
  any("commit"),
  any("reviseCompensation"),
]

/** The `n`-th sequence of a seed. */
export const sequenceOf = (seed: number, n: number): ReadonlyArray<Throw> => {
  const dice = diceOf(seed * 1_000_003 + n)
  const some = (verb: Throw["verb"]): Throw => ({
    verb,
    dice: Array.from({ length: 30 }, () => dice.whole(0, 9999)),
  })
  // with nobody there, and nothing to do, most verbs have little to say
  const begun = [
    { verb: "registerWorker", dice: [] },
    some("insertRuns"),
    some("insertRuns"),
  ] as const
  const rest = Array.from({ length: dice.whole(20, 40) }, () => some(dice.pick(throwable)))
  const [about, slot] = [dice.whole(1, 10), dice.whole(0, 2)]
  if (about <= 4) rest.splice(dice.whole(0, 15), 0, ...dice.pick(crashes)(slot, some))
  if (about === 5 || about === 6) rest.splice(dice.whole(0, 15), 0, ...undos(slot, some))
  return [...begun, ...rest]
}

/** Removes what it can within the time; `fails` says how a sequence fails, `null`: it does not. */
export const shrink = async (
  given: ReadonlyArray<Throw>,
  fails: (sequence: ReadonlyArray<Throw>) => Promise<Error | null>,
  budgetMs: number,
): Promise<Error | null> => {
  const until = performance.now() + budgetMs
  let [smallest, found] = [given, null as Error | null]
  const tryOut = async (candidate: ReadonlyArray<Throw>): Promise<boolean> => {
    if (performance.now() > until) return false
    const failure = await fails(candidate)
    if (failure === null) return false
    ;[smallest, found] = [candidate, failure]
    return true
  }
  for (let size = Math.ceil(given.length / 2); size >= 1; size = Math.floor(size / 2)) {
    for (let at = smallest.length - size; at >= 0; at -= size) {
      await tryOut(smallest.toSpliced(at, size))
    }
  }
  for (let index = 0; index < smallest.length; index++) {
    const redone = (dice: ReadonlyArray<number>) =>
      smallest.with(index, { ...smallest[index]!, dice })
    for (const keep of [0, 2, 4, 8, 16]) {
      if (await tryOut(redone(smallest[index]!.dice.slice(0, keep)))) break
    }
    const { dice } = smallest[index]!
    for (let at = 0; at < Math.min(dice.length, 16); at++) {
      if (smallest[index]!.dice[at] !== 0) await tryOut(redone(smallest[index]!.dice.with(at, 0)))
    }
  }
  for (let at = smallest.length - 1; at >= 0; at--) await tryOut(smallest.toSpliced(at, 1))
  return found
}
