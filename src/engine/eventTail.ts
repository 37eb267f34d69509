/**
 * Follows the events that workflows emit, in every process, for those who listen here.
 *
 * The store's order respects commits, so a cursor never skips an event that becomes visible late.
 * While nobody listens nothing is read; the first listener fixes where the present begins.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import type { EventRow, StoreError, WorkflowStore } from "../WorkflowStore.ts"
import { bounded } from "./bounded.ts"
import type { Hearing } from "./hearing.ts"
import type { Hints } from "./hints.ts"

/**
 * Calls the listener for each event from now on; completes when "now" is fixed.
 */
export interface EventTail {
  readonly listen: (listener: (event: EventRow) => void) => Effect.Effect<() => void, StoreError>
}

/**
 * Starts the reading fiber in the current scope.
 */
export const makeEventTail = Effect.fnUntraced(function* (
  store: WorkflowStore["Service"],
  hints: Hints,
  hearing: Hearing,
  pollIntervalMs: number,
  /** An error of a listener, as it is logged. */
  shown: (error: unknown) => unknown = (error) => error,
): Effect.fn.Return<EventTail, never, Scope.Scope> {
  /** A function given twice is two listeners. */
  const listeners = new Set<{ readonly tell: (event: EventRow) => void }>()
  const anybody = yield* Latch.make()
  const nudge = yield* Latch.make()
  let cursor: string | null = null

  const unsubscribe = hints.subscribe((hint) => {
    if (hint === "signal" || hint === "reconnected") nudge.openUnsafe()
  })
  yield* Effect.addFinalizer(() => Effect.sync(unsubscribe))

  yield* Effect.forkScoped(
    Effect.forever(
      Effect.gen(function* () {
        yield* anybody.await
        nudge.closeUnsafe()
        const page = yield* store.tailEvents({ cursor, limit: 500 }).pipe(
          bounded("tailEvents"),
          // whatever became of it: the next reading begins in the same place
          Effect.catchCause(() => Effect.succeed({ events: [], cursor })),
        )
        cursor = page.cursor
        const defects: Array<unknown> = []
        for (const event of page.events) {
          for (const listener of listeners) {
            try {
              listener.tell(event)
            } catch (error) {
              defects.push(error)
            }
          }
        }
        for (const error of defects) {
          yield* Effect.logError("flowly: a listener of emitted events failed", shown(error))
        }
        if (listeners.size === 0) {
          anybody.closeUnsafe()
          cursor = null
          return
        }
        if (page.events.length < 500) {
          yield* Effect.raceFirst(nudge.await, Effect.sleep(pollIntervalMs))
        }
      }),
    ),
  )

  return {
    listen: (listener) =>
      Effect.gen(function* () {
        if (cursor === null) {
          const page = yield* bounded("tailEvents")(store.tailEvents({ cursor: null, limit: 1 }))
          cursor ??= page.cursor
        }
        const mine = { tell: listener }
        listeners.add(mine)
        anybody.openUnsafe()
        hearing.enter()
        return () => {
          if (listeners.delete(mine)) hearing.leave()
        }
      }),
  }
})
