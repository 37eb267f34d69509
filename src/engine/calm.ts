/**
 * Waits for a body that is at rest and may be at pure asynchronous work.
 */
import * as Effect from "effect/Effect"
import { graceSlices, inRealTime, parking, turnsToDiverge, turnsToPark } from "./graces.ts"
import type { Machine } from "./machine.ts"

/**
 * Waits a grace for the body, which may be at pure asynchronous work; anything that happens ends
 * the wait. It is counted in time and in turns of the event loop: a loop that was blocked runs its
 * timers before what it kept waiting, and a busy one gives the body few turns in a second.
 */
export const unlessIssued = (
  m: Machine,
  awaited: string,
  graceMs: number,
  otherwise: () => void,
): void => {
  if (m.calmOver === awaited) return otherwise()
  const turns = awaited === parking ? turnsToPark : turnsToDiverge
  const slice =
    graceMs === 0 ? Effect.yieldNow : inRealTime(graceMs / graceSlices, turns / graceSlices)
  m.calm = m.env.fork(
    Effect.andThen(
      Effect.repeat(slice, { times: graceSlices - 1 }),
      Effect.sync(() => {
        m.calm = null
        m.calmOver = awaited
        m.pump()
      }),
    ),
  )
}
