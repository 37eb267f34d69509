/**
 * A worker process in the Effect API: its run executes a step, and waits for an event meanwhile.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { layer as engineLayer } from "../../src/Engine.ts"
import { layerStore } from "../../src/EngineClock.ts"
import * as Event from "../../src/Event.ts"
import * as PostgresStore from "../../src/PostgresStore.ts"
import * as Step from "../../src/Step.ts"
import { layer as workerLayer } from "../../src/Worker.ts"
import type { FromWorker, ProcessConfig } from "./harness.ts"
import { Listening } from "./listening.ts"
import { openWitness } from "./witness.ts"

const config = JSON.parse(process.env["FLOWLY_PROCESS"] ?? "{}") as ProcessConfig
const tell = (message: FromWorker) => process.send?.(message)
const witness = openWitness(config.url)

const ListeningLive = Listening.toLayer(() =>
  Effect.gen(function* () {
    const held = Step.make("held", {
      run: ({ signal, workflowRunId }) =>
        Effect.promise(async () => {
          tell({ type: "passed", point: "start held", run: workflowRunId })
          await witness.seen(workflowRunId, "heard", signal)
        }),
    })
    const heard = Effect.gen(function* () {
      const event = yield* Event.wait("word")
      yield* Step.make("heard", {
        run: ({ workflowRunId, idempotencyKey }) =>
          Effect.promise(() => witness.note(workflowRunId, "heard", idempotencyKey)),
      })
      return event._tag === "Some" ? String(event.value) : "nothing"
    })
    const [, word] = yield* Effect.all([held, heard], { concurrency: "unbounded" })
    return word
  }),
)

const app = Layer.mergeAll(ListeningLive, workerLayer(config.worker)).pipe(
  Layer.provide(engineLayer()),
  Layer.provide(PostgresStore.layerUrl({ url: config.url, schema: config.schema })),
  Layer.provide(layerStore),
)
process.once("disconnect", () => process.exit(0))
tell({ type: "ready" })
Effect.runFork(Layer.launch(app))
