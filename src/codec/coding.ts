/**
 * Single values on their way through the payload codecs: to the store, and back.
 *
 * A coded value is `name:codec` (the payload codec's name before that of the value) with base64 in the
 * place of the JSON, so that it is known without its key for what it is, and read by the codec that
 * wrote it. Of an error, its name, class and tag stay readable: they are what code is matched by.
 *
 * Encoding throws (`PayloadCodecFailed`): a value that cannot be coded must not be stored as it is.
 * Decoding never does: what cannot be read stays what is stored, with the reason, and whoever needs
 * the value refuses it there (`UnreadableValue`, which pauses a run). It is never coded once more.
 */
import * as Result from "effect/Result"
import type { StoredError } from "../ErrorPayload.ts"
import { InvalidInput, PayloadCodecFailed } from "../FlowlyError.ts"
import { type Encoded, hardMaxBytes } from "../Payload.ts"
import type { PayloadCodec, PayloadCodecs } from "../PayloadCodec.ts"

/** Both ways, for values and for errors. */
export interface Coding {
  readonly encode: (value: Encoded) => Encoded
  readonly decode: (value: Encoded) => Encoded
  readonly encodeError: (error: StoredError) => StoredError
  readonly decodeError: (error: StoredError) => StoredError
}

const separator = ":"
const validName = /^[a-z0-9][a-z0-9._-]{0,31}$/
const utf8 = new TextDecoder("utf-8", { fatal: true })

/** What is wrong with the codecs, or how they code. */
export const makeCoding = (codecs: PayloadCodecs): Result.Result<Coding, InvalidInput> => {
  const { write, read = [] } = codecs
  const readers = new Map<string, PayloadCodec>()
  const all = [
    ...(write === undefined ? [] : [["payloadCodecs.write", write] as const]),
    ...(Array.isArray(read) ? read : [read]).map(
      (one: PayloadCodec, i) => [`payloadCodecs.read[${i}]`, one] as const,
    ),
  ]
  for (const [field, codec] of all) {
    const reason = refusalOf(codec, readers)
    if (reason !== null) return Result.fail(new InvalidInput({ field, reason }))
    readers.set(codec.name, codec)
  }
  const encode = (value: Encoded): Encoded =>
    write === undefined || isCoded(value) ? value : codedBy(write, value)
  const decode = (value: Encoded): Encoded => (isCoded(value) ? decodedBy(readers, value) : value)
  return Result.succeed({
    encode,
    decode,
    encodeError: (error) => (write === undefined ? error : codedError(write, error)),
    decodeError: (error) => decodedError(decode, error),
  })
}

const refusalOf = (codec: unknown, taken: ReadonlyMap<string, unknown>): string | null => {
  const { name, encode, decode } = (codec ?? {}) as Partial<PayloadCodec>
  if (typeof name !== "string" || !validName.test(name)) {
    return "must have a name of at most 32 characters: a-z, 0-9, dot, dash and underscore"
  }
  if (typeof encode !== "function" || typeof decode !== "function") {
    return "must have the functions encode and decode, from bytes to bytes"
  }
  return taken.has(name) ? `another codec is named "${name}", too` : null
}

const isCoded = ({ codec }: Encoded): boolean => codec.includes(separator)

const messageOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).slice(0, 200)

const codedBy = (codec: PayloadCodec, value: Encoded): Encoded => ({
  codec: `${codec.name}${separator}${value.codec}`,
  json: codedText(codec, value.json),
})

/** JSON text, of a string in base64. */
const codedText = (codec: PayloadCodec, text: string): string => {
  const failed = (reason: string) => new PayloadCodecFailed({ codec: codec.name, reason })
  let bytes: unknown
  try {
    bytes = codec.encode(Buffer.from(text))
  } catch (error) {
    throw failed(messageOf(error))
  }
  if (!(bytes instanceof Uint8Array)) throw failed("encode must answer a Uint8Array, and at once")
  const coded = `"${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64")}"`
  if (coded.length > hardMaxBytes) {
    throw failed(`it made ${coded.length} bytes of a value, more than the limit of ${hardMaxBytes}`)
  }
  return coded
}

const decodedBy = (readers: ReadonlyMap<string, PayloadCodec>, value: Encoded): Encoded => {
  const end = value.codec.indexOf(separator)
  const name = value.codec.slice(0, end)
  const codec = readers.get(name)
  if (codec === undefined) {
    const reason = `it was stored with the payload codec "${name}", which is not configured here`
    return { ...value, unreadable: reason }
  }
  try {
    const bytes = codec.decode(Buffer.from(JSON.parse(value.json), "base64"))
    return { codec: value.codec.slice(end + 1), json: utf8.decode(bytes) }
  } catch (error) {
    const reason = `the payload codec "${name}" could not read it: ${messageOf(error)}`
    return { ...value, unreadable: reason }
  }
}

/** An error whose texts cannot be coded is stored all the same, without them. */
const codedError = (codec: PayloadCodec, error: StoredError): StoredError => {
  const { name, class: ofClass, tag } = error
  const open = {
    name,
    ...(ofClass === undefined ? {} : { class: ofClass }),
    ...(tag === undefined ? {} : { tag }),
  }
  try {
    const coded = codedBy(codec, { codec: "json", json: JSON.stringify(error) })
    return { ...open, message: `[stored with the payload codec "${codec.name}"]`, coded }
  } catch {
    return { ...open, message: `[lost: the payload codec "${codec.name}" failed]` }
  }
}

/** Stores put one error under another as its cause, without reading either. */
const decodedError = (decode: Coding["decode"], error: StoredError): StoredError => {
  const cause = error.cause === undefined ? null : decodedError(decode, error.cause)
  const opened = error.coded === undefined ? error : openedError(decode, error, error.coded)
  return cause === null ? opened : { ...opened, cause }
}

const openedError = (
  decode: Coding["decode"],
  error: StoredError,
  coded: NonNullable<StoredError["coded"]>,
): StoredError => {
  const { json, unreadable } = decode(coded)
  if (unreadable === undefined) {
    try {
      return decodedError(decode, JSON.parse(json) as StoredError)
    } catch {
      // no JSON: what was read with the wrong key, by a codec that cannot tell
    }
  }
  return { ...error, message: `[${unreadable ?? "it is not what was stored"}]` }
}
