/**
 * What a start is told in the promise API.
 */
import * as Result from "effect/Result"
import type { Attributes } from "../Attributes.ts"
import { type DurationInput, toMillis } from "../DurationInput.ts"
import type { StartOptions } from "../Engine.ts"
import { invalid, orThrow } from "./FlowlyError.ts"
import { checkKnown, type Names, optionOf } from "./knownOptions.ts"
import type { CallersClient } from "./transaction.ts"

/**
 * How a run is started.
 */
export type TriggerOptions<I> = TriggerItem<I> & TriggerLimits

/**
 * How long a start waits, and in whose transaction it is.
 */
export interface TriggerLimits {
  /** How long to wait for the database's confirmation. Default 30 seconds. */
  readonly deadline?: DurationInput | undefined
  /**
   * A client of the engine's database on which a transaction is open: a `pg` client, Drizzle's `tx`,
   * Kysely's `trx`. The run is a part of that transaction: it exists if and only if it commits.
   */
  readonly client?: CallersClient | undefined
}

/**
 * A run to start.
 */
export type TriggerItem<I> = {
  /** Not before this instant. */
  readonly scheduledFor?: Date | undefined
  /** The run's deadline, from its start. */
  readonly timeoutMs?: number | undefined
  /** A second active run of this workflow with the key is refused. */
  readonly concurrencyKey?: string | undefined
  /** Attempts of the whole run; then it is dead-lettered. */
  readonly maxAttempts?: number | undefined
  /** Same workflow and key, same run. A different input is refused. */
  readonly idempotencyKey?: string | undefined
  /** How long the key is kept, from now. Then it is free once the run has ended. Default: for ever. */
  readonly idempotencyRetention?: DurationInput | undefined
  /** The run's id: a UUID of your choice, which makes the start idempotent like a key. */
  readonly workflowRunId?: string | undefined
  /**
   * Where a key is taken. Default: an idempotency key is joined ("join") if the inputs are the same, a
   * concurrency key refuses ("reject"). "terminate-existing" ends the run in the way, undoing nothing.
   */
  readonly onConflict?: "join" | "reject" | "terminate-existing" | undefined
  /** Lower is earlier. Default 0. */
  readonly priority?: number | undefined
  /** To search runs by: `engine.listRuns({ attributes: { customer: "c-1" } })`. */
  readonly attributes?: Attributes | undefined
} & (undefined extends I ? { readonly input?: I } : { readonly input: I })

const itemNames: Names<TriggerItem<any>> = {
  input: true,
  scheduledFor: true,
  timeoutMs: true,
  concurrencyKey: true,
  maxAttempts: true,
  idempotencyKey: true,
  idempotencyRetention: true,
  workflowRunId: true,
  onConflict: true,
  priority: true,
  attributes: true,
}

const limitNames: Names<TriggerLimits> = { deadline: true, client: true }

const triggerNames: Names<TriggerOptions<any>> = { ...itemNames, ...limitNames }

/**
 * Throws where an option has a name that none has.
 */
export const checkTrigger = (options: object | undefined): void =>
  checkKnown(options, triggerNames, optionOf("trigger"))

/**
 * Throws where an option of many starts has a name that none has.
 */
export const checkTriggerMany = (
  items: ReadonlyArray<object>,
  options: TriggerLimits | undefined,
): void => {
  checkKnown(options, limitNames, optionOf("triggerMany"))
  for (const [i, item] of items.entries()) {
    if (item === undefined) throw invalid(`item ${i}`, "must be an object: { input, … }")
    checkKnown(item, itemNames, (name) => `${name} of item ${i}`)
  }
}

/**
 * The options of the engine underneath.
 */
export const startOptionsOf = (
  given: Partial<TriggerItem<any>>,
  freshRunId: string,
  field = "",
): StartOptions => ({
  workflowRunId: given.workflowRunId,
  freshRunId,
  idempotencyKey: given.idempotencyKey,
  idempotencyRetentionMs:
    given.idempotencyRetention === undefined
      ? undefined
      : orThrow(toMillis(given.idempotencyRetention, `idempotencyRetention${field}`)),
  concurrencyKey: given.concurrencyKey,
  onConflict: given.onConflict,
  timeoutMs: given.timeoutMs,
  maxAttempts: given.maxAttempts,
  priority: given.priority,
  attributes: given.attributes,
  scheduledFor: given.scheduledFor,
})

/**
 * How each start of many ended, in the shape of `Promise.allSettled`.
 */
export const settledOf = <A, B>(
  outcomes: ReadonlyArray<Result.Result<A, unknown>>,
  handle: (value: A) => B,
  error: (failure: unknown) => unknown,
): Array<PromiseSettledResult<B>> =>
  outcomes.map((one) =>
    Result.isSuccess(one)
      ? { status: "fulfilled", value: handle(one.success) }
      : { status: "rejected", reason: error(one.failure) },
  )
