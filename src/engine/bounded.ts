/**
 * Bounds a store call in time.
 *
 * A store has deadlines of its own, for each statement. This one is behind them: whatever a store,
 * a driver or a proxy does, a lane or loop that waits for an answer goes on one day. A call that was
 * given up may still have been applied.
 */
import * as Effect from "effect/Effect"
import { StoreUnavailable } from "../FlowlyError.ts"

/** Longer than any verb takes on a store that works: some read page after page. */
const patienceMs = 60_000

/**
 * Fails with `StoreUnavailable`, outcome unknown, when the call does not answer in time.
 */
export const bounded =
  (operation: string, milliseconds = patienceMs) =>
  <A, E, R>(call: Effect.Effect<A, E, R>): Effect.Effect<A, E | StoreUnavailable, R> =>
    Effect.timeoutOrElse(call, {
      duration: milliseconds,
      orElse: () =>
        Effect.fail(
          new StoreUnavailable({
            operation,
            outcome: "unknown",
            reason: `no answer within ${milliseconds} ms`,
          }),
        ),
    })
