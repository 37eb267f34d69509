/**
 * Values between a body and the store: with a Schema through its canonical JSON codec, without one
 * through the default codec. What a body sees is always decode(encode(value)), the first time too.
 *
 * Most Schemas ask for nothing: what they answer is there at once, and is not wrapped in effects that a
 * fiber would have to unwrap (the `Eager` combinators).
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { decodeError, encodeError, type StoredError } from "../ErrorPayload.ts"
import { type PayloadTooLarge, SerializationError } from "../FlowlyError.ts"
import * as Payload from "../Payload.ts"

/**
 * Any schema that needs no services.
 */
export type AnyCodec<A = any> = Schema.Codec<A, any>

/**
 * How values of one place are stored.
 */
export interface ValueCodec<A> {
  readonly encode: (
    value: A,
    field: string,
  ) => Effect.Effect<Payload.Encoded, SerializationError | PayloadTooLarge>
  /** Fails with the reason, which names the path. */
  readonly decode: (encoded: Payload.Encoded) => Effect.Effect<A, string>
}

/**
 * What is told of something that was thrown.
 */
export const reasonOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error)

const decodeJson = (encoded: Payload.Encoded): Effect.Effect<unknown, string> => {
  try {
    return Effect.succeed(Payload.decode(encoded))
  } catch (error) {
    return Effect.fail(reasonOf(error))
  }
}

/**
 * The default codec.
 */
export const anyValue: ValueCodec<any> = {
  encode: (value, field) => Effect.fromResult(Payload.encode(value, { field })),
  decode: decodeJson,
}

const known = new WeakMap<AnyCodec, ValueCodec<any>>()

/**
 * The codec of a Schema: the same for the same one, for a body asks anew at each of its steps.
 */
export const schemaValue = <A>(schema: AnyCodec<A>): ValueCodec<A> => {
  const made = known.get(schema)
  if (made !== undefined) return made
  const codec = makeSchemaValue(schema)
  known.set(schema, codec)
  return codec
}

const makeSchemaValue = <A>(schema: AnyCodec<A>): ValueCodec<A> => {
  const json = Schema.toCodecJson(schema)
  const encodeJson = Schema.encodeEffect(json)
  const decodeValue = Schema.decodeUnknownEffect(json)
  return {
    encode: (value, field) =>
      encodeJson(value).pipe(
        Effect.mapErrorEager(
          (error) => new SerializationError({ field, path: "$", reason: error.message }),
        ),
        // Schema says `undefined` for "nothing", which has no JSON
        Effect.flatMapEager((encoded) => Effect.fromResult(Payload.encode(encoded, { field }))),
      ),
    decode: (encoded) =>
      Effect.flatMapEager(decodeJson(encoded), (value) =>
        Effect.mapErrorEager(decodeValue(value), (error) => error.message),
      ),
  }
}

/**
 * The stored form of a typed failure: as any error, and as its Schema encodes it.
 */
export const encodeFailure = (
  schema: AnyCodec | null,
  error: unknown,
): Effect.Effect<StoredError> => {
  const stored = encodeError(error)
  if (schema === null) return Effect.succeed(stored)
  return Schema.encodeEffect(Schema.toCodecJson(schema))(error).pipe(
    Effect.map((fail): StoredError => ({ ...stored, fail })),
    Effect.catchCause(() => Effect.succeed(stored)),
  )
}

/**
 * A stored failure as its Schema reads it: `Typed`, or (a defect, a timeout, an error from before
 * the Schema) `Untyped`. Fails with the reason where the Schema refuses it.
 */
export const decodeFailure = (
  schema: AnyCodec | null,
  stored: StoredError,
): Effect.Effect<
  | { readonly _tag: "Typed"; readonly error: any }
  | { readonly _tag: "Untyped"; readonly error: unknown },
  string
> => {
  if (stored.coded !== undefined) return Effect.fail(stored.message)
  if (schema === null || stored.fail === undefined) {
    return Effect.succeed({ _tag: "Untyped", error: decodeError(stored) })
  }
  return Schema.decodeUnknownEffect(Schema.toCodecJson(schema))(stored.fail).pipe(
    Effect.map((error) => ({ _tag: "Typed" as const, error })),
    Effect.mapError((error) => error.message),
  )
}
