/**
 * A supervised loop: one duty, repeated, with jitter; its health visible. A turn that fails, dies,
 * ends in an interrupt of its own or never ends is given up, and the next comes after a growing
 * pause. Only the end of its scope ends a loop.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { bounded, onCallClock } from "../engine/bounded.ts"

/**
 * How a loop is doing. `lastOkMs` is on the monotonic clock.
 */
export interface LoopHealth {
  readonly name: string
  lastOkMs: number
  failures: number
  lastError: string | null
}

/**
 * A pause of about `ms`, somewhere in its last fifth: many workers must not march in step.
 */
export const jittered = (ms: number, random: () => number): number => ms * (0.8 + random() * 0.2)

/**
 * Forks the loop in the current scope. `turn` does the duty once and answers how long to pause, in
 * milliseconds; `wait` pauses. After a turn that failed it does so on the clock of store calls.
 */
export const superviseLoop = (options: {
  readonly name: string
  readonly health: Map<string, LoopHealth>
  readonly monotonicMs: () => number
  readonly random: () => number
  readonly turn: Effect.Effect<number, unknown>
  readonly wait?: (ms: number) => Effect.Effect<void>
}): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const health: LoopHealth = {
      name: options.name,
      lastOkMs: options.monotonicMs(),
      failures: 0,
      lastError: null,
    }
    options.health.set(options.name, health)
    const wait = options.wait ?? Effect.sleep
    const turn = options.turn.pipe(
      bounded(options.name),
      Effect.tap(() =>
        Effect.sync(() => {
          health.lastOkMs = options.monotonicMs()
          health.failures = 0
          health.lastError = null
        }),
      ),
      Effect.map(wait),
      Effect.catchCause((cause) => {
        health.failures++
        const error = Cause.squash(cause)
        health.lastError = error instanceof Error ? error.message : String(error)
        const pause = Math.min(250 * 2 ** Math.min(health.failures - 1, 6), 5000)
        return Effect.as(
          Effect.logWarning(`flowly: ${options.name}: ${health.lastError}`),
          onCallClock(wait(pause * (0.5 + options.random() / 2))),
        )
      }),
    )
    yield* Effect.forkScoped(Effect.forever(Effect.flatten(turn)))
  })
