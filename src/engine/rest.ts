/**
 * Tells when a body has come to rest.
 *
 * Replay delivers a record, lets the body come to rest, and delivers the next; two deliveries
 * without rest between them would flip races whose branches differ in depth. A body is at rest when
 * nothing of it can run before something from outside happens: no task is queued on its scheduler
 * (Effect), and the microtask queue is drained (promises). A `nextTick` that is queued from a
 * microtask runs exactly then. Timers and I/O that a body started by itself are not seen from here:
 * they are "pure asynchronous work", and whoever asks must allow for it.
 */
import * as Scheduler from "effect/Scheduler"

/**
 * The scheduler a body runs on, and the question whether it is at rest.
 */
export interface Rest {
  readonly scheduler: Scheduler.Scheduler
  /** Calls back, later, when the body is at rest. */
  readonly whenAtRest: (then: () => void) => void
}

/**
 * One for each execution of a body.
 */
export const makeRest = (): Rest => {
  const inner = new Scheduler.MixedScheduler()
  let queued = 0
  let waiting: Array<() => void> = []

  const ran = () => {
    queued--
    if (queued > 0 || waiting.length === 0) return
    const resumed = waiting
    waiting = []
    for (const then of resumed) whenAtRest(then)
  }

  const whenAtRest = (then: () => void): void => {
    queueMicrotask(() => {
      process.nextTick(() => {
        if (queued > 0) waiting.push(then)
        else then()
      })
    })
  }

  const scheduler: Scheduler.Scheduler = {
    executionMode: "async",
    shouldYield: (fiber) => inner.shouldYield(fiber),
    makeDispatcher: () => {
      const dispatcher = inner.makeDispatcher()
      return {
        scheduleTask: (task, priority) => {
          queued++
          dispatcher.scheduleTask(() => {
            try {
              task()
            } finally {
              ran()
            }
          }, priority)
        },
        flush: () => dispatcher.flush(),
      }
    },
  }

  return { scheduler, whenAtRest }
}
