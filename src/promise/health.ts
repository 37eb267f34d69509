/**
 * How an engine is doing: whether its store answers, and its worker's loops turn.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { Engine } from "../Engine.ts"
import { within } from "../engine/bounded.ts"
import type { WorkerHealth } from "../Worker.ts"

/**
 * How the engine is doing.
 */
export interface Health {
  readonly healthy: boolean
  readonly store: { readonly ok: boolean; readonly latencyMs: number; readonly error?: string }
  /** `null`: not started in this process. */
  readonly worker: WorkerHealth | null
}

const patience = Duration.seconds(5)

/**
 * Asks the store for its time, for 5 seconds at most. Never rejects.
 */
export const checkHealth = async (
  run: <A, E>(effect: Effect.Effect<A, E, Engine>) => Promise<A>,
  worker: WorkerHealth | null,
): Promise<Health> => {
  const before = performance.now()
  const failed = (error: unknown): Health => ({
    healthy: false,
    store: {
      ok: false,
      latencyMs: performance.now() - before,
      error: error instanceof Error ? error.message : String(error),
    },
    worker,
  })
  try {
    await run(
      Effect.flatMap(Engine, ({ store }) =>
        within(patience, () => new Error("no answer within 5 seconds"))(store.now),
      ),
    )
  } catch (error) {
    return failed(error)
  }
  return {
    healthy: worker === null || (worker.leaseTrusted && worker.unhealthy.length === 0),
    store: { ok: true, latencyMs: performance.now() - before },
    worker,
  }
}
