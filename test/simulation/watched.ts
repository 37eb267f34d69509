/**
 * What bodies tell those who watch them, whichever API they are written in and whoever watches: the
 * simulation's ledger, or the witness of real processes.
 */
import type { Ledger } from "./ledger.ts"
import type { Machine } from "./machine.ts"

/** A secret in every input: it must not show where people look. */
export const canary = "canary-7f3a"

/** What the store refuses, wherever it stands in a batch. */
export const poison = "a value that the store refuses"

/** What steps and undos are told, in either API. */
export interface Info {
  readonly workflowRunId: string
  readonly attempt: number
  readonly idempotencyKey: string
  readonly signal: AbortSignal
  readonly lastHeartbeat?: unknown
}

export const stepKeyOf = ({ workflowRunId, idempotencyKey }: Info): string =>
  idempotencyKey.slice(workflowRunId.length + 1).replace(/:compensate$/, "")

/** One try of a step or an undo. */
export interface Trial {
  readonly nonce: string
  readonly ended: (how: "completed" | "failed") => Promise<void> | void
}

/** Watches one execution of one body. */
export interface Watched {
  /** The body has heard of an outcome. */
  readonly saw: (key: string, how: "completed" | "failed") => void
  /** It has decided something, or was given a value, at this site. */
  readonly note: (site: string, what: unknown) => void
  readonly asksSleep: (stepKey: string, ms: number) => void
  readonly holdsToken: (token: string) => void
  /** A number greater than all before, to be told as progress. */
  readonly beat: (info: Info) => number
  /** Before a try does anything. */
  readonly begins: (what: "step" | "undo", info: Info) => Promise<Trial> | Trial
  /** The body has returned or thrown. */
  readonly ended: () => void
}

/** Begins to watch an execution. */
export type Watch = (run: { readonly workflowRunId: string; readonly attempt: number }) => Watched

/** What steps answer with: the try that it came from can be told. */
export interface Answer {
  readonly name: string
  readonly nonce: string
}

/** Tells which key the next use of a name has. */
export class Keys {
  readonly #uses = new Map<string, number>()

  next(name: string): string {
    const used = (this.#uses.get(name) ?? 0) + 1
    return used === 1 ? name : `${name}#${used}`
  }

  use(name: string): string {
    const key = this.next(name)
    this.#uses.set(name, (this.#uses.get(name) ?? 0) + 1)
    return key
  }
}

/** All that a body could tell of an error. */
export const looksOf = (error: unknown, known: abstract new (...given: never) => Error): string => {
  const { message, name, cause } = error as Error
  const { helper } = error as { readonly helper?: unknown }
  const looks = [error instanceof known, typeof helper, name, message, cause !== undefined]
  return looks.join().replaceAll(/[0-9a-f-]{36}/g, "(id)")
}

/** Bodies of the simulation are watched by its ledger. */
export const watchedBy =
  (ledger: Ledger, machine: Machine): Watch =>
  ({ workflowRunId, attempt: runAttempt }) => {
    const execution = {
      workflowRunId,
      attempt: runAttempt,
      process: machine.current,
      seen: [] as Array<string>,
      notes: new Map<string, string>(),
      ended: false,
    }
    ledger.executions.push(execution)
    return {
      saw: (key, how) => void execution.seen.push(`${key} ${how}`),
      note: (site, what) => void execution.notes.set(site, String(what)),
      asksSleep: (stepKey, ms) =>
        ledger.askSleep({
          workflowRunId,
          stepKey,
          at: machine.now,
          ms,
          process: machine.current,
        }),
      holdsToken: (token) => ledger.issueToken({ workflowRunId, token }),
      beat: (info) => ledger.beat(info.workflowRunId, stepKeyOf(info)),
      begins: (what, info) => {
        const one = ledger.begin({
          what,
          workflowRunId: info.workflowRunId,
          stepKey: stepKeyOf(info),
          attempt: info.attempt,
          runAttempt,
          process: machine.current,
          beganAt: machine.now,
          ...("lastHeartbeat" in info ? { lastHeartbeat: info.lastHeartbeat } : {}),
        })
        return {
          nonce: one.nonce,
          ended: (how) => {
            one.end = how
            one.endedAt = machine.now
          },
        }
      },
      ended: () => {
        execution.ended = true
      },
    }
  }
