/**
 * Starting runs: what is checked, who may claim with the insert, and what a taken key means.
 *
 * A run that the local worker has a free slot for is inserted as already claimed (eager start); not
 * inside a caller's transaction, and not where the id was chosen: it may be that of a run which this
 * very process executes.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import { v7 as uuidv7, validate as isUuid } from "uuid"
import { type Attributes, check as checkAttributes } from "../Attributes.ts"
import { maxMillis } from "../DurationInput.ts"
import {
  type ConcurrencyConflict,
  type IdempotencyConflict,
  InvalidInput,
  type TriggerTimeout,
} from "../FlowlyError.ts"
import { checkName } from "../Name.ts"
import type { Encoded } from "../Payload.ts"
import { mostAttempts } from "../RetryPolicy.ts"
import type {
  CallersTransaction,
  ClaimedRun,
  InsertAnswer,
  NewRun,
  StoreError,
  WorkflowRef,
  WorkflowStore,
} from "../WorkflowStore.ts"
import type { Control } from "./control.ts"
import { join, mostReplacements, type OnConflict, started } from "./identity.ts"
import { type Item, type Outcome, startMany } from "./startMany.ts"
import type { Starter } from "./starter.ts"

/**
 * How to start a run. Times are epoch milliseconds, durations milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface StartOptions {
  /**
   * A UUID of the caller's choice, which makes the start idempotent like a key. Made by us (version 7)
   * when not given.
   */
  readonly workflowRunId?: string | undefined
  /** The id where none is chosen: a UUID made for this very start, that nobody else has. */
  readonly freshRunId?: string | undefined
  readonly idempotencyKey?: string | undefined
  /** How long the key is kept, from the start. Then it is free once the run has ended. Default: for ever. */
  readonly idempotencyRetentionMs?: number | undefined
  /**
   * Where a key is taken. Default: an idempotency key is joined (`join`) if the inputs are the same, a
   * concurrency key refuses (`reject`). `terminate-existing` ends the run in the way, undoing nothing.
   */
  readonly onConflict?: OnConflict | undefined
  readonly concurrencyKey?: string | undefined
  readonly scheduledFor?: Date | undefined
  readonly timeoutMs?: number | undefined
  readonly maxAttempts?: number | undefined
  readonly priority?: number | undefined
  /** To search runs by; the body may set more. */
  readonly attributes?: Attributes | undefined
  /** How long to wait for the store's answer. Default 30 s. */
  readonly deadlineMs?: number | undefined
}

/**
 * A started run.
 *
 * @category models
 * @since 0.1.0
 */
export interface Started {
  readonly workflowRunId: string
  /** The idempotency key had this run already. */
  readonly existing: boolean
}

/**
 * What may go wrong when a run is started.
 *
 * @category errors
 * @since 0.1.0
 */
export type StartError =
  | InvalidInput
  | IdempotencyConflict
  | ConcurrencyConflict
  | TriggerTimeout
  | StoreError

/**
 * The worker of this process, as the engine sees it.
 *
 * @category models
 * @since 0.1.0
 */
export interface LocalWorker {
  /** The steps that it executes of a run; `null` where it does not hold it. */
  readonly executing?: (workflowRunId: string) => ReadonlyArray<string> | null
  /** Reserves a slot for an eager start; `null` where it had better not. */
  readonly reserve: (workflow: WorkflowRef) => Slot | null
}

/**
 * A reserved slot of the local worker.
 *
 * @category models
 * @since 0.1.0
 */
export interface Slot {
  /** Whom the run is to be inserted as claimed for. */
  readonly workerId: string
  /** Executes the run that was inserted as claimed, in this slot. */
  readonly execute: (run: ClaimedRun) => void
  /** The slot was not used, or it is unknown whether the run was claimed. No effect after `execute`. */
  readonly release: (outcome: "unused" | "unknown") => void
}

/**
 * What a process may start.
 *
 * @category models
 * @since 0.1.0
 */
export interface Starts {
  readonly start: (
    workflow: WorkflowRef,
    input: Encoded,
    options?: StartOptions,
  ) => Effect.Effect<Started, StartError>
  /**
   * Starts many runs, one statement for each thousand of them, two at once where none has a key;
   * outcomes align with the items. One item that is not valid refuses them all, before anything is
   * started.
   */
  readonly startMany: (
    workflow: WorkflowRef,
    items: ReadonlyArray<{ readonly input: Encoded; readonly options?: StartOptions }>,
    deadlineMs?: number,
  ) => Effect.Effect<
    ReadonlyArray<Result.Result<Started, IdempotencyConflict | ConcurrencyConflict>>,
    InvalidInput | TriggerTimeout | StoreError
  >
}

/**
 * Starts over a store. `tellWork` says that a run became due; `local` is asked at each start.
 */
export const makeStarts = (options: {
  readonly store: WorkflowStore["Service"]
  readonly starter: Starter
  readonly control: Control
  readonly tellWork: () => void
  readonly local: () => LocalWorker | null
}): Starts => {
  const { store, starter, control, tellWork, local } = options

  const insert = (run: NewRun, workflow: WorkflowRef, deadlineMs: number, chosen: boolean) => {
    // a chosen id may be that of a run which this very process executes: it is not claimed with it
    const eager = run.scheduledFor === null && run.concurrencyKey === null && !chosen
    const worker = eager ? local() : null
    const insertFor = (slot: Slot | null) =>
      Effect.map(
        starter({ run, claimFor: slot?.workerId ?? null, deadlineMs, chosen }),
        (inserted) => {
          if (inserted._tag === "Inserted") {
            if (slot !== null && inserted.token !== null) {
              slot.execute(claimedFrom(run, inserted.token, inserted))
            } else tellWork()
          }
          return inserted
        },
      )
    if (worker === null) return insertFor(null)
    return Effect.acquireUseRelease(
      Effect.sync(() => worker.reserve(workflow)),
      insertFor,
      (slot, exit) => Effect.sync(() => slot?.release(Exit.isSuccess(exit) ? "unused" : "unknown")),
    )
  }

  /** Ends the run in the way, and frees its key. */
  const makeRoom = Effect.fnUntraced(function* (
    answer: Exclude<InsertAnswer, { _tag: "Inserted" }>,
  ) {
    const id = answer._tag === "Existing" ? answer.run.workflowRunId : answer.workflowRunId
    const reason = "replaced by a run with the same key (onConflict: terminate-existing)"
    yield* control.terminate(id, { reason }).pipe(
      // it has ended, or is gone, by itself
      Effect.catchTag("RunStateConflict", () => Effect.void),
      Effect.catchTag("RunNotFound", () => Effect.void),
    )
    if (answer._tag === "Existing") yield* store.releaseIdempotencyKey(id)
  })

  const start: Starts["start"] = Effect.fnUntraced(function* (workflow, input, startOptions = {}) {
    const run = yield* Effect.fromResult(checkStart(workflow, input, startOptions))
    const { deadlineMs = 30_000, onConflict } = startOptions
    const chosen = startOptions.workflowRunId !== undefined
    const transaction = yield* store.callersTransaction
    if (chosen || transaction !== null) {
      if (onConflict === "terminate-existing" && transaction !== null) {
        const reason = "terminate-existing cannot be a part of the caller's transaction"
        return yield* new InvalidInput({ field: "onConflict", reason })
      }
      if (onConflict !== "terminate-existing") {
        const [outcome] = yield* startAll([{ run, onConflict, chosen }], deadlineMs, transaction)
        return yield* Effect.fromResult(outcome as Outcome)
      }
    }
    let answer = yield* insert(run, workflow, deadlineMs, chosen)
    const rounds = onConflict === "terminate-existing" ? mostReplacements : 0
    for (let i = 0; i < rounds; i++) {
      if (answer._tag === "Inserted") break
      yield* makeRoom(answer)
      answer = yield* insert(run, workflow, deadlineMs, chosen)
    }
    const [found] = chosen ? yield* store.getRuns([run.workflowRunId]) : []
    if (found !== undefined && answer._tag === "Inserted") yield* join(run, found, "join", null)
    return yield* started(run, answer, onConflict)
  }, asSpan("Engine.start"))

  const startAll = Effect.fnUntraced(function* (
    items: ReadonlyArray<Item>,
    deadlineMs: number,
    transaction: CallersTransaction | null,
  ) {
    const ended = yield* startMany(store, items, { deadlineMs, again: transaction === null })
    if (ended.some(isNew)) {
      // nobody sees them before the commit: so they are never claimed with the insert
      if (transaction !== null) yield* transaction.afterCommit(["work"], tellWork)
      else tellWork()
    }
    return ended
  })

  const startEach: Starts["startMany"] = Effect.fnUntraced(function* (
    workflow,
    given,
    deadlineMs = 30_000,
  ) {
    const items: Array<Item> = []
    for (const [i, item] of given.entries()) {
      const own = item.options ?? {}
      const { onConflict, workflowRunId } = own
      if (onConflict === "terminate-existing") {
        const reason = "terminate-existing is for one start at a time"
        return yield* new InvalidInput({ field: `onConflict of item ${i}`, reason })
      }
      const run = yield* Effect.mapError(
        Effect.fromResult(checkStart(workflow, item.input, own)),
        ({ field, reason }) => new InvalidInput({ field: `${field} of item ${i}`, reason }),
      )
      items.push({ run, onConflict, chosen: workflowRunId !== undefined })
    }
    return yield* startAll(items, deadlineMs, yield* store.callersTransaction)
  }, asSpan("Engine.startMany"))

  return { start, startMany: startEach }
}

/** What a claim would have answered for a run that was inserted as claimed. */
const claimedFrom = (
  run: NewRun,
  token: number,
  inserted: { readonly createdAt: number; readonly deadlineAt: number | null },
): ClaimedRun => ({
  workflowRunId: run.workflowRunId,
  workflow: run.workflow,
  version: run.version,
  token,
  seed: run.workflowRunId,
  compensating: false,
  attempt: 1,
  maxAttempts: run.maxAttempts,
  input: run.input,
  error: null,
  parent: null,
  createdAt: inserted.createdAt,
  startedAt: inserted.createdAt,
  deadlineAt: inserted.deadlineAt,
  crashCount: 0,
  hasHistory: false,
  wakeCounter: 0,
  cancelRequest: null,
  pauseRequest: null,
  deadlinePassed: false,
})

/** Who called is the engine itself: to look at the stack for that was 6 % of a start's time. */
const asSpan =
  (name: string) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.withSpan(effect, name, { captureStackTrace: false })

const invalid = (field: string, reason: string) => Result.fail(new InvalidInput({ field, reason }))

const checkStart = (
  workflow: WorkflowRef,
  input: Encoded,
  options: StartOptions,
): Result.Result<NewRun, InvalidInput> =>
  Result.gen(function* () {
    yield* checkName(workflow.name, "workflow name")
    const { idempotencyKey, concurrencyKey, scheduledFor, timeoutMs, maxAttempts } = options
    if (idempotencyKey !== undefined) yield* checkName(idempotencyKey, "idempotencyKey")
    if (concurrencyKey !== undefined) yield* checkName(concurrencyKey, "concurrencyKey")
    const scheduled = scheduledFor === undefined ? null : new Date(scheduledFor).getTime()
    if (scheduled !== null && !(scheduled <= Date.UTC(9999, 0))) {
      return yield* invalid("scheduledFor", "is not a valid date before the year 9999")
    }
    if (timeoutMs !== undefined && !(timeoutMs > 0 && timeoutMs <= maxMillis)) {
      const reason = "must be a positive number of milliseconds, of at most 100 years"
      return yield* invalid("timeoutMs", reason)
    }
    if (
      maxAttempts !== undefined &&
      !(Number.isInteger(maxAttempts) && maxAttempts >= 1 && maxAttempts <= mostAttempts)
    ) {
      return yield* invalid("maxAttempts", `must be a whole number from 1 to ${mostAttempts}`)
    }
    const priority = options.priority ?? 0
    if (!Number.isInteger(priority) || Math.abs(priority) > 1_000_000) {
      return yield* invalid("priority", "must be a whole number between -1000000 and 1000000")
    }
    const attributes =
      options.attributes === undefined
        ? null
        : yield* checkAttributes(options.attributes, "attributes")
    const id: unknown = options.workflowRunId ?? options.freshRunId ?? uuidv7()
    if (typeof id !== "string" || !isUuid(id))
      return yield* invalid("workflowRunId", "must be a UUID")
    // as Postgres prints it
    const workflowRunId = id.toLowerCase()
    const { idempotencyRetentionMs: retention, onConflict } = options
    if (retention !== undefined && !(retention >= 0 && retention <= maxMillis)) {
      return yield* invalid("idempotencyRetention", "must be between zero and a hundred years")
    }
    if (retention !== undefined && idempotencyKey === undefined) {
      return yield* invalid("idempotencyRetention", "needs an idempotencyKey to keep")
    }
    if (onConflict !== undefined && !conflictPolicies.has(onConflict)) {
      const reason = `must be ${[...conflictPolicies].map((one) => `"${one}"`).join(" or ")}`
      return yield* invalid("onConflict", reason)
    }
    return {
      workflowRunId,
      workflow: workflow.name,
      version: workflow.version,
      input,
      priority,
      // what is long past is past: Postgres knows fewer years than Date
      scheduledFor: scheduled === null ? null : Math.max(scheduled, 0),
      timeoutMs: timeoutMs === undefined ? null : Math.ceil(timeoutMs),
      maxAttempts: maxAttempts ?? null,
      idempotencyKey: idempotencyKey ?? null,
      idempotencyRetentionMs: retention === undefined ? null : Math.ceil(retention),
      concurrencyKey: concurrencyKey ?? null,
      parent: null,
      attributes,
      fresh: options.workflowRunId === undefined,
    }
  })

const isNew = (one: Outcome): boolean => Result.isSuccess(one) && !one.success.existing

const conflictPolicies: ReadonlySet<OnConflict> = new Set(["join", "reject", "terminate-existing"])
