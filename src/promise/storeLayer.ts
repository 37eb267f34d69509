/**
 * The store that an engine was set up with: in memory, over the application's pool, or behind a url.
 *
 * The user's pool is never ended by us. A url whose first connection fails is told as
 * `StoreUnavailable`, like every later one.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type { SqlError } from "effect/sql/SqlError"
import type { EngineClock } from "../EngineClock.ts"
import { StoreUnavailable } from "../FlowlyError.ts"
import { withCodecs } from "../PayloadCodec.ts"
import * as PostgresStore from "../PostgresStore.ts"
import type { WorkflowStore } from "../WorkflowStore.ts"
import { FlowlyError } from "./FlowlyError.ts"
import { memoryLayer, type MemoryWorkflowStore } from "./MemoryWorkflowStore.ts"
import type { DurableEngineOptions } from "./options.ts"

/**
 * The layer of the options' store; `memory` is what `setStore` was given, if it was called.
 */
export const storeLayer = (
  options: DurableEngineOptions,
  memory: MemoryWorkflowStore | null,
  engineClock: Layer.Layer<EngineClock>,
): Layer.Layer<WorkflowStore, unknown> => {
  const store = plainLayer(options, memory, engineClock)
  const { payloadCodecs } = options
  return payloadCodecs === undefined ? store : withCodecs(payloadCodecs)(store)
}

const plainLayer = (
  options: DurableEngineOptions,
  memory: MemoryWorkflowStore | null,
  engineClock: Layer.Layer<EngineClock>,
): Layer.Layer<WorkflowStore, unknown> => {
  if (memory !== null) return memoryLayer(memory)
  const { pool, url, schema, prepare } = options
  if (pool !== undefined) {
    return Layer.provide(PostgresStore.layerPool({ pool, schema, prepare }), engineClock)
  }
  if (url !== undefined) {
    return PostgresStore.layerUrl({ url: Redacted.make(url), schema, prepare }).pipe(
      Layer.provide(engineClock),
      Layer.catchCause((cause) => Layer.effectContext(Effect.fail(unreachable(cause)))),
    )
  }
  throw new FlowlyError(
    "InvalidInput",
    "pool: give a pg.Pool or a url, or call setStore(new MemoryWorkflowStore())",
  )
}

/** The first connection of a `url` could not be made. */
const unreachable = (cause: Cause.Cause<unknown>): unknown => {
  const error = Cause.squash(cause)
  if ((error as { readonly _tag?: unknown })._tag !== "SqlError") return error
  const { reason, message } = error as SqlError
  const text = reason.cause instanceof Error ? reason.cause.message : message
  return new StoreUnavailable({
    operation: "connect",
    outcome: "not-applied",
    reason: text,
    cause: error,
  })
}
