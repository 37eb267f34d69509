/**
 * Whose clock a database store compares times with.
 *
 * In production it is the database's own (`layerStore`, the default). In a test `layerEffect` hands
 * Effect's clock to every statement that reads time, as a bound parameter: TestClock then drives
 * due times, leases and ticks on a real Postgres. There is no settable clock in the schema, so
 * there is nothing to abuse in production. The memory store always uses Effect's clock.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/**
 * `now` is `null` where the store's own clock is to be read, else epoch milliseconds.
 *
 * @category services
 * @since 0.1.0
 */
export class EngineClock extends Context.Service<
  EngineClock,
  { readonly now: Effect.Effect<number | null> }
>()("flowly/EngineClock") {}

/**
 * The database's clock.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStore: Layer.Layer<EngineClock> = Layer.succeed(EngineClock, {
  now: Effect.succeed(null),
})

/**
 * Effect's clock, captured when the layer is built: TestClock in a test.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerEffect: Layer.Layer<EngineClock> = Layer.effect(
  EngineClock,
  Effect.map(Clock.Clock, (clock) => ({
    now: Effect.sync((): number | null => clock.currentTimeMillisUnsafe()),
  })),
)
