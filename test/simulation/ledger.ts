/**
 * The witness: what the outside world saw. Steps and undos write here beside the store, as they
 * begin and end; nothing is ever taken back. What bodies saw and decided stands here too.
 */
import type { Process } from "./machine.ts"

/** One try of a step's body, or of its undo. */
export interface Try {
  readonly what: "step" | "undo"
  readonly workflowRunId: string
  readonly stepKey: string
  /** As the engine told it. */
  readonly attempt: number
  /** Of the whole run. */
  readonly runAttempt: number
  readonly process: Process
  readonly beganAt: number
  readonly nonce: string
  end: "completed" | "failed" | null
  endedAt: number | null
}

/** One execution of one body. */
export interface BodyExecution {
  readonly workflowRunId: string
  readonly attempt: number
  readonly process: Process
  /** Outcomes, in the order in which the body heard of them. */
  readonly seen: Array<string>
  /** Decisions and values of the body. */
  readonly notes: Map<string, string>
  /** The body has returned or thrown: nothing that it asked for last begins any more. */
  ended: boolean
}

/** When a body first asked for a sleep of a run. */
export interface AskedSleep {
  readonly workflowRunId: string
  readonly stepKey: string
  readonly at: number
  readonly ms: number
  readonly process: Process
}

export class Ledger {
  readonly tries: Array<Try> = []
  readonly executions: Array<BodyExecution> = []
  readonly sleeps = new Map<string, AskedSleep>()
  readonly listeners: Array<(one: Try) => void> = []
  readonly sleepListeners: Array<(asked: AskedSleep) => void> = []
  #nonces = 0

  /** Only the first time counts. */
  askSleep(asked: AskedSleep): void {
    const key = `${asked.workflowRunId} ${asked.stepKey}`
    if (!this.sleeps.has(key)) this.sleeps.set(key, asked)
    for (const listener of this.sleepListeners) listener(asked)
  }

  begin(one: Omit<Try, "nonce" | "end" | "endedAt">): Try {
    const begun: Try = { ...one, nonce: `n${++this.#nonces}`, end: null, endedAt: null }
    this.tries.push(begun)
    for (const listener of this.listeners) listener(begun)
    return begun
  }
}
