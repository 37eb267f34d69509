/**
 * `createTestEngine`: a `DurableEngine` for the tests of promise users. Time stands still but for
 * `clock.advance` and `runToEnd`; sleeps and backoffs cost nothing.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type DurationInput, toMillis } from "../DurationInput.ts"
import type { Engine } from "../Engine.ts"
import { layerEffect } from "../EngineClock.ts"
import { DurableEngine } from "../promise/DurableEngine.ts"
import type { RunHandle } from "../promise/handle.ts"
import type { TriggerOptions } from "../promise/trigger.ts"
import { FlowlyError, orThrow, toPromise } from "../promise/FlowlyError.ts"
import { MemoryWorkflowStore } from "../promise/MemoryWorkflowStore.ts"
import type { DurableEngineOptions } from "../promise/options.ts"
import type { WorkflowStatus } from "../promise/status.ts"
import { layUnder } from "../promise/underlay.ts"
import type { WorkflowDefinition } from "../promise/workflow.ts"
import { WorkflowStore } from "../WorkflowStore.ts"
import { type Driver, type DriverOptions, makeDriver, type RunLimits } from "./driver.ts"
import { type HistoryEntry, historyOf } from "./history.ts"
import type { RunStuck } from "./waits.ts"

/**
 * How a test engine is set up. Without `pool` and `url` its store is in memory.
 *
 * @category models
 * @since 0.1.0
 */
export interface TestEngineOptions
  extends Omit<DurableEngineOptions, "worker">, Omit<DriverOptions, "startAt"> {
  /** Runs that execute at once. Default 100. */
  readonly maxConcurrent?: number | undefined
  /** Where the clock starts. Default: the present. */
  readonly startAt?: Date | undefined
  /** A store to share with other engines. Default: a new one. */
  readonly store?: MemoryWorkflowStore | undefined
}

/**
 * The engine's clock.
 *
 * @category models
 * @since 0.1.0
 */
export interface TestEngineClock {
  readonly now: () => Date
  /** Moves time forward; everything that becomes due on the way happens, in order. */
  readonly advance: (duration: DurationInput) => Promise<void>
}

/**
 * The status of a run that has settled.
 *
 * @category models
 * @since 0.1.0
 */
export type Settled<O> =
  | (Omit<Extract<WorkflowStatus, { readonly status: "completed" }>, "result"> & {
      readonly result: O
    })
  | Extract<
      WorkflowStatus,
      { readonly status: "failed" | "compensated" | "cancelled" | "dead_letter" }
    >

/**
 * A `DurableEngine` whose time is the test's. It starts by itself with the first call.
 *
 * @category models
 * @since 0.1.0
 */
export class TestEngine extends DurableEngine {
  readonly clock: TestEngineClock
  readonly #driver: Driver
  readonly #engine: () => Engine["Service"]

  constructor(given: TestEngineOptions) {
    const { maxConcurrent = 100, startAt, patienceMs, store, ...options } = given
    const driver = makeDriver({ startAt: (startAt ?? new Date()).getTime(), patienceMs })
    let engine: Engine["Service"] | null = null
    const clock = Layer.succeed(Clock.Clock, driver.clock.internal)
    layUnder(options, {
      clock,
      engineClock: Layer.provide(layerEffect, clock),
      store: Layer.effect(WorkflowStore, Effect.map(WorkflowStore, driver.activity.watch)).pipe(
        (watched) => (inner) => Layer.provide(watched, inner),
      ),
      worker: { ...driver.workerOptions, maxConcurrent },
      onEngine: (service) => {
        engine = service
        driver.attach(service)
      },
      onWorker: (worker) => driver.attachWorker(() => worker.health().running),
    })
    super(options)
    if (options.pool === undefined && options.url === undefined) {
      this.setStore(store ?? new MemoryWorkflowStore())
    }
    this.#driver = driver
    this.#engine = () => {
      if (engine === null) throw new Error("the engine has not started")
      return engine
    }
    this.clock = {
      now: () => new Date(driver.clock.now()),
      advance: async (duration) => {
        const ms = orThrow(toMillis(duration, "duration"))
        await this.start()
        await toPromise(Effect.runPromiseExit(driver.advanceBy(ms)))
      },
    }
  }

  /** Starts a run, and the engine before it. */
  override async trigger<I, O>(
    workflow: WorkflowDefinition<I, O>,
    ...options: undefined extends I ? [options?: TriggerOptions<I>] : [options: TriggerOptions<I>]
  ): Promise<RunHandle<O>> {
    await this.start()
    return super.trigger(workflow, ...options)
  }

  /** Waits, without moving the clock, until nothing happens any more. */
  async settle(): Promise<void> {
    await this.start()
    await Effect.runPromise(this.#driver.settle)
  }

  /**
   * Moves the clock from one due instant to the next until the run has settled. A run that time
   * does not bring to its end (it waits for an event, is paused …) is an error with code
   * "RunStuck", which says what it waits for.
   */
  async runToEnd<O>(handle: RunHandle<O>, limits?: RunLimits): Promise<Settled<O>> {
    await this.start()
    const { workflowRunId } = handle
    const running = this.#driver
      .runUntilSettled(workflowRunId, limits)
      .pipe(Effect.catchTag("RunStuck", (stuck) => Effect.fail(plain(stuck))))
    await toPromise(Effect.runPromiseExit(running))
    return (await this.getStatus(workflowRunId)) as Settled<O>
  }

  /** What a run did: its steps, sleeps and children, in order of completion. */
  async history(handle: { readonly workflowRunId: string }): Promise<ReadonlyArray<HistoryEntry>> {
    await this.start()
    const steps = Effect.provideService(
      this.#engine().getSteps(handle.workflowRunId),
      Clock.Clock,
      this.#driver.clock.internal,
    )
    return historyOf(await toPromise(Effect.runPromiseExit(steps)))
  }
}

/**
 * An engine for a test.
 *
 * **Example** (Thirty days in a millisecond)
 *
 * ```ts
 * const engine = createTestEngine({ workflows: [trial] })
 * const handle = await engine.trigger(trial, { input: { email: "ada@example.com" } })
 * await engine.clock.advance("30 days")
 * expect(await engine.getStatus(handle.workflowRunId)).toMatchObject({ status: "completed" })
 * await engine.stop()
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const createTestEngine = (options: TestEngineOptions): TestEngine => new TestEngine(options)

const plain = ({ message, workflowRunId, workflow, reason, waitsFor }: RunStuck): FlowlyError =>
  new FlowlyError("RunStuck", message, {
    details: { workflowRunId, workflow, reason, waitsFor },
  })
