/**
 * Reads that meet a cut connection are made again: nobody's meaning changes with a second look, and a
 * restart or failover of the database is over in a moment. A few seconds, then the caller hears of it.
 * Not inside of a caller's transaction, which is gone with its connection.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { StoreError, WorkflowStore } from "../WorkflowStore.ts"
import { CallClock } from "./bounded.ts"

const patienceMs = 3000
const firstPauseMs = 50
const longestPauseMs = 500

/**
 * The read, made again while the store is unavailable. Its own time counts: one that has waited for
 * longer than the patience is not repeated.
 */
export const readAgain = <A, E>(
  store: WorkflowStore["Service"],
  read: Effect.Effect<A, E | StoreError>,
): Effect.Effect<A, E | StoreError> =>
  Effect.gen(function* () {
    const clock = yield* CallClock
    const since = clock.currentTimeMillisUnsafe()
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
      const result = yield* Effect.result(read)
      if (result._tag === "Success") return result.success
      const error = result.failure
      const late = clock.currentTimeMillisUnsafe() - since + pauseMs > patienceMs
      if (!isUnavailable(error) || late) return yield* Effect.fail(error)
      if ((yield* store.callersTransaction) !== null) return yield* Effect.fail(error)
      yield* clock.sleep(Duration.millis(pauseMs))
    }
  })

const isUnavailable = (error: unknown): boolean =>
  (error as { readonly _tag?: unknown } | null)?._tag === "StoreUnavailable"
