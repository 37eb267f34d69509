/** A process that migrates: `node migrateProcess.ts <url> <schema>`, twenty of them at once. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as EngineClock from "../../src/EngineClock.ts"
import * as PostgresStore from "../../src/PostgresStore.ts"
import { WorkflowStore } from "../../src/WorkflowStore.ts"

const [url, schema] = process.argv.slice(2)

await Effect.runPromise(
  Effect.gen(function* () {
    const store = yield* WorkflowStore
    // Together: everybody has connected before anybody begins.
    yield* store.now
    process.send?.("ready")
    yield* Effect.promise(() => new Promise((resolve) => process.once("message", resolve)))
    yield* store.migrate
    yield* store.verify({ worker: false, listen: false })
  }).pipe(
    Effect.provide(
      PostgresStore.layerUrl({ url: url!, schema: schema!, maxConnections: 1 }).pipe(
        Layer.provide(EngineClock.layerStore),
      ),
    ),
  ),
)
process.disconnect?.()
