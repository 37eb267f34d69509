/**
 * Bounds a store call in time.
 *
 * A store has deadlines of its own, for each statement. This one is behind them: whatever a store,
 * a driver or a proxy does, a lane or loop that waits for an answer goes on one day. A call that was
 * given up may still have been applied.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { StoreUnavailable } from "../FlowlyError.ts"

/** Longer than any verb takes on a store that works: some read page after page. */
const patience = Duration.seconds(60)

/**
 * The clock of these deadlines: the real one, also under a TestClock, whose jumps say nothing about
 * how long a database has had to answer.
 */
export const CallClock = Context.Reference<Clock.Clock>("flowly/CallClock", {
  defaultValue: () => Clock.Clock.defaultValue(),
})

/**
 * Fails with `StoreUnavailable`, outcome unknown, when the call does not answer in time.
 */
export const bounded =
  (operation: string, within: Duration.Duration = patience) =>
  <A, E, R>(call: Effect.Effect<A, E, R>): Effect.Effect<A, E | StoreUnavailable, R> =>
    Effect.flatMap(CallClock, (clock) =>
      Effect.flatMap(
        Effect.raceFirst(Effect.asSome(call), Effect.as(clock.sleep(within), Option.none<A>())),
        (answer): Effect.Effect<A, StoreUnavailable> =>
          Option.isSome(answer)
            ? Effect.succeed(answer.value)
            : Effect.fail(
                new StoreUnavailable({
                  operation,
                  outcome: "unknown",
                  reason: `no answer within ${Duration.format(within)}`,
                }),
              ),
      ),
    )
