/**
 * The world that test bodies touch: what steps did, what undos did, what each execution of a body
 * saw and in which order. It outlives an engine, and is copied together with the store when a test
 * goes back to an earlier moment.
 */
import * as Effect from "effect/Effect"
import type * as MemoryStore from "../../src/MemoryStore.ts"
import type { WorkflowContext } from "../../src/promise/context.ts"
import type {
  CompensateFunction,
  CompensateOptions,
  StepInfo,
  StepOptions,
} from "../../src/promise/step.ts"

/**
 * One execution of one body: the outcomes it saw, in order, and what it noted of its decisions.
 */
export interface Execution {
  readonly workflowRunId: string
  readonly attempt: number
  readonly seen: Array<string>
  readonly notes: Map<string, string>
}

export class World {
  /** The store that the steps of this world are recorded in. */
  handle: MemoryStore.Handle
  /** Bodies that ran, by step key; in order. */
  readonly ran: Array<string> = []
  /** Undos that were begun, by step key; in order. */
  readonly undone: Array<string> = []
  readonly executions: Array<Execution> = []
  /** What must never happen. */
  readonly violations: Array<string> = []
  readonly #counts: Map<string, number>
  /** The code that bodies are given in place of their own, one operation changed. */
  edit: ((ctx: WorkflowContext) => WorkflowContext) | undefined

  constructor(handle: MemoryStore.Handle, counts: ReadonlyMap<string, number> = new Map()) {
    this.handle = handle
    this.#counts = new Map(counts)
  }

  /** Counts, like a service that remembers how often it was called: 1, 2, 3 … */
  count(name: string): number {
    const count = (this.#counts.get(name) ?? 0) + 1
    this.#counts.set(name, count)
    return count
  }

  /** How often each of its services was called. */
  get counts(): ReadonlyMap<string, number> {
    return this.#counts
  }

  /** Fails the first `times` calls. */
  fails(name: string, times: number): void {
    const count = this.count(name)
    if (count <= times) throw new Error(`${name} failed (${count})`)
  }

  /** The same services, an independent store, nothing seen yet. */
  copy(handle: MemoryStore.Handle): World {
    return new World(handle, this.#counts)
  }

  begin(workflowRunId: string, attempt: number): Execution {
    const execution: Execution = { workflowRunId, attempt, seen: [], notes: new Map() }
    this.executions.push(execution)
    return execution
  }

  /** A body begins to run: its outcome must not be recorded yet. */
  runs(info: StepInfo): void {
    const stepKey = this.#keyOf(info)
    this.ran.push(stepKey)
    const standing = this.#record(info, stepKey)
    if (standing !== undefined && standing.status !== "retrying") {
      this.violations.push(`step "${stepKey}" runs again after it was recorded`)
    }
  }

  /**
   * An undo begins: the step must have completed, or be unknown and have asked for it; and its undoing
   * not be recorded yet.
   */
  undoes(info: StepInfo): void {
    const stepKey = this.#keyOf(info).replace(/:compensate$/, "")
    if (this.undone.at(-1) !== stepKey) this.undone.push(stepKey)
    const standing = this.#record(info, stepKey)
    if (standing?.hasCompensate !== true) {
      this.violations.push(`step "${stepKey}" is undone, but has not completed`)
    } else if (standing.compensation !== null && standing.compensation.status !== "retrying") {
      this.violations.push(`step "${stepKey}" is undone again after that was recorded`)
    }
  }

  #keyOf({ workflowRunId, idempotencyKey }: StepInfo): string {
    return idempotencyKey.slice(workflowRunId.length + 1)
  }

  #record({ workflowRunId }: StepInfo, stepKey: string) {
    const steps = Effect.runSync(this.handle.store.getSteps(workflowRunId))
    return steps.find((step) => step.stepKey === stepKey)
  }
}

/**
 * What a test body gets: `ctx`, watched, and the world.
 */
export interface Watched {
  readonly ctx: WorkflowContext
  readonly world: World
  /** A decision of the body: the same for ever, once anything followed from it. */
  readonly note: (site: string, value: unknown) => void
}

/**
 * Watches everything that a body asks of its context.
 */
export const watch = (world: World, ctx: WorkflowContext): Watched => {
  const execution = world.begin(ctx.workflowRunId, ctx.attempt)
  const uses = new Map<string, number>()
  const see = <T>(name: string, asked: Promise<T>): Promise<T> => {
    const used = (uses.get(name) ?? 0) + 1
    uses.set(name, used)
    const key = used === 1 ? name : `${name}#${used}`
    const heard = asked.then(
      (value) => {
        execution.seen.push(`${key} completed`)
        return value
      },
      (error: unknown) => {
        execution.seen.push(`${key} failed`)
        throw error
      },
    )
    // a body may not await it
    heard.catch(() => undefined)
    return heard
  }
  const undoing = <T>(
    compensate: CompensateFunction<T> | CompensateOptions<T>,
  ): CompensateOptions<T> => {
    const given = typeof compensate === "function" ? { run: compensate } : compensate
    return {
      ...given,
      run: (result, info) => {
        world.undoes(info)
        return given.run(result, info)
      },
    }
  }
  const observed = <T>(options: StepOptions<T>): StepOptions<T> => ({
    ...options,
    run: (info) => {
      world.runs(info)
      return options.run(info)
    },
    ...(options.compensate === undefined
      ? {}
      : {
          compensate: undoing(options.compensate),
        }),
  })
  const observing: Watched = {
    world,
    note: (site, value) => {
      execution.notes.set(site, String(value))
    },
    ctx: {
      ...ctx,
      step: (name, options) =>
        see(
          name,
          ctx.step(name, observed(typeof options === "function" ? { run: options } : options)),
        ),
      transaction: (name, run, options) =>
        see(
          name,
          ctx.transaction(
            name,
            (client: never, info) => {
              world.runs(info)
              return run(client, info)
            },
            options?.compensate === undefined
              ? options
              : {
                  ...options,
                  compensate: undoing(options.compensate),
                },
          ),
        ),
      sideEffect: (name, fn) => see(name, ctx.sideEffect(name, fn)),
      sleep: (name, duration) => see(name, ctx.sleep(name, duration)),
      sleepUntil: (name, date) => see(name, ctx.sleepUntil(name, date)),
      pointOfNoReturn: (name) => see(name, ctx.pointOfNoReturn(name)),
      emit: (event, data) => see(event, ctx.emit(event, data)),
      waitForEvent: (name: string, options?: any) =>
        see(name, ctx.waitForEvent<any>(name, options)) as Promise<any>,
      waitForToken: (token: string, options?: any) =>
        see("answer", ctx.waitForToken<any>(token, options)) as Promise<any>,
      token: (name) => see(name, ctx.token(name)),
      workflow: (definition, ...rest) =>
        see(rest[1]?.name ?? definition.name, ctx.workflow(definition, ...rest)),
      child: (definition, ...rest) =>
        see(rest[1]?.name ?? definition.name, ctx.child(definition, ...rest)),
      startChild: async (definition, ...rest) => {
        const name = rest[1]?.name ?? definition.name
        const started = await see(`start ${name}`, ctx.startChild(definition, ...rest))
        return { ...started, result: () => see(`${name}.result`, started.result()) }
      },
    },
  }
  const { edit } = world
  return edit === undefined ? observing : { ...observing, ctx: edit(observing.ctx) }
}
