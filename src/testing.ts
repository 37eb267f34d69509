/**
 * flowly under test: an engine whose time the test moves. A workflow that sleeps for thirty days
 * and retries for hours finishes in milliseconds.
 *
 * Promise users call `createTestEngine`. Effect users provide `layer` (memory) or `layerStore` (for
 * example Postgres) to the test's effect: `TestClock.adjust`, or `advance`, moves the engine's time,
 * from one due instant to the next, and everything that becomes due on the way happens in order.
 *
 * - Time stands still otherwise: no poll, lease or timeout expires by itself. Only what has to do with the
 *   store alone takes real time: a row that is locked, a call that is made again.
 * - A step that does real work (a real request, a real timer) is waited for, but no longer than
 *   `patienceMs` without a sign of life; then time moves on beside it.
 * - No test framework is needed: any will do.
 *
 * **Example** (An Effect test)
 *
 * ```ts
 * it.effect("greets after a month", () =>
 *   Effect.gen(function*() {
 *     const run = yield* Workflow.trigger(Greet, { name: "Ada" })
 *     yield* TestClock.adjust("30 days")
 *     assert.strictEqual(yield* run.result, "Hello Ada")
 *   }).pipe(Effect.provide(GreetLive.pipe(Layer.provideMerge(Testing.layer())))))
 * ```
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Engine, layer as engineLayer } from "./Engine.ts"
import { type EngineClock, layerEffect } from "./EngineClock.ts"
import type { RunNotFound, SchemaTooNew } from "./FlowlyError.ts"
import * as MemoryStore from "./MemoryStore.ts"
import { type DriverOptions, makeDriver, type RunLimits } from "./testing/driver.ts"
import { type Emitted, emittedOf, type HistoryEntry, historyOf } from "./testing/history.ts"
import type { RunStuck } from "./testing/waits.ts"
import { layer as workerLayer, Worker, type WorkerStartError } from "./Worker.ts"
import { type RunRow, type StoreError, WorkflowStore } from "./WorkflowStore.ts"

export type { DriverOptions, RunLimits } from "./testing/driver.ts"
export {
  createTestEngine,
  type Settled,
  TestEngine,
  type TestEngineClock,
  type TestEngineOptions,
} from "./testing/engine.ts"
export type { Emitted, HistoryEntry } from "./testing/history.ts"
export { RunStuck } from "./testing/waits.ts"

/**
 * The driver of the engine under test.
 *
 * @category services
 * @since 0.1.0
 */
export class TestDriver extends Context.Service<
  TestDriver,
  {
    readonly settle: Effect.Effect<void>
    readonly advance: (duration: Duration.Input) => Effect.Effect<void, StoreError>
    readonly runUntilSettled: (
      workflowRunId: string,
      limits?: RunLimits,
    ) => Effect.Effect<RunRow, RunStuck | RunNotFound | StoreError>
  }
>()("flowly/TestDriver") {}

/**
 * @category models
 * @since 0.1.0
 */
export interface Options extends DriverOptions {
  /** Runs that execute at once. Default 100. */
  readonly maxConcurrent?: number | undefined
}

/**
 * An engine and a worker on a new memory store, and the clock that drives them. Each call makes
 * another engine: provide one and the same layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options?: Options,
): Layer.Layer<Engine | Worker | WorkflowStore | TestDriver> =>
  // the memory store needs no tables and refuses no worker
  Layer.orDie(layerStore(Layer.fresh(MemoryStore.layer), options))

/**
 * The same on any store: what compares times in a database gets the test's clock
 * (`EngineClock.layerEffect`). The tables are brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStore = <E, R>(
  store: Layer.Layer<WorkflowStore, E, R>,
  options: Options = {},
): Layer.Layer<
  Engine | Worker | WorkflowStore | TestDriver,
  E | WorkerStartError | SchemaTooNew,
  Exclude<R, EngineClock>
> =>
  Layer.unwrap(
    Effect.map(Clock.Clock, (ambient) => {
      const startAt = options.startAt?.getTime() ?? ambient.currentTimeMillisUnsafe()
      const driver = makeDriver({ startAt, patienceMs: options.patienceMs })
      const { maxConcurrent = 100 } = options
      const { pollIntervalMs } = driver.workerOptions

      const watched = Layer.effect(
        WorkflowStore,
        Effect.gen(function* () {
          const inner = yield* WorkflowStore
          yield* inner.migrate
          return driver.activity.watch(inner)
        }),
      )
      const service = Layer.effect(
        TestDriver,
        Effect.gen(function* () {
          driver.attach(yield* Engine)
          const worker = yield* Worker
          driver.attachWorker(() => worker.health().running)
          return TestDriver.of({
            settle: driver.settle,
            runUntilSettled: driver.runUntilSettled,
            advance: (duration) =>
              Effect.suspend(() => driver.advanceBy(Duration.toMillis(duration))),
          })
        }),
      )
      const engine = service.pipe(
        Layer.provideMerge(workerLayer({ ...driver.workerOptions, maxConcurrent })),
        Layer.provideMerge(engineLayer({ pollIntervalMs, useNotify: false })),
        Layer.provideMerge(watched),
        Layer.provide(store),
        Layer.provide(layerEffect),
        Layer.provide(Layer.succeed(Clock.Clock, driver.clock.internal)),
      )
      return Layer.merge(engine, Layer.succeed(Clock.Clock, driver.clock.user))
    }),
  )

/**
 * Moves the engine's time forward; everything that becomes due on the way happens, in order.
 *
 * @category combinators
 * @since 0.1.0
 */
export const advance = (duration: Duration.Input): Effect.Effect<void, StoreError, TestDriver> =>
  Effect.flatMap(TestDriver, (driver) => driver.advance(duration))

/**
 * Waits, without moving time, until nothing happens any more.
 *
 * @category combinators
 * @since 0.1.0
 */
export const settle: Effect.Effect<void, never, TestDriver> = Effect.flatMap(
  TestDriver,
  (driver) => driver.settle,
)

/**
 * Moves time from one due instant to the next until the run has settled. Fails with `RunStuck`,
 * which says what the run waits for, where time alone does not bring it to its end.
 *
 * @category combinators
 * @since 0.1.0
 */
export const runUntilSettled = (
  workflowRunId: string,
  limits?: RunLimits,
): Effect.Effect<RunRow, RunStuck | RunNotFound | StoreError, TestDriver> =>
  Effect.flatMap(TestDriver, (driver) => driver.runUntilSettled(workflowRunId, limits))

/**
 * What a run did: its steps, sleeps and children, in order of completion.
 *
 * @category combinators
 * @since 0.1.0
 */
export const history = (
  workflowRunId: string,
): Effect.Effect<ReadonlyArray<HistoryEntry>, StoreError, Engine> =>
  Effect.flatMap(Engine, (engine) => Effect.map(engine.getSteps(workflowRunId), historyOf))

/**
 * The events that a run emitted, in order.
 *
 * @category combinators
 * @since 0.1.0
 */
export const emitted = (
  workflowRunId: string,
): Effect.Effect<ReadonlyArray<Emitted>, StoreError, Engine> =>
  Effect.flatMap(Engine, (engine) => Effect.map(engine.getEvents(workflowRunId), emittedOf))
