/**
 * Tells when a body has come to rest.
 *
 * Replay delivers a record, lets the body come to rest, and delivers the next; two deliveries
 * without rest between them would flip races whose branches differ in depth. A body is at rest when
 * nothing of it can run before something from outside happens: no task is queued on its scheduler
 * (Effect), and the microtask queue is drained (promises). A `nextTick` that is queued from a
 * microtask runs exactly then. Timers and I/O that a body started by itself are not seen from here:
 * they are "pure asynchronous work", and whoever asks must allow for it.
 *
 * All bodies that are asked about in one turn share one microtask and one tick: with hundreds of runs
 * under way, one of each per delivery was a twentieth of a worker's time.
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

/** It keeps no state of a fiber: one for all bodies. */
const shared = new Scheduler.MixedScheduler()

/** Who asked since the last tick, and whether one is on its way. */
let asked: Array<() => void> = []
let onItsWay = false

const answerAll = (): void => {
  const answered = asked
  asked = []
  onItsWay = false
  for (let i = 0; i < answered.length; i++) {
    try {
      answered[i]!()
    } catch (error) {
      // a bug of ours, for the process to hear of; the others have nothing to do with it
      queueMicrotask(() => {
        throw error
      })
    }
  }
}

/** Calls back when all microtasks have run, also those that microtasks queue. */
const afterMicrotasks = (then: () => void): void => {
  asked.push(then)
  if (onItsWay) return
  onItsWay = true
  queueMicrotask(() => process.nextTick(answerAll))
}

/**
 * One for each execution of a body.
 */
export const makeRest = (): Rest => {
  let queued = 0
  let waiting: Array<() => void> | null = null

  const ran = () => {
    queued--
    if (queued > 0 || waiting === null) return
    const resumed = waiting
    waiting = null
    for (const then of resumed) whenAtRest(then)
  }

  const whenAtRest = (then: () => void): void =>
    afterMicrotasks(() => {
      if (queued === 0) then()
      else if (waiting === null) waiting = [then]
      else waiting.push(then)
    })

  const scheduler: Scheduler.Scheduler = {
    executionMode: "async",
    shouldYield: (fiber) => shared.shouldYield(fiber),
    makeDispatcher: () => {
      const dispatcher = shared.makeDispatcher()
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
