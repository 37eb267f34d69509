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
  /** What it was told of the progress of tries before it. */
  readonly lastHeartbeat?: unknown
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

/** What a transactional step wrote, when its transaction was committed. */
export interface SinkRow {
  readonly workflowRunId: string
  readonly stepKey: string
  readonly nonce: string
}

/** The client that transactional steps are handed here: nothing shows before the commit. */
export interface SinkClient {
  readonly write: (row: SinkRow) => void
}

/** A token that a body holds in its hands. */
export interface IssuedToken {
  readonly workflowRunId: string
  readonly token: string
}

export class Ledger {
  /** Written by transactional steps, in order of the commits. */
  readonly sink: Array<SinkRow> = []
  /** What steps told of their progress, by run and step key. */
  readonly beats = new Map<string, Array<number>>()
  readonly tokens = new Map<string, IssuedToken>()
  readonly tokenListeners: Array<(issued: IssuedToken) => void> = []
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

  /** A number that is greater than all before. */
  beat(workflowRunId: string, stepKey: string): number {
    const key = `${workflowRunId} ${stepKey}`
    const told = this.beats.get(key) ?? []
    this.beats.set(key, told)
    told.push(++this.#nonces)
    return this.#nonces
  }

  /** Only the first time counts. */
  issueToken(issued: IssuedToken): void {
    if (this.tokens.has(issued.token)) return
    this.tokens.set(issued.token, issued)
    for (const listener of this.tokenListeners) listener(issued)
  }

  begin(one: Omit<Try, "nonce" | "end" | "endedAt">): Try {
    const begun: Try = { ...one, nonce: `n${++this.#nonces}`, end: null, endedAt: null }
    this.tries.push(begun)
    for (const listener of this.listeners) listener(begun)
    return begun
  }
}
