/**
 * Hears the hints of other processes: for a worker while it runs, and for those who wait here without one.
 *
 * LISTEN holds a connection. So without a worker it is held only where the store has one to spare,
 * from the first who waits until nobody has for some seconds. It fails without a word: polling is the truth.
 * Where hints have been heard, polling can be seldom. Where none has, they may never come (a pooler in
 * transaction mode takes LISTEN, and swallows what it brings).
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { StoreError, WorkflowStore } from "../WorkflowStore.ts"
import type { Hints } from "./hints.ts"

export interface Hearing {
  /** Hears until the scope closes. Fails where the first subscription does. */
  readonly subscribe: Effect.Effect<void, StoreError, Scope.Scope>
  /** Somebody waits for what happens elsewhere, until as many have left. */
  readonly enter: () => void
  readonly leave: () => void
  /** Hints do come. */
  readonly isProven: () => boolean
}

/** Short: an application that ends its pool waits for the connection. */
const lingerMs = 2000
const againMs = 30_000

/**
 * Starts the fiber that hears for those who wait, in the current scope.
 */
export const makeHearing = Effect.fnUntraced(function* (
  store: WorkflowStore["Service"],
  hints: Hints,
  /** Whether to hear for those who wait. */
  aside: boolean,
): Effect.fn.Return<Hearing, never, Scope.Scope> {
  const wanted = yield* Latch.make()
  let waiting = 0
  let subscribed = 0
  let isProven = false

  const subscribe: Hearing["subscribe"] = Effect.gen(function* () {
    const queue = yield* store.listen
    yield* Effect.acquireRelease(
      Effect.sync(() => subscribed++),
      () =>
        Effect.sync(() => {
          subscribed--
          isProven &&= subscribed > 0
        }),
    )
    yield* Effect.forkScoped(
      Effect.forever(
        Effect.map(Queue.take(queue), (hint) => {
          isProven = hint !== "reconnected"
          hints.local(hint)
        }),
      ),
    )
  })

  const whileWanted = Effect.gen(function* () {
    for (;;) {
      wanted.closeUnsafe()
      yield* Effect.sleep(lingerMs)
      if (waiting === 0 && !wanted.isOpen()) return
    }
  })

  if (aside && store.sparesConnection) {
    yield* Effect.forkScoped(
      Effect.forever(
        Effect.gen(function* () {
          yield* wanted.await
          if (subscribed > 0) {
            wanted.closeUnsafe()
            return
          }
          yield* Effect.scoped(Effect.andThen(subscribe, whileWanted)).pipe(
            Effect.catchCause(() => Effect.sleep(againMs)),
          )
        }),
      ),
    )
  }

  return {
    subscribe,
    enter: () => {
      waiting++
      wanted.openUnsafe()
    },
    leave: () => {
      waiting--
    },
    isProven: () => isProven,
  }
})
