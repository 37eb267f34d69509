/**
 * Listeners of emitted events, and the one subscription behind them.
 *
 * A listener may be added before the tables exist, the store is set or the database is up: the
 * subscription is made when the engine is next used, and tried again until it holds. Whoever
 * starts a run waits for it first, so that a listener misses nothing of that run.
 */
import type { EventRow } from "../WorkflowStore.ts"
import { FlowlyError } from "./FlowlyError.ts"

type Listener = (row: EventRow) => void

/**
 * The listeners of an engine.
 */
export interface Listeners {
  /** Adds a listener; answers how to remove it. */
  readonly add: (listener: Listener) => () => void
  /** Completes when whatever is emitted from now on reaches the listeners. */
  readonly ready: () => Promise<void>
  /** Whether there is anything to wait for. */
  readonly isReady: () => boolean
  readonly stop: () => void
}

const retryMs = 1000

/**
 * No listeners yet. `subscribe` completes when "now" is fixed.
 */
export const makeListeners = (options: {
  readonly subscribe: (listener: Listener) => Promise<unknown>
  readonly report: (message: string) => void
}): Listeners => {
  const listeners = new Set<Listener>()
  let subscription: Promise<void> | null = null
  let timer: ReturnType<typeof setTimeout> | null = null
  let reported = false
  let stopped = false

  const tellAll = (row: EventRow) => {
    for (const listener of listeners) listener(row)
  }

  const ready = async (): Promise<void> => {
    if (listeners.size === 0 || stopped) return
    subscription ??= options.subscribe(tellAll).then(
      () => undefined,
      (error: unknown) => {
        subscription = null
        throw error
      },
    )
    return subscription
  }

  /** In the background: for a process that listens and does nothing else. */
  const attempt = () => {
    ready().catch((error: unknown) => {
      if (stopped || listeners.size === 0) return
      const { code, retryable } =
        error instanceof FlowlyError ? error : { code: "", retryable: true }
      // before `setStore`, before `migrate`: not yet an error
      if (!reported && code !== "InvalidInput" && code !== "SchemaNotMigrated") {
        reported = true
        options.report(`cannot listen to events yet: ${String(error)}`)
      }
      if (!retryable && code !== "SchemaNotMigrated") return
      if (timer !== null) clearTimeout(timer)
      timer = setTimeout(attempt, retryMs)
      timer.unref()
    })
  }

  return {
    add: (listener) => {
      // a function given twice is two listeners
      const own: Listener = (row) => listener(row)
      listeners.add(own)
      // not at once: `setStore` may be the next line
      queueMicrotask(attempt)
      return () => {
        listeners.delete(own)
      }
    },
    ready,
    isReady: () => listeners.size === 0,
    stop: () => {
      stopped = true
      if (timer !== null) clearTimeout(timer)
    },
  }
}
