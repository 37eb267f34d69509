/**
 * Durable sleep: the wake time is fixed, by the store's clock, when the sleep is first reached, and
 * survives every crash. A sleep never ends early (promise 8). A run that only sleeps holds no
 * memory, slot or connection.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { SleepOperation } from "./engine/Operation.ts"
import { maxMillis } from "./DurationInput.ts"
import { InvalidInput } from "./FlowlyError.ts"
import { checkName } from "./Name.ts"
import { perform, type WorkflowRun } from "./WorkflowRun.ts"

const sleep = (
  name: string,
  until: SleepOperation["until"],
): Effect.Effect<void, never, WorkflowRun> =>
  Effect.fromResult(checkName(name, "sleep name")).pipe(
    Effect.orDie,
    Effect.andThen(perform({ kind: "sleep", name, until })),
    // a sleep has no failure of its own
    Effect.orDie,
    Effect.asVoid,
  )

/**
 * Sleeps for a duration, of at most a hundred years.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  name: string,
  duration: Duration.Input,
): Effect.Effect<void, never, WorkflowRun> =>
  Effect.suspend(() => {
    const delayMs = Duration.toMillis(duration)
    if (!Number.isFinite(delayMs) || delayMs < 0 || delayMs > maxMillis) {
      const reason = "must be between zero and a hundred years"
      return Effect.die(new InvalidInput({ field: `sleep "${name}"`, reason }))
    }
    return sleep(name, { delayMs })
  })

/**
 * Sleeps until an instant; one that has passed is over at once.
 *
 * @category constructors
 * @since 0.1.0
 */
export const until = (
  name: string,
  instant: Date | DateTime.DateTime,
): Effect.Effect<void, never, WorkflowRun> =>
  Effect.suspend(() => {
    const wakeAt = instant instanceof Date ? instant.getTime() : DateTime.toEpochMillis(instant)
    if (!Number.isFinite(wakeAt) || wakeAt > Date.UTC(9999, 0)) {
      const reason = "is not a valid date before the year 9999"
      return Effect.die(new InvalidInput({ field: `sleep "${name}"`, reason }))
    }
    // what is long past is past: Postgres knows fewer years than Date
    return sleep(name, { wakeAt: Math.max(wakeAt, 0) })
  })
