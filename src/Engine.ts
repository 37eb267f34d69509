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
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { validate as isUuid } from "uuid"
import * as Cron from "./Cron.ts"
import { type Control, makeControl } from "./engine/control.ts"
import { type EventTail, makeEventTail } from "./engine/eventTail.ts"
import type { BodyEnd, CompensateOn, Execution, ExecutionHook } from "./engine/Execution.ts"
import { type Explanation, explain } from "./engine/explain.ts"
import { checkDistance, checkLimits, type EngineLimits } from "./engine/limits.ts"
import { makeReading, type Reading } from "./engine/selection.ts"
import { type Hearing, makeHearing } from "./engine/hearing.ts"
import { makeOutcomes, type Outcomes, type RunOutcome } from "./engine/outcomes.ts"
import { readAgain } from "./engine/readAgain.ts"
import { makeRegistry, type Registry } from "./engine/registry.ts"
import { reviseCompensation } from "./engine/revising.ts"
import { runId } from "./engine/runId.ts"
import { makeStarter } from "./engine/starter.ts"
import { type LocalWorker, makeStarts, type Starts } from "./engine/starts.ts"
import { eventOfToken, runOfToken } from "./engine/tokens.ts"
import { encodeError, type StoredError, summarize } from "./ErrorPayload.ts"
import {
  DuplicateWorkflow,
  EventBacklogFull,
  type InvalidInput,
  RunNotFound,
  RunStateConflict,
  TokenNotFound,
  type TransactionUnsupported,
} from "./FlowlyError.ts"
import * as Journal from "./Journal.ts"
import { checkEventName, checkName } from "./Name.ts"
import type { Encoded } from "./Payload.ts"
import { type Redact, redactError } from "./Redaction.ts"
import {
  type EventRow,
  type RunRow,
  type ScheduleRow,
  type StepRecord,
  type StoreError,
  type WorkflowRef,
  WorkflowStore,
} from "./WorkflowStore.ts"

export type { EngineLimits } from "./engine/limits.ts"
export type { LocalWorker, Slot, Started, StartError, StartOptions } from "./engine/starts.ts"

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
 * What an application starts, and what an operator may do with runs and read of them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Operations extends Starts, Control, Reading {}

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

    /** Waits until the run has settled. */
    readonly outcome: (workflowRunId: string) => Effect.Effect<RunOutcome, RunNotFound>
    readonly outcomes: Outcomes
    /** For the worker, which hears as long as it runs. */
    readonly hearing: Pick<Hearing, "subscribe">
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
      InvalidInput | RunNotFound | RunStateConflict | EventBacklogFull | StoreError
    >
    /** What the application keeps out of the errors of its code. */
    readonly redact: (error: StoredError) => StoredError
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
    }) => Effect.Effect<ReadonlyArray<RunRow>, InvalidInput | StoreError>
    readonly schedule: (options: {
      readonly key: string
      readonly workflow: string
      readonly version: string | null
      readonly cron: string
      readonly timeZone?: string | undefined
      readonly input: Encoded
    }) => Effect.Effect<ScheduleRow, InvalidInput | StoreError>
    readonly unschedule: (key: string) => Effect.Effect<boolean, InvalidInput | StoreError>
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
  /**
   * Whether a process that waits for runs, or for emitted events, and has no worker LISTENs meanwhile:
   * on one more connection, where the pool has at least four. Default true.
   */
  readonly useNotify?: boolean | undefined
  /**
   * Takes out of errors what must not be kept: before they are stored, told to hooks or logged, and
   * before the body catches them. Default: nothing.
   */
  readonly redactErrors?: Redact | undefined
  readonly limits?: { readonly [K in keyof EngineLimits]?: EngineLimits[K] | undefined } | undefined
}

const conflict = (workflowRunId: string, operation: string, reason: string) =>
  Effect.fail(new RunStateConflict({ workflowRunId, operation, reason }))

const unknown = (workflowRunId: string) => Effect.fail(new RunNotFound({ workflowRunId }))

const ifUuid = <A, E>(id: string, effect: Effect.Effect<A, E>): Effect.Effect<A, E | RunNotFound> =>
  isUuid(id) ? effect : unknown(id)

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  options: EngineOptions = {},
): Effect.fn.Return<
  Engine["Service"],
  InvalidInput,
  WorkflowStore | Journal.Journal | Scope.Scope
> {
  const store = yield* WorkflowStore
  const journal = yield* Journal.Journal
  const pollIntervalMs = options.pollIntervalMs ?? 1000
  const limits = yield* Effect.fromResult(checkLimits(options.limits))
  const { redactErrors } = options
  const redact = (error: StoredError) =>
    redactErrors === undefined ? error : redactError(redactErrors, error)
  /** An error that is logged. */
  const shown = (error: unknown) =>
    redactErrors === undefined ? error : summarize(redact(encodeError(error)))
  const starter = yield* makeStarter(store)
  let local: LocalWorker | null = null
  /** The steps that this process executes of a run; `null` where it does not hold it. */
  const executing = (id: string) => local?.executing?.(id) ?? null
  const isHere = (id: string) => executing(id) !== null
  const hearing = yield* makeHearing(store, journal.hints, options.useNotify ?? true)
  const outcomes = yield* makeOutcomes(store, journal.hints, hearing, pollIntervalMs, isHere)
  const tail = yield* makeEventTail(store, journal.hints, hearing, pollIntervalMs, shown)
  const workflows = makeRegistry()
  const registered = new Set<() => void>()
  let lifecycleListeners: ReadonlyArray<(event: LifecycleEvent) => void> = []
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  /** A listener that throws changes nothing for the run it was told of. */
  const report = (error: unknown) =>
    runFork(Effect.logError("flowly: a lifecycle listener failed", shown(error)))
  const tellWork = () => journal.hints.send("work")

  const control = makeControl(store, journal.hints.send)
  const starts = makeStarts({ store, starter, control, tellWork, local: () => local })

  const send = Effect.fnUntraced(function* (
    event: {
      readonly workflowRunId: string
      readonly name: string
      readonly payload: Encoded
      readonly id: string | null
    },
    bound?: { readonly maxPending: number },
  ) {
    const workflowRunId = runId(event.workflowRunId)
    const [answer] = yield* ifUuid(
      workflowRunId,
      store.sendEvents([{ ...event, workflowRunId }], bound),
    )
    if (answer === undefined || answer === "unknown") return yield* unknown(workflowRunId)
    if (answer === "terminal") {
      return yield* conflict(workflowRunId, "take an event", "it has ended")
    }
    if (answer === "full") {
      const { maxPendingEvents } = limits
      return yield* new EventBacklogFull({ workflowRunId, maxPendingEvents })
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
      ifUuid(id, reviseCompensation(store, runId(id), stepKey ?? null, verb)),
      Effect.sync(tellWork),
    )

  return Engine.of({
    store,
    journal,
    workflows,
    outcomes,
    hearing,
    tail,
    ...starts,
    redact,
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
    outcome: (id) => ifUuid(id, outcomes.wait(runId(id))),
    getRun: (id) =>
      isUuid(id)
        ? Effect.map(readAgain(store, store.getRuns([runId(id)])), ([row]) => row ?? null)
        : Effect.succeed(null),
    getSteps: (id) =>
      isUuid(id) ? readAgain(store, store.getSteps(runId(id))) : Effect.succeed([]),
    getEvents: (id) =>
      isUuid(id) ? readAgain(store, store.getEvents(runId(id))) : Effect.succeed([]),
    ...makeReading(store),
    explain: (id) =>
      Effect.map(isUuid(id) ? store.getSituation(runId(id)) : Effect.succeed(null), (situation) =>
        situation === null ? null : explain(situation, executing(runId(id))),
      ),
    ...control,
    retryCompensation: (id, stepKey) => revise(id, stepKey, "retry"),
    skipCompensation: (id, stepKey) => revise(id, stepKey, "skip"),
    sendEvent: Effect.fn("Engine.sendEvent")(function* (id, name, payload, sendOptions) {
      yield* Effect.fromResult(checkEventName(name))
      const senderId = sendOptions?.id ?? null
      if (senderId !== null) yield* Effect.fromResult(checkEventName(senderId, "id of the event"))
      const event = { workflowRunId: id, name, payload, id: senderId }
      return yield* send(event, { maxPending: limits.maxPendingEvents })
    }),
    resolveToken: Effect.fn("Engine.resolveToken")(function* (token, payload) {
      const workflowRunId = runOfToken(token)
      if (workflowRunId === null) return yield* new TokenNotFound({})
      const stepKey = yield* store.findToken({ workflowRunId, token })
      if (stepKey === null) return yield* new TokenNotFound({})
      const event = eventOfToken(stepKey)
      // no limit: a run has issued each of its tokens, and each takes one answer
      const answer = yield* send({ workflowRunId, name: event, payload, id: event }).pipe(
        // a run whose record was there, and is deleted by now
        Effect.catchTag("RunNotFound", () => Effect.fail(new TokenNotFound({}))),
        Effect.catchTag("EventBacklogFull", Effect.die),
      )
      return answer === "sent" ? "resolved" : "already-resolved"
    }),
    deadLetters: (page) =>
      Effect.andThen(
        Effect.fromResult(
          page.workflow === null ? Result.succeed("") : checkName(page.workflow, "workflow"),
        ),
        readAgain(
          store,
          store.listRuns({
            ...page,
            before: page.before === null ? null : runId(page.before),
            statuses: ["dead_letter"],
            parentRunId: null,
          }),
        ),
      ),
    schedule: Effect.fn("Engine.schedule")(function* (schedule) {
      yield* Effect.fromResult(checkName(schedule.key, "schedule key"))
      const parsed = yield* Effect.fromResult(Cron.parse(schedule.cron, schedule.timeZone))
      const rule = yield* Effect.fromResult(checkDistance(parsed, limits))
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
    unschedule: (key) =>
      Effect.andThen(
        Effect.fromResult(checkName(key, "schedule key")),
        Effect.suspend(() => store.removeSchedule(key)),
      ),
    onLifecycle: (listener) => {
      lifecycleListeners = [...lifecycleListeners, listener]
      return () => {
        lifecycleListeners = lifecycleListeners.filter((one) => one !== listener)
      }
    },
    lifecycle: (event) => {
      // those of this moment, also where one of them leaves
      const listeners = lifecycleListeners
      for (let i = 0; i < listeners.length; i++) {
        try {
          listeners[i]!(event)
        } catch (error) {
          report(error)
        }
      }
    },
  })
})

/**
 * The engine over a store, with its journal.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: EngineOptions): Layer.Layer<Engine, InvalidInput, WorkflowStore> =>
  Layer.effect(Engine, make(options)).pipe(Layer.provide(Journal.layer))
