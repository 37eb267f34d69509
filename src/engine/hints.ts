/**
 * Hints: "look now", within this process at once, to other processes off the write path.
 *
 * A hint may be lost and is never needed: polling is the truth. NOTIFY takes a database-wide lock at
 * commit (inside the committing transaction it capped 18,000 commits per second at 4,000), so hints
 * leave through one fiber of their own, coalesced: while one sending is in flight, the next gathers.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import type { Hint, WorkflowStore } from "../WorkflowStore.ts"
import { bounded } from "./bounded.ts"

/**
 * Where hints go and come from.
 */
export interface Hints {
  /** Tells this process, and in time the others. */
  readonly send: (hint: Hint) => void
  /** Tells the other processes only. */
  readonly remote: (hint: Hint) => void
  /** Tells this process only. */
  readonly local: (hint: Hint) => void
  /** Calls back for each hint until the returned function is called. */
  readonly subscribe: (listener: (hint: Hint) => void) => () => void
}

/**
 * Starts the sending fiber in the current scope.
 */
export const makeHints = Effect.fnUntraced(function* (
  store: WorkflowStore["Service"],
): Effect.fn.Return<Hints, never, Scope.Scope> {
  const listeners = new Set<(hint: Hint) => void>()
  const outgoing = new Set<Hint>()
  const latch = yield* Latch.make()

  yield* Effect.forkScoped(
    Effect.forever(
      Effect.gen(function* () {
        yield* latch.await
        // Of an end, a waiter in this process hears first, and others behind it (0.2 ms and more won for
        // it); of work, others are to hear.
        if (!outgoing.has("work")) yield* Effect.yieldNow
        latch.closeUnsafe()
        const hints = [...outgoing]
        outgoing.clear()
        // whatever becomes of it: the next must go out
        if (hints.length > 0) yield* Effect.exit(bounded("notify")(store.notify(hints)))
      }),
    ),
  )

  const local = (hint: Hint) => {
    for (const listener of listeners) listener(hint)
  }
  const remote = (hint: Hint) => {
    outgoing.add(hint)
    latch.openUnsafe()
  }
  return {
    local,
    remote,
    send: (hint) => {
      local(hint)
      remote(hint)
    },
    subscribe: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  }
})
