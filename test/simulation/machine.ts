/**
 * A machine made of one event loop: its processes, its time and its chance belong to a seed.
 *
 * While a machine is switched on, the timers, clocks and random numbers of JavaScript itself are
 * its own (`setTimeout`, `setImmediate`, `Date.now`, `performance.now`, `process.hrtime`,
 * `Math.random`). So whatever runs, the engine, Effect's scheduler, the promise facade, a step's
 * body, is driven by one loop, and the same seed gives the same run.
 *
 * What runs belongs to a process: a timer or task to the process that was running when it was made.
 * A dead process never runs again: nothing of it is unwound, no finalizer gets a turn. A frozen one
 * runs nothing until it is thawed, and then everything that came due meanwhile, while time went on.
 * Microtasks and ticks of a task run before the next task, as in Node.
 */
import type { Dice } from "../support/dice.ts"

/** A process of the machine. */
export interface Process {
  readonly name: string
  state: "alive" | "frozen" | "dead"
  /** What its wall clock is wrong by. */
  skewMs: number
  /** When it was asked to stop. */
  stoppingAt: number | null
  readonly tasks: Array<Task>
}

interface Task {
  readonly run: () => void
  cancelled: boolean
}

interface Timer extends Task {
  readonly at: number
  readonly order: number
  readonly process: Process
}

const native = {
  setImmediate: globalThis.setImmediate,
  clearImmediate: globalThis.clearImmediate,
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setInterval: globalThis.setInterval,
  clearInterval: globalThis.clearInterval,
  dateNow: Date.now,
  performanceNow: performance.now,
  hrtime: process.hrtime.bigint,
  random: Math.random,
}

/** The time by the wall of the room that the machine stands in. */
export const realMs = (): number => native.performanceNow.call(performance)

/** Where the time of every machine begins. */
export const epoch: number = Date.UTC(2026, 0, 5, 12)

/** Tasks within one instant: more are a loop without an end. */
const mostTurns = 100_000

let running: Machine | null = null

/** The machine that is switched on, if any. */
export const machineRunning = (): Machine | null => running

const occupy = (machine: Machine): void => {
  if (running !== null) throw new Error("a machine is running already")
  running = machine
}

export class Machine {
  /** Milliseconds since the machine was switched on. */
  now = 0
  /** What threw out of a task: a bug of the engine, or of this suite. */
  readonly crashes: Array<unknown> = []
  /** Nature: the network, the store, the nemesis. It never freezes. */
  readonly nature: Process = {
    name: "nature",
    state: "alive",
    skewMs: 0,
    stoppingAt: null,
    tasks: [],
  }
  readonly processes: Array<Process> = [this.nature]
  readonly dice: Dice
  turns = 0
  /** When time last went on. */
  #moved = { now: 0, turns: 0 }
  /** Of what was made last, in microseconds: ids are in the order of their making. */
  lastId = 0
  #current: Process = this.nature
  readonly #timers: Array<Timer> = []
  #order = 0
  readonly #scheduling: Dice

  constructor(dice: Dice) {
    this.dice = dice.fork()
    this.#scheduling = dice.fork()
  }

  get current(): Process {
    return this.#current
  }

  spawn(name: string): Process {
    const process: Process = { name, state: "alive", skewMs: 0, stoppingAt: null, tasks: [] }
    this.processes.push(process)
    return process
  }

  kill(process: Process): void {
    process.state = "dead"
    process.tasks.length = 0
  }

  freeze(process: Process): void {
    if (process.state === "alive") process.state = "frozen"
  }

  thaw(process: Process): void {
    if (process.state === "frozen") process.state = "alive"
  }

  /** Runs `f` as a part of the process, at once. */
  within<A>(process: Process, f: () => A): A {
    const before = this.#current
    this.#current = process
    try {
      return f()
    } finally {
      this.#current = before
    }
  }

  /** Runs `f` in the process after so long; answers how to forget it. */
  after(process: Process, ms: number, f: () => void): () => void {
    const timer: Timer = {
      at: this.now + Math.max(0, ms),
      order: this.#order++,
      process,
      run: f,
      cancelled: false,
    }
    push(this.#timers, timer)
    return () => {
      timer.cancelled = true
    }
  }

  task(process: Process, f: () => void): Task {
    const task: Task = { run: f, cancelled: false }
    if (process.state !== "dead") process.tasks.push(task)
    return task
  }

  /** What the process still waits for. */
  pending(process: Process): number {
    const open = (task: Task) => !task.cancelled
    return (
      process.tasks.filter(open).length +
      this.#timers.filter((timer) => timer.process === process && open(timer)).length
    )
  }

  /** Runs until `done`, or until nothing is left to happen. */
  run(done: () => boolean): Promise<"done" | "idle"> {
    return new Promise((resolve) => {
      const turn = () => {
        if (done()) return resolve("done")
        if (this.#isBusyForEver()) return resolve("idle")
        if (!this.#next()) return resolve("idle")
        native.setImmediate(turn)
      }
      native.setImmediate(turn)
    })
  }

  #isBusyForEver(): boolean {
    const { now, turns } = this.#moved
    if (this.now > now) this.#moved = { now: this.now, turns: this.turns }
    else if (this.turns - turns > mostTurns) {
      if (this.turns - turns === mostTurns + 1) {
        this.crashes.push(new Error(`${this.#current.name} works on, and time stands still`))
      }
      return true
    }
    return false
  }

  #next(): boolean {
    this.turns++
    const ready = this.processes.filter((one) => one.state === "alive" && one.tasks.length > 0)
    if (ready.length > 0) {
      const process = ready.length === 1 ? (ready[0] as Process) : this.#scheduling.pick(ready)
      const task = process.tasks.shift() as Task
      if (!task.cancelled) this.#run(process, task.run)
      return true
    }
    for (;;) {
      const timer = pop(this.#timers)
      if (timer === undefined) return false
      if (timer.cancelled || timer.process.state === "dead") continue
      this.now = Math.max(this.now, timer.at)
      if (timer.process.state === "frozen") timer.process.tasks.push(timer)
      else this.#run(timer.process, timer.run)
      return true
    }
  }

  /** Also what microtasks and ticks do next is done by this process. */
  #run(process: Process, run: () => void): void {
    this.#current = process
    try {
      run()
    } catch (error) {
      this.crashes.push(error)
    }
  }

  // ---------------------------------------------------------------------------

  wallMs(): number {
    return Math.floor(epoch + this.now + this.#current.skewMs)
  }

  /** Takes over JavaScript's time and chance; answers how to give them back. */
  switchOn(): () => void {
    occupy(this)
    const chance = this.dice.fork()
    const timeout = (f: (...given: Array<unknown>) => void, ms = 0, ...given: Array<unknown>) => {
      const cancel = this.after(this.#current, Math.max(1, Number(ms) || 0), () => f(...given))
      return handleOf(cancel)
    }
    const interval = (f: () => void, ms = 0) => {
      let cancel = () => {}
      const process = this.#current
      const again = () => {
        cancel = this.after(process, Math.max(1, ms), () => {
          again()
          f()
        })
      }
      // those of weeks only keep an event loop alive
      if (ms < 2 ** 30) again()
      return handleOf(() => cancel())
    }
    const immediate = (f: (...given: Array<unknown>) => void, ...given: Array<unknown>) => {
      const task = this.task(this.#current, () => f(...given))
      return handleOf(() => {
        task.cancelled = true
      })
    }
    const clear = (handle: unknown) => (handle as Handle | undefined)?.cancel?.()
    const replaced = {
      setTimeout: timeout,
      clearTimeout: clear,
      setInterval: interval,
      clearInterval: clear,
      setImmediate: immediate,
      clearImmediate: clear,
    }
    Object.assign(globalThis, replaced)
    Date.now = () => this.wallMs()
    performance.now = () => this.now
    process.hrtime.bigint = () => BigInt(Math.round(this.now * 1e6)) + 1_000_000_000n
    Math.random = chance.roll
    return () => {
      running = null
      Object.assign(globalThis, {
        setTimeout: native.setTimeout,
        clearTimeout: native.clearTimeout,
        setInterval: native.setInterval,
        clearInterval: native.clearInterval,
        setImmediate: native.setImmediate,
        clearImmediate: native.clearImmediate,
      })
      Date.now = native.dateNow
      performance.now = native.performanceNow
      process.hrtime.bigint = native.hrtime
      Math.random = native.random
    }
  }
}

interface Handle {
  readonly cancel: () => void
  readonly ref: () => Handle
  readonly unref: () => Handle
  readonly hasRef: () => boolean
}

const handleOf = (cancel: () => void): Handle => {
  const handle: Handle = { cancel, ref: () => handle, unref: () => handle, hasRef: () => true }
  return handle
}

// -----------------------------------------------------------------------------
// A heap: the earliest first, of those the oldest
// -----------------------------------------------------------------------------

const before = (a: Timer, b: Timer) => a.at < b.at || (a.at === b.at && a.order < b.order)

const push = (heap: Array<Timer>, timer: Timer): void => {
  let at = heap.push(timer) - 1
  while (at > 0) {
    const parent = (at - 1) >> 1
    if (!before(timer, heap[parent] as Timer)) break
    heap[at] = heap[parent] as Timer
    at = parent
  }
  heap[at] = timer
}

const pop = (heap: Array<Timer>): Timer | undefined => {
  const first = heap[0]
  const last = heap.pop()
  if (first === undefined || last === undefined || heap.length === 0) return first
  let at = 0
  for (;;) {
    let child = 2 * at + 1
    if (child >= heap.length) break
    const right = heap[child + 1]
    if (right !== undefined && before(right, heap[child] as Timer)) child++
    if (!before(heap[child] as Timer, last)) break
    heap[at] = heap[child] as Timer
    at = child
  }
  heap[at] = last
  return first
}
