/**
 * What a body may know of time and chance: the same on every replay, at no cost in writes.
 *
 * The time is the store's at the last completion that the body was given (at first, of the run's
 * first claim). Random numbers and UUIDs are derived from the run (of a fork, its origin: what was
 * copied was made with them) and the number of the call, which
 * is the same again because deliveries are. The attempt is no part of the seed: a retried run
 * replays what stands before its failure strictly, and a branch that the dice chose stands there.
 * Numbers and UUIDs are counted apart, so that code which draws one more of these does not change
 * those.
 */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { v5 as uuidv5 } from "uuid"
import type { Execution } from "./Execution.ts"

/**
 * Time and chance of one body.
 */
export interface BodyValues {
  /** Epoch milliseconds. */
  readonly now: () => number
  /** From 0 inclusive to 1 exclusive. */
  readonly random: () => number
  /** A safe integer. */
  readonly randomInteger: () => number
  /** Name-based (version 5), of the run and the number of the call. */
  readonly uuid: () => string
}

/** Any constant will do; it keeps these apart from the name-based UUIDs of others. */
const namespace = "8e0b5f0c-51b8-5f0e-9d0a-6f6c6f776c79"

/**
 * One for each execution of a body.
 */
export const makeBodyValues = (execution: Execution): BodyValues => {
  const { seed } = execution.run
  // made at the first use, for a seed costs 0.07 ms and most bodies draw nothing
  let seeded: typeof Random.Random.Service | null = null
  const dice = () => (seeded ??= Effect.runSync(Random.withSeed(Random.Random, seed)))
  let uuids = 0
  return {
    now: () => execution.nowForBody,
    random: () => dice().nextDoubleUnsafe(),
    randomInteger: () => dice().nextIntUnsafe(),
    uuid: () => uuidv5(`${seed}:${++uuids}`, namespace),
  }
}
