/**
 * The default codec of values: inputs, results, events, everything a run remembers.
 *
 * Plain JSON is stored as plain JSON, so that people can query the jsonb column; a value with more
 * in it (Date, Map, bigint, bytes, undefined, NaN …) as one JSON string that holds devalue's text,
 * out of reach of jsonb, which reorders keys and rewrites numbers.
 * The invariant: `decode(encode(value))` is what every later replay sees, on every store. So keys
 * are written in jsonb's order, and whatever would silently come back as something else is refused
 * here, before anything is written, with the path to it.
 *
 * What to know. Records come back as ordinary objects, errors as `Error`, Buffers as Buffers.
 * An object used twice in plain JSON is written twice; devalue keeps the identity; nobody should
 * rely on it. `toJSON` is never called: what it makes is another value than the type promises.
 * Properties of an array that are not elements are dropped, as in JSON.
 *
 * @since 0.1.0
 */
import { isDeepStrictEqual } from "node:util"
import * as Result from "effect/Result"
import { decodeError, encodeError, type StoredError } from "./ErrorPayload.ts"
import { PayloadTooLarge, SerializationError } from "./FlowlyError.ts"
import { differences } from "./payload/differences.ts"
import { plainJson } from "./payload/plainJson.ts"
import { decodeRich, encodeRich, Rejection } from "./payload/richJson.ts"

/**
 * A value as it is stored: the codec that wrote it, and valid JSON text, ready to bind as jsonb.
 *
 * @category models
 * @since 0.1.0
 */
export interface Encoded {
  readonly codec: "json" | "devalue" | (string & {})
  readonly json: string
  /** Why a payload codec could not undo what was done to the value: it is given as it is stored. */
  readonly unreadable?: string | undefined
}

/**
 * The limit of one value unless the caller sets another: 1 MiB of stored text.
 *
 * @category limits
 * @since 0.1.0
 */
export const defaultMaxBytes = 1_048_576

/**
 * The limit that no setting lifts: 8 MiB. The driver cannot read a message above 16 MiB, and jsonb
 * text grows by up to half on its way back (a blank after each comma and colon).
 *
 * @category limits
 * @since 0.1.0
 */
export const hardMaxBytes = 8 * 1_048_576

/**
 * The stored form of a value. `field` says what it is, for the error message. For a value beyond
 * `hardMaxBytes` the size in the error is a lower bound: the rest is not looked at.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = (
  value: unknown,
  options: { readonly field: string; readonly maxBytes?: number },
): Result.Result<Encoded, SerializationError | PayloadTooLarge> => {
  const limitBytes = Math.min(options.maxBytes ?? defaultMaxBytes, hardMaxBytes)
  const text = plainJson(value, hardMaxBytes)
  if (typeof text === "number") {
    return Result.fail(new PayloadTooLarge({ field: options.field, bytes: text, limitBytes }))
  }
  if (text !== undefined) return withinLimit("json", text, options.field, limitBytes)
  try {
    const rich = JSON.stringify(encodeRich(value, encodeError))
    return withinLimit("devalue", rich, options.field, limitBytes)
  } catch (error) {
    if (!(error instanceof Rejection)) throw error
    const { path, reason } = error
    return Result.fail(new SerializationError({ field: options.field, path, reason }))
  }
}

/**
 * The value of a stored form.
 *
 * Throws when the codec is unknown, or the text is not what that codec writes: data from a newer
 * version, or changed by hand.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode = (encoded: Encoded): unknown => {
  switch (encoded.codec) {
    case "json":
      return JSON.parse(encoded.json)
    case "devalue":
      return decodeRich(JSON.parse(encoded.json), (stored) => decodeError(stored as StoredError))
    default:
      if (encoded.unreadable !== undefined) throw new Error(encoded.unreadable)
      throw new Error(
        `a value was stored with the codec "${encoded.codec}", which this version does not know: ` +
          `upgrade flowly, or configure the codec that wrote it`,
      )
  }
}

/**
 * Whether two stored forms hold the same value: what makes a second trigger with the same
 * idempotency key harmless. The order of keys, and the way Postgres prints jsonb, do not matter.
 *
 * @category comparing
 * @since 0.1.0
 */
export const sameValue = (a: Encoded, b: Encoded): boolean => {
  if (a.codec === b.codec && a.json === b.json) return true
  if (isKnown(a) && isKnown(b)) return isDeepStrictEqual(decode(a), decode(b))
  return a.codec === b.codec && isDeepStrictEqual(JSON.parse(a.json), JSON.parse(b.json))
}

/**
 * Where a stored value differs from another one, as paths in the own (`$.items[2].price`), at most ten;
 * empty where they do not. Of the other nothing is told: neither what it holds nor its keys.
 *
 * @category comparing
 * @since 0.1.0
 */
export const differingPaths = (other: Encoded, own: Encoded): ReadonlyArray<string> => {
  if (sameValue(other, own)) return []
  if (isKnown(other) && isKnown(own)) return differences(decode(other), decode(own))
  if (other.unreadable !== undefined) return [`$ (${other.unreadable})`]
  return ["$"]
}

const isKnown = ({ codec }: Encoded): boolean => codec === "json" || codec === "devalue"

const withinLimit = (
  codec: Encoded["codec"],
  json: string,
  field: string,
  limitBytes: number,
): Result.Result<Encoded, PayloadTooLarge> => {
  const bytes = Buffer.byteLength(json)
  return bytes > limitBytes
    ? Result.fail(new PayloadTooLarge({ field, bytes, limitBytes }))
    : Result.succeed({ codec, json })
}
