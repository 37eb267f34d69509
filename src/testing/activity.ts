/**
 * Tells whether something still happens in a test engine, and waits until nothing does.
 *
 * There is no one queue to look at: fibers, promises, the journal and the database each have their
 * own. So signs of life are counted (sleeps, store calls, lifecycle events), and quiet is a number
 * of turns of the event loop without any, while no store call is under way. Real timers and clocks
 * are kept from before a test framework may replace them.
 */
import * as Effect from "effect/Effect"
import type { WorkflowStore } from "../WorkflowStore.ts"

const realNow = performance.now.bind(performance)
const realSetTimeout = setTimeout
const realClearTimeout = clearTimeout
const realSetImmediate: (f: () => void) => void =
  typeof setImmediate === "function" ? setImmediate : (f) => realSetTimeout(f, 0)

/** Turns of the event loop without a sign of life. A fiber's hop takes one. */
const quietTurns = 25

/**
 * The signs of life of one engine.
 */
export interface Activity {
  readonly touch: () => void
  /** The store, its calls counted. */
  readonly watch: (store: WorkflowStore["Service"]) => WorkflowStore["Service"]
  /**
   * Waits for quiet. While `patienceMs` answers more than zero (a step may wait for the world),
   * quiet must last that long by the real clock.
   */
  readonly quiet: (patienceMs: () => number) => Effect.Effect<void>
  /** Waits for a sign of life, at most so long by the real clock; whether there was one. */
  readonly stirs: (withinMs: number) => Effect.Effect<boolean>
}

/**
 * Nothing has happened yet.
 */
export const makeActivity = (): Activity => {
  let count = 0
  let calls = 0
  const waiting = new Set<() => void>()

  const touch = () => {
    count++
    // who is told may wait again at once
    const told = [...waiting]
    waiting.clear()
    for (const one of told) one()
  }

  const turn = Effect.callback<void>((resume) => realSetImmediate(() => resume(Effect.void)))

  const stirs = (withinMs: number) =>
    Effect.callback<boolean>((resume) => {
      const stirred = () => {
        realClearTimeout(timer)
        resume(Effect.succeed(true))
      }
      const timer = realSetTimeout(() => {
        waiting.delete(stirred)
        resume(Effect.succeed(false))
      }, withinMs)
      waiting.add(stirred)
      return Effect.sync(() => {
        realClearTimeout(timer)
        waiting.delete(stirred)
      })
    })

  const quiet = Effect.fnUntraced(function* (patienceMs: () => number) {
    let seen = count
    let turns = 0
    let since = realNow()
    for (;;) {
      if (calls > 0) yield* stirs(1000)
      else yield* turn
      turns++
      if (count !== seen || calls > 0) {
        seen = count
        turns = 0
        since = realNow()
      }
      if (turns < quietTurns) continue
      const left = patienceMs() - (realNow() - since)
      if (left <= 0) return
      yield* stirs(left)
    }
  })

  const watchCall = <A, E, R>(call: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.suspend(() => {
      calls++
      touch()
      return Effect.ensuring(
        call,
        Effect.sync(() => {
          calls--
          touch()
        }),
      )
    })

  return {
    touch,
    stirs,
    quiet,
    watch: (store) => {
      const watched = Object.entries(store).map(([name, verb]: [string, unknown]) => {
        // a subscription, not a call
        if (name === "listen") return [name, verb]
        if (Effect.isEffect(verb)) return [name, watchCall(verb)]
        if (typeof verb !== "function") return [name, verb]
        return [name, (...given: Array<unknown>) => watchCall(verb(...given))]
      })
      return Object.fromEntries(watched) as WorkflowStore["Service"]
    },
  }
}
