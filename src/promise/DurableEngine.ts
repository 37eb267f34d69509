/**
 * `DurableEngine`: the engine for ordinary Node code, over the same layers as the Effect API.
 *
 * Nothing is opened before the first call. A process that only triggers, schedules and asks never
 * calls `start`. The user's pool is never ended by us.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { type DurationInput, toMillis } from "../DurationInput.ts"
import { Engine, layer as engineLayer, type LifecycleEvent } from "../Engine.ts"
import { anyValue } from "../engine/values.ts"
import { decodeError, summarize } from "../ErrorPayload.ts"
import {
  DuplicateWorkflow,
  InvalidInput,
  RunFailed,
  RunNotFound,
  UnknownWorkflow,
} from "../FlowlyError.ts"
import { layerStore } from "../EngineClock.ts"
import * as PostgresStore from "../PostgresStore.ts"
import { defaultSchema, makeNames } from "../postgres/names.ts"
import {
  make as makeWorker,
  type Worker,
  type WorkerHealth,
  type WorkerOptions,
} from "../Worker.ts"
import type { EventRow, RunRow, WorkflowStore } from "../WorkflowStore.ts"
import { FlowlyError, orThrow, toFlowlyError, toPromise } from "./FlowlyError.ts"
import { type EmittedEvent, type HookEvent, type HookName, toHookEvent } from "./hooks.ts"
import { type Logger, loggerLayer } from "./logger.ts"
import { MemoryWorkflowStore, memoryLayer } from "./MemoryWorkflowStore.ts"
import { validate } from "./standardSchema.ts"
import { needsHistory, toStatus, valueOf, type WorkflowStatus } from "./status.ts"
import { type AnyWorkflow, layerOf, type WorkflowDefinition } from "./workflow.ts"

/**
 * What is used of a `pg.Pool`.
 */
export type PoolLike = PostgresStore.PgPoolLike

/**
 * How an engine is set up. One of `pool` and `url`, unless `setStore` is called.
 */
export interface DurableEngineOptions {
  /** A `pg.Pool` of the application; never ended by the engine. */
  readonly pool?: PoolLike | undefined
  /** A connection string; the engine opens its own connections. */
  readonly url?: string | undefined
  readonly workflows: ReadonlyArray<AnyWorkflow>
  /** The schema of the tables. Default "durable_workflow". */
  readonly schema?: string | undefined
  readonly worker?: {
    /** Between two polls, when nothing tells of work. Default 1000. */
    readonly pollIntervalMs?: number | undefined
    /** Runs that execute at once. Default 5. */
    readonly maxConcurrent?: number | undefined
    /** How long claims hold when this process dies. Default 30000, at least 1000. */
    readonly leaseMs?: number | undefined
    /** A label for logs. */
    readonly workerId?: string | undefined
    /** How long `stop` lets steps finish. Default 30000. */
    readonly shutdownTimeoutMs?: number | undefined
    /** LISTEN for work on a connection of its own. Default true. */
    readonly useNotify?: boolean | undefined
    /** Crashes without progress after which a run is dead-lettered. Default 5. */
    readonly maxCrashes?: number | undefined
  }
  readonly logger?: Logger | undefined
}

/**
 * How a run is started.
 */
export type TriggerOptions<I> = {
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
  /** Lower is earlier. Default 0. */
  readonly priority?: number | undefined
  /** How long to wait for the database's confirmation. Default 30 seconds. */
  readonly deadline?: DurationInput | undefined
} & (undefined extends I ? { readonly input?: I } : { readonly input: I })

/**
 * A started run.
 */
export interface RunHandle<O> {
  readonly workflowRunId: string
  /** The idempotency key had this run already. */
  readonly existing: boolean
  /** The result, or a rejection: `FlowlyError` with code "RunFailed" and the error as its cause. */
  readonly result: () => Promise<O>
  readonly status: () => Promise<WorkflowStatus | null>
}

/**
 * How the engine is doing.
 */
export interface Health {
  readonly healthy: boolean
  readonly store: { readonly ok: boolean; readonly latencyMs: number; readonly error?: string }
  /** `null`: not started in this process. */
  readonly worker: WorkerHealth | null
}

interface Running {
  readonly runtime: ManagedRuntime.ManagedRuntime<Engine, unknown>
  ready: Promise<void> | null
}

/**
 * A durable workflow engine.
 */
export class DurableEngine {
  readonly #options: DurableEngineOptions
  readonly #workflows = new Map<string, AnyWorkflow>()
  #store: MemoryWorkflowStore | null = null
  #running: Running | null = null
  #worker: { readonly worker: Worker["Service"]; readonly scope: Scope.Closeable } | null = null
  #starting: Promise<void> | null = null
  #stopping: Promise<void> | null = null
  readonly #hooks = new Map<HookName, Set<(event: HookEvent) => unknown>>()
  /** Listeners that are being set up: a trigger waits for them, so that they miss nothing. */
  #listening: Promise<unknown> = Promise.resolve()

  constructor(options: DurableEngineOptions) {
    this.#options = options
    const workflows = options.workflows ?? []
    for (const workflow of workflows) {
      if (this.#workflows.has(workflow.name)) {
        throw toFlowlyError(new DuplicateWorkflow({ workflow: workflow.name }))
      }
      this.#workflows.set(workflow.name, workflow)
    }
    if (options.pool !== undefined && options.url !== undefined) {
      const reason = "give either a pool or a url, not both"
      throw toFlowlyError(new InvalidInput({ field: "pool", reason }))
    }
    orThrow(makeNames(options.schema ?? defaultSchema))
  }

  /** Uses a store of this process's memory instead of Postgres. Only before the first call. */
  setStore(store: MemoryWorkflowStore): void {
    if (this.#running !== null) {
      throw new FlowlyError(
        "EngineStarted",
        "setStore must be called before the engine is used: its store is already open",
      )
    }
    this.#store = store
  }

  /** Brings the tables up to date. Safe from many processes at once. */
  async migrate(): Promise<void> {
    await this.#run(Effect.flatMap(Engine, (engine) => engine.store.migrate))
  }

  /** Starts executing runs in this process. */
  start(): Promise<void> {
    this.#starting ??= this.#start().catch((error) => {
      this.#starting = null
      throw error
    })
    return this.#starting
  }

  async #start(): Promise<void> {
    const scope = Scope.makeUnsafe()
    const options: WorkerOptions = this.#options.worker ?? {}
    try {
      const worker = await this.#run(Scope.provide(makeWorker(options), scope))
      this.#worker = { worker, scope }
    } catch (error) {
      await Effect.runPromise(Scope.close(scope, Exit.void))
      throw error
    }
  }

  /**
   * Stops: claims no more, lets steps finish within `shutdownTimeoutMs`, hands the rest back to
   * other workers, and closes what the engine opened. No run fails of it.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    await this.#starting?.catch(() => undefined)
    if (this.#worker !== null) {
      await Effect.runPromise(Scope.close(this.#worker.scope, Exit.void))
    }
    await this.#running?.runtime.dispose()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  /** Starts a run; answers when it is durable. */
  async trigger<I, O>(
    workflow: WorkflowDefinition<I, O>,
    ...[options]: undefined extends I ? [options?: TriggerOptions<I>] : [options: TriggerOptions<I>]
  ): Promise<RunHandle<O>> {
    await this.#listening
    const given: Partial<TriggerOptions<I>> & { readonly input?: I } = options ?? {}
    const started = await this.#run(
      Effect.gen({ self: this }, function* () {
        const engine = yield* Engine
        const input = yield* this.#encodeInput(workflow, given.input)
        const { deadline, scheduledFor } = given
        return yield* engine.start(workflow, input, {
          idempotencyKey: given.idempotencyKey,
          concurrencyKey: given.concurrencyKey,
          timeoutMs: given.timeoutMs,
          maxAttempts: given.maxAttempts,
          priority: given.priority,
          scheduledFor,
          deadlineMs:
            deadline === undefined
              ? undefined
              : yield* Effect.fromResult(toMillis(deadline, "deadline")),
        })
      }),
      { checkSchema: true },
    )
    return this.#handle<O>(workflow.name, started.workflowRunId, started.existing)
  }

  /** A handle on a run that was started earlier, or elsewhere. */
  handle<I, O>(workflow: WorkflowDefinition<I, O>, workflowRunId: string): RunHandle<O> {
    return this.#handle<O>(workflow.name, workflowRunId, true)
  }

  #handle<O>(workflow: string, workflowRunId: string, existing: boolean): RunHandle<O> {
    return {
      workflowRunId,
      existing,
      result: () => this.#run(resultOf<O>(workflow, workflowRunId)),
      status: () => this.getStatus(workflowRunId),
    }
  }

  /** Creates the schedule, or replaces the one with its key (default: the workflow's name). */
  async schedule<I, O>(
    workflow: WorkflowDefinition<I, O>,
    options: {
      /** Five fields, or `@hourly` … `@yearly`. */
      readonly cron: string
      /** An IANA zone. Default "UTC". */
      readonly timeZone?: string | undefined
      readonly key?: string | undefined
    } & (undefined extends I ? { readonly input?: I } : { readonly input: I }),
  ): Promise<{ readonly key: string; readonly nextRun: Date }> {
    const { input, cron, timeZone, key } = options as typeof options & { readonly input?: I }
    const row = await this.#run(
      Effect.gen({ self: this }, function* () {
        const engine = yield* Engine
        const encoded = yield* this.#encodeInput(workflow, input)
        return yield* engine.schedule({
          key: key ?? workflow.name,
          workflow: workflow.name,
          cron,
          timeZone,
          input: encoded,
        })
      }),
      { checkSchema: true },
    )
    return { key: row.key, nextRun: new Date(row.nextTick) }
  }

  /** Removes a schedule; false when there was none. */
  unschedule(key: string): Promise<boolean> {
    return this.#run(Effect.flatMap(Engine, (engine) => engine.unschedule(key)))
  }

  /** The state of a run; `null` when there is none of this id. */
  getStatus(workflowRunId: string): Promise<WorkflowStatus | null> {
    return this.#run(
      Effect.gen(function* () {
        const engine = yield* Engine
        const row = yield* engine.getRun(workflowRunId)
        if (row === null) return null
        if (!needsHistory(row)) return toStatus(row, null)
        const [history] = yield* engine.store.loadHistory([workflowRunId])
        return toStatus(row, history ?? null)
      }),
      { checkSchema: true },
    )
  }

  /**
   * Cancels a run and its children. "requested": it was under way, and ends at its next safe point.
   * Completed steps are undone, unless `compensate` is false.
   */
  cancel(
    workflowRunId: string,
    options?: { readonly compensate?: boolean; readonly reason?: string },
  ): Promise<"cancelled" | "requested"> {
    return this.#run(Effect.flatMap(Engine, (engine) => engine.cancel(workflowRunId, options)))
  }

  /** Lets a paused run go on. */
  resume(workflowRunId: string): Promise<void> {
    return this.#run(Effect.flatMap(Engine, (engine) => engine.resume(workflowRunId)))
  }

  /** Events that a run emitted, in order. */
  async getEvents(workflowRunId: string): Promise<ReadonlyArray<EmittedEvent>> {
    const rows = await this.#run(
      Effect.flatMap(Engine, (engine) => engine.getEvents(workflowRunId)),
      { checkSchema: true },
    )
    return rows.map(toEmitted)
  }

  /** Runs whose attempts are used up, newest first; `before` is the last id of the page before. */
  async getDeadLetterRuns(options?: {
    readonly workflow?: string
    readonly before?: string
    readonly limit?: number
  }): Promise<ReadonlyArray<WorkflowStatus>> {
    const rows = await this.#run(
      Effect.flatMap(Engine, (engine) =>
        engine.deadLetters({
          workflow: options?.workflow ?? null,
          before: options?.before ?? null,
          limit: options?.limit ?? 100,
        }),
      ),
      { checkSchema: true },
    )
    return rows.map((row: RunRow) => toStatus(row, null))
  }

  /** Gives a dead-lettered (or failed) run another attempt. */
  retryDeadLetter(workflowRunId: string): Promise<void> {
    return this.#run(Effect.flatMap(Engine, (engine) => engine.retry(workflowRunId)))
  }

  /** Whether the store answers and the worker's loops turn. */
  async healthCheck(): Promise<Health> {
    const before = performance.now()
    const worker = this.#worker?.worker.health() ?? null
    const failed = (error: unknown): Health => ({
      healthy: false,
      store: {
        ok: false,
        latencyMs: performance.now() - before,
        error: error instanceof Error ? error.message : String(error),
      },
      worker,
    })
    try {
      await this.#run(
        Effect.flatMap(Engine, (engine) =>
          Effect.timeoutOrElse(engine.store.now, {
            duration: "5 seconds",
            orElse: () => Effect.fail(new Error("no answer within 5 seconds")),
          }),
        ),
      )
    } catch (error) {
      return failed(error)
    }
    return {
      healthy: worker === null || (worker.leaseTrusted && worker.unhealthy.length === 0),
      store: { ok: true, latencyMs: performance.now() - before },
      worker,
    }
  }

  /** Calls back on what happens to runs in this process. */
  hook(name: HookName, listener: (event: HookEvent) => unknown): void {
    const listeners = this.#hooks.get(name)
    if (listeners) listeners.add(listener)
    else this.#hooks.set(name, new Set([listener]))
  }

  /** Undoes `hook`. */
  unhook(name: HookName, listener: (event: HookEvent) => unknown): void {
    this.#hooks.get(name)?.delete(listener)
  }

  /** Calls back for events of this name that workflows emit, in any process. */
  on(event: string, listener: (event: EmittedEvent) => unknown): () => void {
    return this.onAny((emitted) => (emitted.event === event ? listener(emitted) : undefined))
  }

  /** Calls back for all events that workflows emit, in any process. */
  onAny(listener: (event: EmittedEvent) => unknown): () => void {
    let stopped = false
    let unlisten: (() => void) | null = null
    const setup = this.#run(
      Effect.flatMap(Engine, (engine) =>
        engine.tail.listen((row) => this.#guard("listener", () => listener(toEmitted(row)))),
      ),
      { checkSchema: true },
    ).then(
      (stop) => {
        unlisten = stop
        return stopped ? stop() : undefined
      },
      (error: unknown) => this.#report(`cannot listen to events: ${String(error)}`),
    )
    this.#listening = Promise.all([this.#listening, setup])
    return () => {
      stopped = true
      unlisten?.()
    }
  }

  // ---------------------------------------------------------------------------

  #encodeInput<I>(workflow: WorkflowDefinition<I, any>, input: I | undefined) {
    const { name, inputSchema } = workflow
    if (this.#workflows.get(name) !== workflow) {
      return Effect.fail(
        new UnknownWorkflow({ workflow: name, known: [...this.#workflows.keys()] }),
      )
    }
    const checked =
      inputSchema === null
        ? Effect.void
        : Effect.asVoid(
            Effect.mapError(
              validate(inputSchema, input),
              ({ reason }) => new InvalidInput({ field: `input of "${name}"`, reason }),
            ),
          )
    return Effect.andThen(checked, anyValue.encode(input, "input"))
  }

  #open(): Running {
    if (this.#stopping !== null) {
      throw new FlowlyError("EngineStopped", "the engine was stopped: make a new one")
    }
    if (this.#running !== null) return this.#running
    const workflows = [...this.#workflows.values()].map(layerOf)
    const hooks = Layer.effectDiscard(
      Effect.map(Engine, (engine) => engine.onLifecycle((event) => this.#onLifecycle(event))),
    )
    const layer = Layer.mergeAll(hooks, ...workflows).pipe(
      Layer.provideMerge(engineLayer({ pollIntervalMs: this.#options.worker?.pollIntervalMs })),
      Layer.provide(this.#storeLayer()),
      Layer.provideMerge(loggerLayer(this.#options.logger)),
    )
    this.#running = { runtime: ManagedRuntime.make(layer), ready: null }
    return this.#running
  }

  #storeLayer(): Layer.Layer<WorkflowStore, unknown> {
    if (this.#store !== null) return memoryLayer(this.#store)
    const { pool, url, schema } = this.#options
    if (pool !== undefined) {
      return Layer.provide(PostgresStore.layerPool({ pool, schema }), layerStore)
    }
    if (url !== undefined) {
      return Layer.provide(PostgresStore.layerUrl({ url: Redacted.make(url), schema }), layerStore)
    }
    throw new FlowlyError(
      "InvalidInput",
      "pool: give a pg.Pool or a url, or call setStore(new MemoryWorkflowStore())",
    )
  }

  async #run<A, E>(
    effect: Effect.Effect<A, E, Engine>,
    options?: { readonly checkSchema?: boolean },
  ): Promise<A> {
    const running = this.#open()
    if (options?.checkSchema) await this.#ready(running)
    return toPromise(running.runtime.runPromiseExit(effect))
  }

  /** Once: a table that is not there is told as what it is, before the first statement fails. */
  #ready(running: Running): Promise<void> {
    running.ready ??= toPromise(
      running.runtime.runPromiseExit(
        Effect.flatMap(Engine, (engine) => engine.store.verify({ worker: false, listen: false })),
      ),
    ).catch((error) => {
      running.ready = null
      throw error
    })
    return running.ready
  }

  #onLifecycle(event: LifecycleEvent): void {
    const hookEvent = this.#hooks.size === 0 ? null : toHookEvent(event)
    if (hookEvent === null) return
    for (const listener of this.#hooks.get(hookEvent.type) ?? []) {
      this.#guard(`hook ${hookEvent.type}`, () => listener(hookEvent))
    }
  }

  #guard(what: string, call: () => unknown): void {
    const complain = (error: unknown) => this.#report(`${what} failed: ${String(error)}`)
    try {
      const result = call()
      if (result instanceof Promise) result.catch(complain)
    } catch (error) {
      complain(error)
    }
  }

  #report(message: string): void {
    const { logger } = this.#options
    if (logger) logger.warn(`flowly: ${message}`)
    else console.warn(`flowly: ${message}`)
  }
}

const toEmitted = (row: EventRow): EmittedEvent => ({
  workflowRunId: row.workflowRunId,
  event: row.name,
  data: valueOf(row.payload),
  at: new Date(row.createdAt),
})

const resultOf = <O>(
  workflow: string,
  workflowRunId: string,
): Effect.Effect<O, RunFailed | RunNotFound, Engine> =>
  Effect.flatMap(Engine, (engine) =>
    Effect.flatMap(engine.outcome(workflowRunId), ({ status, result, error }) =>
      status === "completed"
        ? Effect.succeed(valueOf(result) as O)
        : Effect.fail(
            new RunFailed({
              workflow,
              workflowRunId,
              status,
              reason: error === null ? "no error was recorded" : summarize(error),
              ...(error === null ? {} : { cause: decodeError(error) }),
            }),
          ),
    ),
  )
