/**
 * `DurableEngine`: the engine for ordinary Node code, over the same layers as the Effect API.
 *
 * Nothing is opened before the first call. A process that only triggers, schedules and asks never
 * calls `start`. The user's pool is never ended by us.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { v7 as uuidv7 } from "uuid"
import { toMillis } from "../DurationInput.ts"
import { Engine, layer as engineLayer, type Started } from "../Engine.ts"
import { readAgain } from "../engine/readAgain.ts"
import { showWorkflow, workflowKey } from "../engine/registry.ts"
import { anyValue } from "../engine/values.ts"
import type { Revive } from "../ErrorPayload.ts"
import {
  DuplicateWorkflow,
  InvalidInput,
  type PayloadTooLarge,
  type SerializationError,
  TriggerTimeout,
  UnknownWorkflow,
} from "../FlowlyError.ts"
import { send } from "../Event.ts"
import { resolve } from "../Token.ts"
import { layerStore } from "../EngineClock.ts"
import type { Encoded } from "../Payload.ts"
import { redactText } from "../Redaction.ts"
import { make as makeWorker, type Worker, type WorkerOptions } from "../Worker.ts"
import { type CallersClient, within } from "./transaction.ts"
import { withinDeadline } from "./deadline.ts"
import { reviveErrors } from "./errorClasses.ts"
import {
  checkTrigger,
  checkTriggerMany,
  settledOf,
  startOptionsOf,
  type TriggerItem,
  type TriggerLimits,
  type TriggerOptions,
} from "./trigger.ts"
import { FlowlyError, invalid, orThrow, toFlowlyError } from "./FlowlyError.ts"
import { resultOf, type RunHandle, type SendOptions } from "./handle.ts"
import { checkHealth, type Health } from "./health.ts"
import {
  type EmittedEvent,
  type HookEvent,
  type HookName,
  type Hooks,
  isHookName,
  makeHooks,
  toEmitted,
} from "./hooks.ts"
import { makeListeners } from "./listeners.ts"
import { checkKnown, type Names, optionOf } from "./knownOptions.ts"
import { loggerLayer } from "./logger.ts"
import { MemoryWorkflowStore } from "./MemoryWorkflowStore.ts"
import { checkOptions, checkWorkflow, type DurableEngineOptions, isDevelopment } from "./options.ts"
import { bindControls, idOf, RunControls } from "./RunControls.ts"
import { engineStopped, makeRuntime } from "./runtime.ts"
import { validate } from "./standardSchema.ts"
import { needsHistory, toStatus, type WorkflowStatus } from "./status.ts"
import { storeLayer } from "./storeLayer.ts"
import { makeTrap, type Trap } from "./trap.ts"
import { underlayOf } from "./underlay.ts"
import { type AnyWorkflow, layerOf, type WorkflowDefinition } from "./workflow.ts"

/**
 * A durable workflow engine.
 */
export class DurableEngine extends RunControls {
  readonly #options: DurableEngineOptions
  readonly #workflows = new Map<string, AnyWorkflow>()
  #store: MemoryWorkflowStore | null = null
  readonly #runtime = makeRuntime({
    layer: () => this.#layer(),
    isStopped: () => this.#stopping !== null,
  })
  #worker: { readonly worker: Worker["Service"]; readonly scope: Scope.Closeable } | null = null
  #starting: Promise<void> | null = null
  #stopping: Promise<void> | null = null
  readonly #trap: Trap | null
  readonly #revive: Revive
  readonly #hooks: Hooks
  readonly #listeners = makeListeners({
    subscribe: (listener) =>
      this.#run(Effect.flatMap(Engine, (engine) => engine.tail.listen(listener))),
    report: (message) => this.#report(message),
  })

  constructor(options: DurableEngineOptions) {
    super()
    checkOptions(options)
    this.#options = options
    this.#revive = reviveErrors(options.errors)
    this.#hooks = makeHooks({
      revive: this.#revive,
      guard: (what, call) => this.#guard(what, call),
    })
    bindControls(this, (effect) => this.#run(effect), this.#revive)
    const development = isDevelopment(options)
    this.#trap = development
      ? makeTrap({
          throws: development === "throw",
          report: (message) => this.#report(message),
        })
      : null
    for (const workflow of options.workflows) {
      const key = workflowKey(workflow)
      if (this.#workflows.has(key)) {
        const { name, version } = workflow
        throw toFlowlyError(new DuplicateWorkflow({ workflow: name, version }))
      }
      this.#workflows.set(key, workflow)
    }
  }

  /** Uses a store of this process's memory instead of Postgres. Only before the first call. */
  setStore(store: MemoryWorkflowStore): void {
    if (!(store instanceof MemoryWorkflowStore)) {
      throw invalid("store", "must be a MemoryWorkflowStore")
    }
    if (this.#runtime.isOpen() || this.#stopping !== null) {
      throw new FlowlyError(
        "EngineStarted",
        "setStore must be called before the engine is used: its store is already open",
      )
    }
    this.#store = store
  }

  /** Brings the tables up to date. Safe from many processes at once. */
  async migrate(): Promise<void> {
    await this.#run(
      Effect.flatMap(Engine, (engine) => engine.store.migrate),
      { checkSchema: false },
    )
  }

  /** Starts executing runs in this process. */
  async start(): Promise<void> {
    this.#runtime.open()
    this.#starting ??= this.#start().catch((error) => {
      this.#starting = null
      throw error
    })
    return this.#starting
  }

  async #start(): Promise<void> {
    const scope = Scope.makeUnsafe()
    const underlay = underlayOf(this.#options)
    const options: WorkerOptions = { ...this.#options.worker, ...underlay?.worker }
    try {
      await this.#listeners.ready()
      this.#trap?.install()
      const worker = await this.#run(Scope.provide(makeWorker(options), scope), {
        checkSchema: false,
      })
      this.#worker = { worker, scope }
      underlay?.onWorker(worker)
    } catch (error) {
      this.#trap?.uninstall()
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
    this.#listeners.stop()
    await this.#starting?.catch(() => undefined)
    if (this.#worker !== null) {
      await Effect.runPromise(Scope.close(this.#worker.scope, Exit.void))
    }
    this.#trap?.uninstall()
    await this.#runtime.dispose()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  /** Starts a run; answers when it is durable. */
  async trigger<I, O>(
    workflow: WorkflowDefinition<I, O>,
    ...[options]: undefined extends I ? [options?: TriggerOptions<I>] : [options: TriggerOptions<I>]
  ): Promise<RunHandle<O>> {
    checkWorkflow(workflow, "workflow")
    checkTrigger(options)
    const given: Partial<TriggerOptions<I>> & { readonly input?: I } = options ?? {}
    const timeoutMs = orThrow(toMillis(given.deadline ?? defaultDeadlineMs, "deadline"))
    const freshRunId = uuidv7()
    const startOptions = startOptionsOf(given, freshRunId)
    const workflowRunId = given.workflowRunId ?? freshRunId
    const before = performance.now()
    const input = await this.#run(this.#encodeInput(workflow, given.input), { checkSchema: false })
    await this.#prepare(workflow.name, workflowRunId, timeoutMs)
    const started = await this.#run(
      within(
        given.client,
        Effect.flatMap(Engine, (engine) =>
          engine.start(workflow, input, {
            ...startOptions,
            deadlineMs: Math.max(0, Math.ceil(timeoutMs - (performance.now() - before))),
          }),
        ),
      ),
    )
    return this.#handle<O>(workflow.name, started.workflowRunId, started.existing)
  }

  /**
   * Starts thousands of runs at once: one statement for each thousand. Answers like
   * `Promise.allSettled`, aligned with the items: a conflict of one item's keys concerns no other. An
   * item that is not valid rejects the call, before anything is started.
   */
  async triggerMany<I, O>(
    workflow: WorkflowDefinition<I, O>,
    items: ReadonlyArray<TriggerItem<I>>,
    options?: TriggerLimits,
  ): Promise<Array<PromiseSettledResult<RunHandle<O>>>> {
    checkWorkflow(workflow, "workflow")
    if (!Array.isArray(items)) throw invalid("items", "must be an array")
    checkTriggerMany(items, options)
    const timeoutMs = orThrow(toMillis(options?.deadline ?? defaultDeadlineMs, "deadline"))
    const before = performance.now()
    const encoded = await this.#run(
      Effect.forEach(items as ReadonlyArray<TriggerItem<I>>, (item, i) =>
        Effect.map(this.#encodeInput(workflow, item.input, ` of item ${i}`), (input) => ({
          input,
          options: startOptionsOf(item, uuidv7(), ` of item ${i}`),
        })),
      ),
      { checkSchema: false },
    )
    const [first] = encoded
    const firstRunId = first?.options.workflowRunId ?? first?.options.freshRunId ?? ""
    await this.#prepare(workflow.name, firstRunId, timeoutMs)
    const left = Math.max(0, Math.ceil(timeoutMs - (performance.now() - before)))
    const outcomes = await this.#run(
      within(
        options?.client,
        Effect.flatMap(Engine, (engine) => engine.startMany(workflow, encoded, left)),
      ),
    )
    const handle = ({ workflowRunId, existing }: Started) =>
      this.#handle<O>(workflow.name, workflowRunId, existing)
    return settledOf(outcomes, handle, toFlowlyError)
  }

  /** A handle on a run that was started earlier, or elsewhere. */
  handle<I, O>(workflow: WorkflowDefinition<I, O>, workflowRunId: string): RunHandle<O> {
    checkWorkflow(workflow, "workflow")
    return this.#handle<O>(workflow.name, idOf(workflowRunId), true)
  }

  #handle<O>(workflow: string, workflowRunId: string, existing: boolean): RunHandle<O> {
    return {
      workflowRunId,
      existing,
      result: () => this.#run(resultOf<O>(workflow, workflowRunId, this.#revive)),
      status: () => this.getStatus(workflowRunId),
      sendEvent: (name, payload, options) => this.sendEvent(workflowRunId, name, payload, options),
    }
  }

  /** Creates the schedule, or replaces the one with its key (default: the workflow's name). */
  async schedule<I, O>(
    workflow: WorkflowDefinition<I, O>,
    options: {
      /** Five fields, or six with seconds before them; or `@hourly` … `@yearly`. */
      readonly cron: string
      /** An IANA zone. Default "UTC". */
      readonly timeZone?: string | undefined
      readonly key?: string | undefined
    } & (undefined extends I ? { readonly input?: I } : { readonly input: I }),
  ): Promise<{ readonly key: string; readonly nextRun: Date }> {
    checkWorkflow(workflow, "workflow")
    checkKnown(options, scheduleNames, optionOf("schedule"))
    if (typeof options?.cron !== "string") {
      throw invalid("cron", 'must be text, such as "0 9 * * 1"')
    }
    const { input, cron, timeZone, key } = options as typeof options & { readonly input?: I }
    const row = await this.#run(
      Effect.gen({ self: this }, function* () {
        const engine = yield* Engine
        const encoded = yield* this.#encodeInput(workflow, input)
        return yield* engine.schedule({
          key: key ?? workflow.name,
          workflow: workflow.name,
          version: workflow.version,
          cron,
          timeZone,
          input: encoded,
        })
      }),
    )
    return { key: row.key, nextRun: new Date(row.nextTick) }
  }

  /** Removes a schedule; false when there was none. */
  unschedule(key: string): Promise<boolean> {
    return this.#run(Effect.flatMap(Engine, (engine) => engine.unschedule(key)))
  }

  /** The state of a run; `null` when there is none of this id. */
  getStatus(workflowRunId: string): Promise<WorkflowStatus | null> {
    const revive = this.#revive
    return this.#run(
      Effect.gen(function* () {
        const engine = yield* Engine
        const row = yield* engine.getRun(workflowRunId)
        if (row === null) return null
        if (!needsHistory(row)) return toStatus(row, null, revive)
        const { store } = engine
        const [history] = yield* readAgain(store, store.loadHistory([row.workflowRunId]))
        return toStatus(row, history ?? null, revive)
      }),
    )
  }

  /**
   * Sends an event to a run, which takes it with `ctx.waitForEvent`, now or later. "duplicate": an
   * event with this `id` was sent to the run before.
   */
  async sendEvent(
    workflowRunId: string,
    name: string,
    payload?: unknown,
    options?: SendOptions,
  ): Promise<"sent" | "duplicate"> {
    checkKnown(options, sendNames, optionOf("sendEvent"))
    return this.#run(
      within(options?.client, send(idOf(workflowRunId), name, payload, { id: options?.id })),
    )
  }

  /**
   * Resolves the wait that a token of `ctx.token` stands for. The first one wins: to resolve it again
   * changes nothing. Rejects with code "TokenNotFound" for one that no run has issued.
   */
  async resolveToken(
    token: string,
    payload?: unknown,
    options?: { readonly client?: CallersClient | undefined },
  ): Promise<"resolved" | "already-resolved"> {
    checkKnown(options, resolveNames, optionOf("resolveToken"))
    return this.#run(within(options?.client, resolve(token, payload)))
  }

  /** Events that a run emitted, in order. */
  async getEvents(workflowRunId: string): Promise<ReadonlyArray<EmittedEvent>> {
    const rows = await this.#run(
      Effect.flatMap(Engine, (engine) => engine.getEvents(workflowRunId)),
    )
    return rows.map(toEmitted)
  }

  /** Whether the store answers and the worker's loops turn. */
  async healthCheck(): Promise<Health> {
    const worker = this.#worker?.worker.health() ?? null
    return checkHealth((effect) => this.#run(effect, { checkSchema: false }), worker)
  }

  /** Calls back on what happens to runs in this process. */
  hook(name: HookName, listener: (event: HookEvent) => unknown): void {
    if (!isHookName(name)) throw invalid("hook", `there is no hook "${String(name)}"`)
    checkFunction(listener, "listener")
    this.#hooks.add(name, listener)
  }

  /** Undoes `hook`. */
  unhook(name: HookName, listener: (event: HookEvent) => unknown): void {
    this.#hooks.remove(name, listener)
  }

  /** Calls back for events of this name that workflows emit, in any process. */
  on(event: string, listener: (event: EmittedEvent) => unknown): () => void {
    checkFunction(listener, "listener")
    return this.onAny((emitted) => (emitted.event === event ? listener(emitted) : undefined))
  }

  /** Calls back for all events that workflows emit, in any process. */
  onAny(listener: (event: EmittedEvent) => unknown): () => void {
    checkFunction(listener, "listener")
    if (this.#stopping !== null) throw engineStopped()
    return this.#listeners.add((row) => this.#guard("listener", () => listener(toEmitted(row))))
  }

  // ---------------------------------------------------------------------------

  #encodeInput<I>(
    workflow: WorkflowDefinition<I, any>,
    input: I | undefined,
    which = "",
  ): Effect.Effect<Encoded, UnknownWorkflow | InvalidInput | SerializationError | PayloadTooLarge> {
    const { name, version, inputSchema } = workflow
    if (this.#workflows.get(workflowKey(workflow)) !== workflow) {
      const known = [...this.#workflows.values()].map(showWorkflow)
      return Effect.fail(new UnknownWorkflow({ workflow: name, version, known }))
    }
    const encoded = () => anyValue.encode(input, `input${which}`)
    if (inputSchema === null) return encoded()
    const checked = Effect.mapError(
      validate(inputSchema, input),
      ({ reason }) => new InvalidInput({ field: `input of "${name}"${which}`, reason }),
    )
    return Effect.flatMap(checked, encoded)
  }

  #layer(): Layer.Layer<Engine, unknown> {
    const underlay = underlayOf(this.#options)
    const workflows = [...this.#workflows.values()].map(
      (one) => underlay?.layerOf?.(one) ?? layerOf(one, { trap: this.#trap, revive: this.#revive }),
    )
    const hooks = Layer.effectDiscard(
      Effect.map(Engine, (engine) => {
        engine.onLifecycle(this.#hooks.tell)
        underlay?.onEngine(engine)
      }),
    )
    const engineClock = underlay?.engineClock ?? layerStore
    const store = storeLayer(this.#options, this.#store, engineClock)
    const { redactErrors, limits } = this.#options
    const { pollIntervalMs, useNotify } = underlay?.worker ?? this.#options.worker ?? {}
    return Layer.mergeAll(hooks, ...workflows).pipe(
      Layer.provideMerge(engineLayer({ pollIntervalMs, useNotify, redactErrors, limits })),
      Layer.provide(underlay?.store(store) ?? store),
      Layer.provideMerge(loggerLayer(this.#options.logger)),
      Layer.provideMerge(underlay?.clock ?? Layer.empty),
    )
  }

  #run<A, E>(
    effect: Effect.Effect<A, E, Engine>,
    options?: { readonly checkSchema?: boolean },
  ): Promise<A> {
    return this.#runtime.run(effect, options)
  }

  /** What a trigger waits for: tables that are there, listeners that miss nothing. */
  async #prepare(workflow: string, workflowRunId: string, timeoutMs: number): Promise<void> {
    if (this.#runtime.isReady() && this.#listeners.isReady()) return
    const ready = async () => {
      await this.#runtime.ready()
      await this.#listeners.ready()
    }
    await withinDeadline(ready(), timeoutMs, () => {
      const outcome = "not-applied"
      return new TriggerTimeout({ workflow, workflowRunId, timeoutMs, outcome })
    })
  }

  #guard(what: string, call: () => unknown): void {
    const { redactErrors } = this.#options
    const complain = (error: unknown) => {
      const text = String(error)
      const kept = redactErrors === undefined ? text : redactText(redactErrors, text, "message")
      this.#report(`${what} failed: ${kept}`)
    }
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

const defaultDeadlineMs = 30_000

const scheduleNames: Names<Parameters<DurableEngine["schedule"]>[1]> = {
  cron: true,
  timeZone: true,
  key: true,
  input: true,
}

const sendNames: Names<SendOptions> = { id: true, client: true }

const resolveNames = { client: true } as const

const checkFunction = (value: unknown, field: string): void => {
  if (typeof value !== "function") throw invalid(field, "must be a function")
}
