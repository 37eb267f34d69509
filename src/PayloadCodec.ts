/**
 * Payload codecs: what an application does to values before they are stored, and undoes when they are
 * read. Encryption, compression.
 *
 * They stand between the engine and its store, whichever it is: inputs, results of steps and runs,
 * events, heartbeats, values of tokens and errors go through them; names, keys, attributes, status
 * texts, reasons and times do not, because the store searches and compares them. Everything above the
 * store works on what was meant: inputs are compared, and sizes limited, before a codec.
 *
 * A codec is plain code, called at once, for each value: fetch keys before. It may answer something
 * else for the same value each time. An engine without codecs pays nothing for them.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { codedStore } from "./codec/codedStore.ts"
import { makeCoding } from "./codec/coding.ts"
import type { InvalidInput } from "./FlowlyError.ts"
import { WorkflowStore } from "./WorkflowStore.ts"

/**
 * Bytes of a value's JSON to bytes that are stored, and back.
 *
 * @category models
 * @since 0.1.0
 */
export interface PayloadCodec {
  /**
   * Is stored with each value, and finds the codec that reads it: another key, another name. At most 32
   * characters: `a-z`, `0-9`, dot, dash, underscore.
   */
  readonly name: string
  /** A codec that throws here pauses the run, or rejects the call. */
  readonly encode: (bytes: Uint8Array) => Uint8Array
  /** Throws what it did not write. Whatever needs the value then pauses its run. */
  readonly decode: (bytes: Uint8Array) => Uint8Array
}

/**
 * @category models
 * @since 0.1.0
 */
export interface PayloadCodecs {
  /** Writes, and reads what it wrote. Default: values are stored as they are. */
  readonly write?: PayloadCodec | undefined
  /** Read what they wrote earlier. What was stored without a codec is always read. */
  readonly read?: ReadonlyArray<PayloadCodec> | undefined
}

/**
 * The store behind the codecs.
 *
 * **Example** (Encrypted payloads, and those of last year's key)
 *
 * ```ts
 * const Store = PostgresStore.layerUrl({ url }).pipe(
 *   PayloadCodec.withCodecs({ write: key2026, read: [key2025] }),
 *   Layer.provide(EngineClock.layerStore)
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const withCodecs =
  (codecs: PayloadCodecs) =>
  <E, R>(
    store: Layer.Layer<WorkflowStore, E, R>,
  ): Layer.Layer<WorkflowStore, E | InvalidInput, R> =>
    Layer.effect(
      WorkflowStore,
      Effect.flatMap(Effect.fromResult(makeCoding(codecs)), (coding) =>
        Effect.map(WorkflowStore, (made) => codedStore(made, coding)),
      ),
    ).pipe(Layer.provide(store))
