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
}

/** When a body first asked for a sleep of a run. */
export interface AskedSleep {
  readonly workflowRunId: string
  readonly stepKey: string
  readonly at: number
  readonly ms: number
}

export class Ledger {
  readonly tries: Array<Try> = []
  readonly executions: Array<BodyExecution> = []
  readonly sleeps = new Map<string, AskedSleep>()
  readonly listeners: Array<(one: Try) => void> = []
  #nonces = 0

  begin(one: Omit<Try, "nonce" | "end">): Try {
    const begun: Try = { ...one, nonce: `n${++this.#nonces}`, end: null }
    this.tries.push(begun)
    for (const listener of this.listeners) listener(begun)
    return begun
  }
}
