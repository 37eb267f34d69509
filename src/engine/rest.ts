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
 * The scheduler a body runs on, and the question whether it is at rest. A class: see `live.ts`.
 */
export class Rest {
  #queued = 0
  #waiting: Array<() => void> | null = null
  #scheduler: Scheduler.Scheduler | null = null

  /** Calls back, later, when the body is at rest. */
  whenAtRest(then: () => void): void {
    afterMicrotasks(() => {
      if (this.#queued === 0) then()
      else if (this.#waiting === null) this.#waiting = [then]
      else this.#waiting.push(then)
    })
  }

  /** Bodies that are promises need none. */
  get scheduler(): Scheduler.Scheduler {
    return (this.#scheduler ??= {
      executionMode: "async",
      shouldYield: (fiber) => shared.shouldYield(fiber),
      makeDispatcher: () => {
        const dispatcher = shared.makeDispatcher()
        return {
          scheduleTask: (task, priority) => {
            this.#queued++
            dispatcher.scheduleTask(() => {
              try {
                task()
              } finally {
                this.#ran()
              }
            }, priority)
          },
          flush: () => dispatcher.flush(),
        }
      },
    })
  }

  #ran(): void {
    this.#queued--
    const waiting = this.#waiting
    if (this.#queued > 0 || waiting === null) return
    this.#waiting = null
    for (const then of waiting) this.whenAtRest(then)
  }
}
