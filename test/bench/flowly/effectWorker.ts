/** The same three steps in the Effect API, with Schemas. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Schema from "effect/Schema"
import {
  Engine,
  EngineClock,
  PostgresStore,
  Step,
  Worker,
  Workflow,
  WorkflowStore,
} from "../../../src/effect.ts"
import type { Meter, Working } from "../process/meter.ts"
import { telemetry } from "./telemetry.ts"

export interface EffectJob {
  readonly kind: "effect"
  readonly url: string
  readonly concurrency: number
  /** Where spans and metrics are sent; absent: there are none. */
  readonly collector?: string
}

const ThreeSteps = Workflow.make("three-steps-effect", {
  payload: { n: Schema.Number },
  success: Schema.Struct({ n: Schema.Number }),
})

const ThreeStepsLive = ThreeSteps.toLayer(
  Effect.fnUntraced(function* (payload) {
    let { n } = payload
    for (const name of ["one", "two", "three"]) {
      n = yield* Step.make(name, { success: Schema.Number, run: Effect.succeed(n + 1) })
    }
    return { n }
  }),
)

const storeAt = (url: string) =>
  PostgresStore.layerUrl({ url }).pipe(Layer.provide(EngineClock.layerStore))

export const effectWorker = async (job: EffectJob, meter: Meter): Promise<Working> => {
  const counting = Layer.effectDiscard(
    Effect.map(Engine.Engine, (engine) => {
      engine.onLifecycle(({ type }) => {
        if (type === "workflow:completed") meter.done()
        if (type === "workflow:failed") meter.fail(new Error("a run failed"))
      })
    }),
  )
  const working = Layer.mergeAll(
    ThreeStepsLive,
    counting,
    Worker.layer({ maxConcurrent: job.concurrency }),
  )
  const { collector } = job
  const watched = collector === undefined ? working : Layer.provide(working, telemetry(collector))
  const app = watched.pipe(Layer.provide(Engine.layer()), Layer.provide(storeAt(job.url)))
  const runtime = ManagedRuntime.make(app)
  return {
    start: () => runtime.runPromise(Effect.void),
    close: () => runtime.dispose(),
  }
}

/** Creates the tables and enqueues runs, as a process without a worker does. */
export const enqueueEffect = async (url: string, runs: number): Promise<void> => {
  const app = Layer.provideMerge(Engine.layer(), storeAt(url))
  const enqueueAll = Effect.gen(function* () {
    const store = yield* WorkflowStore.WorkflowStore
    yield* store.migrate
    yield* Effect.forEach(
      Array.from({ length: runs }, (_, n) => n),
      (n) => Workflow.trigger(ThreeSteps, { n }),
      { concurrency: 1000, discard: true },
    )
  })
  const exit = await Effect.runPromiseExit(Effect.provide(enqueueAll, app))
  if (Exit.isFailure(exit)) throw new Error(String(exit.cause))
}
