/**
 * The engine of a process: which workflows it knows, how runs are started, asked for and steered.
 *
 * It is a client of the store; it executes nothing. A `Worker` in the same process registers itself
 * as `local`, and a run that it has a free slot for starts without waiting for a poll (eager start).
 * Values are in stored form here: `Workflow` puts types on top, the promise facade another kind.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { v7 as uuidv7, validate as isUuid } from "uuid"
import { type Attributes, check as checkAttributes } from "./Attributes.ts"
import * as Cron from "./Cron.ts"
import { maxMillis } from "./DurationInput.ts"
import { type Control, makeControl } from "./engine/control.ts"
import { type EventTail, makeEventTail } from "./engine/eventTail.ts"
import type { BodyEnd, CompensateOn, Execution, ExecutionHook } from "./engine/Execution.ts"
import { type Explanation, explain } from "./engine/explain.ts"
import { makeReading, type Reading } from "./engine/selection.ts"
import { makeOutcomes, type Outcomes, type RunOutcome } from "./engine/outcomes.ts"
import { readAgain } from "./engine/readAgain.ts"
import { makeRegistry, type Registry } from "./engine/registry.ts"
import { reviseCompensation } from "./engine/revising.ts"
import { join, mostReplacements, type OnConflict, started } from "./engine/identity.ts"
import { type Item, type Outcome, startMany } from "./engine/startMany.ts"
import { makeStarter } from "./engine/starter.ts"
import { eventOfToken, reservedPrefix, runOfToken } from "./engine/tokens.ts"
import type { StoredError } from "./ErrorPayload.ts"
import {
  ConcurrencyConflict,
  DuplicateWorkflow,
  IdempotencyConflict,
  InvalidInput,
  RunNotFound,
  RunStateConflict,
  TokenNotFound,
  type TransactionUnsupported,
  TriggerTimeout,
} from "./FlowlyError.ts"
import * as Journal from "./Journal.ts"
import type { Encoded } from "./Payload.ts"
import {
  type CallersTransaction,
  type ClaimedRun,
  type EventRow,
  type InsertAnswer,
  type NewRun,
  type RunRow,
  type ScheduleRow,
  type StepRecord,
  type StoreError,
  type WorkflowRef,
  WorkflowStore,
} from "./WorkflowStore.ts"

/**
 * A workflow as a worker executes it.
 *
 * @category models
 * @since 0.1.0
 */
export interface RegisteredWorkflow extends WorkflowRef {
  /** Default: all. */
  readonly compensateOn?: CompensateOn | undefined
  /** Starts the body; answers how to abandon it. */
  readonly startBody: (execution: Execution, onEnd: (end: BodyEnd) => void) => () => void
}

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
 * What happens to runs in this process.
 *
 * @category models
 * @since 0.1.0
 */
export type LifecycleEvent = {
  readonly workflowRunId: string
  readonly workflow: string
  readonly attempt: number
} & (
  | { readonly type: "workflow:started" }
  | { readonly type: "workflow:completed"; readonly result: Encoded | null }
  | {
      readonly type: "workflow:failed"
      readonly status: string
      readonly error: StoredError | null
      readonly willRetry: boolean
    }
  | { readonly type: "workflow:compensated"; readonly error: StoredError | null }
  | { readonly type: "step"; readonly event: ExecutionHook }
)

/**
 * What an operator may do with runs, and read of them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Operations extends Control, Reading {}

/**
 * @category services
 * @since 0.1.0
 */
export class Engine extends Context.Service<
  Engine,
  Operations & {
    readonly store: WorkflowStore["Service"]
    readonly journal: Journal.Journal["Service"]
    /** Makes a workflow known, in its version, for the life of the scope. */
    readonly register: (
      workflow: RegisteredWorkflow,
    ) => Effect.Effect<void, DuplicateWorkflow, Scope.Scope>
    readonly workflows: Registry
    /** Called when a workflow is registered. */
    readonly onRegistered: (listener: () => void) => () => void
    readonly setLocalWorker: (worker: LocalWorker | null) => void

    readonly start: (
      workflow: WorkflowRef,
      input: Encoded,
      options?: StartOptions,
    ) => Effect.Effect<Started, StartError>
    /**
     * Starts many runs, one statement for each thousand of them; outcomes align with the items. One
     * item that is not valid refuses them all, before anything is started.
     */
    readonly startMany: (
      workflow: WorkflowRef,
      items: ReadonlyArray<{ readonly input: Encoded; readonly options?: StartOptions }>,
      deadlineMs?: number,
    ) => Effect.Effect<
      ReadonlyArray<Result.Result<Started, IdempotencyConflict | ConcurrencyConflict>>,
      InvalidInput | TriggerTimeout | StoreError
    >
    /** Waits until the run has settled. */
    readonly outcome: (workflowRunId: string) => Effect.Effect<RunOutcome, RunNotFound>
    readonly outcomes: Outcomes
    readonly getRun: (workflowRunId: string) => Effect.Effect<RunRow | null, StoreError>
    readonly getSteps: (
      workflowRunId: string,
    ) => Effect.Effect<ReadonlyArray<StepRecord>, StoreError>
    /** Why the run does not move; `null`: there is no such run. */
    readonly explain: (workflowRunId: string) => Effect.Effect<Explanation | null, StoreError>
    readonly getEvents: (
      workflowRunId: string,
    ) => Effect.Effect<ReadonlyArray<EventRow>, StoreError>
    /** Undos that gave up are tried again: of the step, or all of the run. */
    readonly retryCompensation: (
      workflowRunId: string,
      stepKey?: string | undefined,
    ) => Effect.Effect<void, RunNotFound | RunStateConflict | StoreError>
    /** Undos that gave up count as done with; of a paused run one that its code does not offer. */
    readonly skipCompensation: (
      workflowRunId: string,
      stepKey?: string | undefined,
    ) => Effect.Effect<void, RunNotFound | RunStateConflict | StoreError>
    readonly sendEvent: (
      workflowRunId: string,
      name: string,
      payload: Encoded,
      options?: { readonly id?: string | undefined },
    ) => Effect.Effect<
      "sent" | "duplicate",
      InvalidInput | RunNotFound | RunStateConflict | StoreError
    >
    /**
     * Runs an effect, a `start` or `sendEvent`, inside the transaction that the application has opened
     * on this client: a `pg` client, a Drizzle transaction on `pg`, a Kysely transaction.
     */
    readonly within: (
      client: unknown,
    ) => <A, E, R>(
      effect: Effect.Effect<A, E, R>,
    ) => Effect.Effect<A, E | InvalidInput | TransactionUnsupported, R>
    /** Resolves the wait that a token stands for; the first one wins. */
    readonly resolveToken: (
      token: string,
      payload: Encoded,
    ) => Effect.Effect<
      "resolved" | "already-resolved",
      TokenNotFound | RunStateConflict | StoreError
    >
    readonly deadLetters: (options: {
      readonly workflow: string | null
      readonly before: string | null
      readonly limit: number
    }) => Effect.Effect<ReadonlyArray<RunRow>, StoreError>
    readonly schedule: (options: {
      readonly key: string
      readonly workflow: string
      readonly version: string | null
      readonly cron: string
      readonly timeZone?: string | undefined
      readonly input: Encoded
    }) => Effect.Effect<ScheduleRow, InvalidInput | StoreError>
    readonly unschedule: (key: string) => Effect.Effect<boolean, StoreError>
    /** Events that workflows emit, from every process. */
    readonly tail: EventTail
    readonly onLifecycle: (listener: (event: LifecycleEvent) => void) => () => void
    readonly lifecycle: (event: LifecycleEvent) => void
  }
>()("flowly/Engine") {}

/**
 * @category models
 * @since 0.1.0
 */
export interface EngineOptions {
  /** How often waiting callers and event listeners look, when no hint comes. Default 1 s. */
  readonly pollIntervalMs?: number | undefined
}

const maxNameLength = 255

/**
 * The most attempts that a run or a step may have.
 *
 * @category limits
 * @since 0.1.0
 */
export const mostAttempts = 1_000_000

/**
 * A name or key is text of 1 to 255 characters.
 *
 * @category guards
 * @since 0.1.0
 */
export const checkName = (value: unknown, field: string): Result.Result<string, InvalidInput> => {
  const fail = (reason: string) => Result.fail(new InvalidInput({ field, reason }))
  if (typeof value !== "string") return fail(`must be text, not ${typeof value}`)
  if (value.length === 0) return fail("must not be empty")
  if (value.length > maxNameLength) {
    return fail(`is ${value.length} characters, more than the limit of ${maxNameLength}`)
  }
  if (value.includes("\0") || !value.isWellFormed()) {
    return fail("must not contain NUL or lone surrogates, which Postgres cannot store")
  }
  return Result.succeed(value)
}

/**
 * The name of an event that users send and wait for, or the id of a sending.
 *
 * @category guards
 * @since 0.1.0
 */
export const checkEventName = (
  value: unknown,
  field = "event name",
): Result.Result<string, InvalidInput> =>
  Result.flatMap(checkName(value, field), (name) =>
    name.startsWith(reservedPrefix)
      ? Result.fail(new InvalidInput({ field, reason: `must not begin with "${reservedPrefix}"` }))
      : Result.succeed(name),
  )

const invalid = (field: string, reason: string) => Result.fail(new InvalidInput({ field, reason }))

const conflict = (workflowRunId: string, operation: string, reason: string) =>
  Effect.fail(new RunStateConflict({ workflowRunId, operation, reason }))

const unknown = (workflowRunId: string) => Effect.fail(new RunNotFound({ workflowRunId }))

const ifUuid = <A, E>(id: string, effect: Effect.Effect<A, E>): Effect.Effect<A, E | RunNotFound> =>
  isUuid(id) ? effect : unknown(id)

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
    }
  })

const isNew = (one: Outcome): boolean => Result.isSuccess(one) && !one.success.existing

const conflictPolicies: ReadonlySet<OnConflict> = new Set(["join", "reject", "terminate-existing"])

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  options: EngineOptions = {},
): Effect.fn.Return<Engine["Service"], never, WorkflowStore | Journal.Journal | Scope.Scope> {
  const store = yield* WorkflowStore
  const journal = yield* Journal.Journal
  const pollIntervalMs = options.pollIntervalMs ?? 1000
  const starter = yield* makeStarter(store)
  const outcomes = yield* makeOutcomes(store, journal.hints, pollIntervalMs)
  const tail = yield* makeEventTail(store, journal.hints, pollIntervalMs)
  const workflows = makeRegistry()
  const registered = new Set<() => void>()
  const lifecycleListeners = new Set<(event: LifecycleEvent) => void>()
  let local: LocalWorker | null = null
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  /** A listener that throws changes nothing for the run it was told of. */
  const report = (error: unknown) =>
    runFork(Effect.logError("flowly: a lifecycle listener failed", error))
  const tellWork = () => journal.hints.send("work")

  const control = makeControl(store, journal.hints.send)

  const insert = (run: NewRun, workflow: WorkflowRef, deadlineMs: number, chosen: boolean) => {
    // a chosen id may be that of a run which this very process executes: it is not claimed with it
    const eager = run.scheduledFor === null && run.concurrencyKey === null && !chosen
    const worker = eager ? local : null
    return Effect.acquireUseRelease(
      Effect.sync(() => worker?.reserve(workflow) ?? null),
      (slot) =>
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
        ),
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

  const start: Engine["Service"]["start"] = Effect.fn("Engine.start")(function* (
    workflow,
    input,
    startOptions = {},
  ) {
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
  })

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

  const startEach: Engine["Service"]["startMany"] = Effect.fn("Engine.startMany")(function* (
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
  })

  const send = Effect.fnUntraced(function* (event: {
    readonly workflowRunId: string
    readonly name: string
    readonly payload: Encoded
    readonly id: string | null
  }) {
    const { workflowRunId } = event
    const [answer] = yield* ifUuid(workflowRunId, store.sendEvents([event]))
    if (answer === undefined || answer === "unknown") return yield* unknown(workflowRunId)
    if (answer === "terminal") {
      return yield* conflict(workflowRunId, "take an event", "it has ended")
    }
    const transaction = yield* store.callersTransaction
    if (transaction !== null) {
      // it has left a wake, for others to apply when it has committed
      yield* transaction.afterCommit(["wakes"], () => journal.hints.send("wakes"))
    } else {
      journal.hints.send("work")
      journal.hints.send("signal")
    }
    return answer
  })

  const revise = (id: string, stepKey: string | undefined, verb: "retry" | "skip") =>
    Effect.andThen(
      ifUuid(id, reviseCompensation(store, id, stepKey ?? null, verb)),
      Effect.sync(tellWork),
    )

  return Engine.of({
    store,
    journal,
    workflows,
    outcomes,
    tail,
    start,
    startMany: startEach,
    register: (workflow) =>
      Effect.acquireRelease(
        Effect.suspend(() => {
          if (!workflows.add(workflow)) {
            const { name, version } = workflow
            return Effect.fail(new DuplicateWorkflow({ workflow: name, version }))
          }
          for (const listener of registered) listener()
          return Effect.void
        }),
        () => Effect.sync(() => workflows.remove(workflow)),
      ),
    onRegistered: (listener) => {
      registered.add(listener)
      return () => registered.delete(listener)
    },
    setLocalWorker: (worker) => {
      local = worker
    },
    within: (client) => (effect) =>
      Effect.flatMap(store.joinTransaction(client), (transaction) => transaction.run(effect)),
    outcome: (id) => ifUuid(id, outcomes.wait(id)),
    getRun: (id) =>
      isUuid(id)
        ? Effect.map(readAgain(store, store.getRuns([id])), ([row]) => row ?? null)
        : Effect.succeed(null),
    getSteps: (id) => (isUuid(id) ? readAgain(store, store.getSteps(id)) : Effect.succeed([])),
    getEvents: (id) => (isUuid(id) ? readAgain(store, store.getEvents(id)) : Effect.succeed([])),
    ...makeReading(store),
    explain: (id) =>
      Effect.map(isUuid(id) ? store.getSituation(id) : Effect.succeed(null), (situation) =>
        situation === null ? null : explain(situation, local?.executing?.(id) ?? null),
      ),
    ...control,
    retryCompensation: (id, stepKey) => revise(id, stepKey, "retry"),
    skipCompensation: (id, stepKey) => revise(id, stepKey, "skip"),
    sendEvent: Effect.fn("Engine.sendEvent")(function* (id, name, payload, sendOptions) {
      yield* Effect.fromResult(checkEventName(name))
      const senderId = sendOptions?.id ?? null
      if (senderId !== null) yield* Effect.fromResult(checkEventName(senderId, "id of the event"))
      return yield* send({ workflowRunId: id, name, payload, id: senderId })
    }),
    resolveToken: Effect.fn("Engine.resolveToken")(function* (token, payload) {
      const workflowRunId = runOfToken(token)
      if (workflowRunId === null) return yield* new TokenNotFound({})
      const stepKey = yield* store.findToken({ workflowRunId, token })
      if (stepKey === null) return yield* new TokenNotFound({})
      const event = eventOfToken(stepKey)
      const answer = yield* send({ workflowRunId, name: event, payload, id: event }).pipe(
        // a run whose record was there, and is deleted by now
        Effect.catchTag("RunNotFound", () => Effect.fail(new TokenNotFound({}))),
      )
      return answer === "sent" ? "resolved" : "already-resolved"
    }),
    deadLetters: (page) =>
      readAgain(store, store.listRuns({ ...page, statuses: ["dead_letter"], parentRunId: null })),
    schedule: Effect.fn("Engine.schedule")(function* (schedule) {
      yield* Effect.fromResult(checkName(schedule.key, "schedule key"))
      const rule = yield* Effect.fromResult(Cron.parse(schedule.cron, schedule.timeZone))
      const now = yield* store.now
      return yield* store.upsertSchedule({
        key: schedule.key,
        workflow: schedule.workflow,
        version: schedule.version,
        cron: rule.expression,
        timeZone: rule.timeZone,
        input: schedule.input,
        enabled: true,
        nextTick: Cron.next(rule, new Date(now)).getTime(),
      })
    }),
    unschedule: (key) => store.removeSchedule(key),
    onLifecycle: (listener) => {
      lifecycleListeners.add(listener)
      return () => lifecycleListeners.delete(listener)
    },
    lifecycle: (event) => {
      for (const listener of lifecycleListeners) {
        try {
          listener(event)
        } catch (error) {
          report(error)
        }
      }
    },
  })
})

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

/**
 * The engine over a store, with its journal.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: EngineOptions): Layer.Layer<Engine, never, WorkflowStore> =>
  Layer.effect(Engine, make(options)).pipe(Layer.provide(Journal.layer))
