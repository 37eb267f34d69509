/**
 * A process that migrates whatever schema its parent names, as often as it is told:
 * `node migrator.ts <url> <name of its session>`.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as EngineClock from "../../src/EngineClock.ts"
import * as PostgresStore from "../../src/PostgresStore.ts"
import { WorkflowStore } from "../../src/WorkflowStore.ts"

const [url = "", applicationName = ""] = process.argv.slice(2)

const migrate = (schema: string) =>
  Effect.runPromise(
    Effect.gen(function* () {
      const store = yield* WorkflowStore
      yield* store.migrate
      yield* store.verify({ worker: false, listen: false })
    }).pipe(
      Effect.provide(
        PostgresStore.layerUrl({ url, schema, maxConnections: 1, applicationName }).pipe(
          Layer.provide(EngineClock.layerStore),
        ),
      ),
    ),
  )

process.on("message", (schema: string) => {
  migrate(schema).then(
    () => process.send?.({ schema, error: null }),
    (error: unknown) => process.send?.({ schema, error: String(error) }),
  )
})
process.once("disconnect", () => process.exit(0))
process.send?.("ready")
