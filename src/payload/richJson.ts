/**
 * Values that are more than JSON, through devalue, and the reason for each value that is refused.
 *
 * One walk copies the value: it checks everything, keeps track of the path for the message, and
 * turns what devalue does not know (errors, Buffers, views of larger buffers) into what it does.
 * devalue then sees only our own copy: no getter runs twice, no forged tag or hidden byte passes.
 * Records are copied with their keys in jsonb's order, so equal values have equal texts.
 *
 * devalue was chosen over superjson 2.2.6 by test: superjson loses an invalid Date, ArrayBuffers,
 * holes in arrays and an error's code, refuses keys named `constructor`, turns a cycle into null
 * and writes shared objects out in full (25 MB where devalue writes 166 bytes), and is 3.6 times
 * slower. devalue does not promise a stable format, so a test holds one: when it changes with an
 * upgrade, the new format needs a new codec name beside the old.
 *
 * @since 0.1.0
 */
import { types } from "node:util"
import * as devalue from "devalue"
import * as Effect from "effect/Effect"
import { contentSymbol, isBaseClass, isRecord, maxDepth, sortKeys, textFlaw } from "./plainJson.ts"

/** Why a value cannot be stored, thrown by `encodeRich`. Never leaves the codec. */
export class Rejection {
  readonly path: string
  readonly reason: string
  constructor(path: string, reason: string) {
    this.path = path
    this.reason = reason
  }
}

/** The devalue text of a value. Errors inside it are stored by `storeError`. */
export const encodeRich = (value: unknown, storeError: (error: Error) => unknown): string => {
  if (value === undefined) return "-1"
  const walk: Walk = { path: [], open: new Set(), copies: new Map(), storeError }
  try {
    return devalue.stringify(copy(value, walk), reducers)
  } catch (error) {
    if (error instanceof Rejection) throw error
    if (error instanceof RangeError && /call stack/i.test(error.message)) {
      throw new Rejection("$", "it nests too deep for what is left of the call stack")
    }
    throw new Rejection(formatPath(walk.path), `reading it threw ${describeThrown(error)}`)
  }
}

/** The value of a devalue text. Errors inside it are restored by `restoreError`. */
export const decodeRich = (text: string, restoreError: (stored: unknown) => unknown): unknown =>
  devalue.parse(text, {
    Error: restoreError,
    Buffer: ([base64]: [string]) => Buffer.from(base64, "base64"),
  })

/** Whether a value is an Error of this or another realm. May throw what a proxy throws. */
export const isError = (value: unknown): value is Error =>
  value instanceof Error || types.isNativeError(value)

interface Walk {
  readonly path: Array<Segment>
  /** Objects that contain the value being copied: meeting one again is a cycle. */
  readonly open: Set<object>
  readonly copies: Map<object, unknown>
  readonly storeError: (error: Error) => unknown
}

type Segment =
  | string
  | number
  | symbol
  | { readonly mapKey: unknown }
  | { readonly setIndex: number }

class StoredAs {
  readonly tag: "Error" | "Buffer"
  readonly data: unknown
  constructor(tag: "Error" | "Buffer", data: unknown) {
    this.tag = tag
    this.data = data
  }
}

const reducers = {
  Error: (value: unknown) => value instanceof StoredAs && value.tag === "Error" && value.data,
  Buffer: (value: unknown) => value instanceof StoredAs && value.tag === "Buffer" && value.data,
}

const copy = (value: unknown, walk: Walk): unknown => {
  switch (typeof value) {
    case "string":
      return checkText(value, walk)
    case "function":
      return reject(walk, `${describeFunction(value)} is not data`)
    case "symbol":
      return reject(walk, "a symbol is not data")
    case "object":
      return value === null ? null : copyObject(value, walk)
    default:
      return value
  }
}

const copyObject = (value: object, walk: Walk): unknown => {
  if (walk.open.has(value)) {
    return reject(walk, "the value contains itself: store an id in place of the reference back")
  }
  if (walk.copies.has(value)) return walk.copies.get(value)
  if (walk.path.length >= maxDepth) {
    return reject(walk, `it nests deeper than ${maxDepth} levels`)
  }
  walk.open.add(value)
  const result = copyContents(value, walk)
  walk.open.delete(value)
  walk.copies.set(value, result)
  return result
}

const copyContents = (value: object, walk: Walk): unknown => {
  if (isError(value)) return new StoredAs("Error", walk.storeError(value))
  if (Array.isArray(value)) return copyArray(own(value, walk), walk)
  if (types.isDate(value)) return new Date(Date.prototype.getTime.call(own(value, walk)))
  if (types.isMap(value)) return copyMap(own(value, walk), walk)
  if (types.isSet(value)) return copySet(own(value, walk), walk)
  if (types.isRegExp(value)) return copyRegExp(own(value, walk), walk)
  if (ArrayBuffer.isView(value)) return copyView(value, walk)
  if (types.isArrayBuffer(value)) return value.slice(0)
  if (value instanceof URL) return new URL(value.href)
  if (value instanceof URLSearchParams) return new URLSearchParams(value)
  if (typeof (value as { then?: unknown }).then === "function") {
    return reject(walk, "a promise is not a value yet: did you forget `await`?")
  }
  if (!isRecord(value)) return reject(walk, classReason(value))
  return copyRecord(value as Record<string, unknown>, walk)
}

const copyRecord = (value: Readonly<Record<string, unknown>>, walk: Walk): unknown => {
  const symbol = contentSymbol(value)
  if (symbol !== undefined) {
    return at(symbol, walk, () => reject(walk, "a key that is a symbol cannot be stored"))
  }
  const result: Record<string, unknown> = {}
  for (const key of sortKeys(Object.keys(value))) {
    at(key, walk, () => {
      // Harmless here, but not where somebody merges the value into another object.
      if (key === "__proto__") reject(walk, "a key named __proto__ is refused")
      checkText(key, walk)
      result[key] = copy(value[key], walk)
    })
  }
  return result
}

/** By index where there is one, so that holes stay holes, and cost nothing. */
const copyArray = (value: ReadonlyArray<unknown>, walk: Walk): unknown => {
  const result: Array<unknown> = []
  for (const key of Object.keys(value)) {
    const index = Number(key)
    if (!(index < value.length && String(index) === key)) continue
    at(index, walk, () => {
      result[index] = copy(value[index], walk)
    })
  }
  if (result.length < value.length) setLength(result, value.length)
  return result
}

/** An element near the highest index first: V8 then allocates nothing for the holes. */
const setLength = (array: Array<unknown>, length: number): void => {
  const last = 2 ** 32 - 2
  if (length - array.length > 1024) {
    array[last] = undefined
    delete array[last]
  }
  array.length = length
}

const copyMap = (value: ReadonlyMap<unknown, unknown>, walk: Walk): unknown => {
  const result = new Map<unknown, unknown>()
  Map.prototype.forEach.call(value, (item: unknown, key: unknown) => {
    at({ mapKey: key }, walk, () => result.set(copy(key, walk), copy(item, walk)))
  })
  return result
}

const copySet = (value: ReadonlySet<unknown>, walk: Walk): unknown => {
  const result = new Set<unknown>()
  Set.prototype.forEach.call(value, (item: unknown) => {
    at({ setIndex: result.size }, walk, () => result.add(copy(item, walk)))
  })
  return result
}

const copyRegExp = (value: RegExp, walk: Walk): unknown => {
  checkText(value.source, walk)
  return new RegExp(value.source, value.flags)
}

/** Only the bytes of the view: the buffer below it may hold those of others (Node's pool). */
const copyView = (value: ArrayBufferView, walk: Walk): unknown => {
  if (types.isSharedArrayBuffer(value.buffer)) {
    return reject(walk, "shared memory cannot be stored: copy the bytes, new Uint8Array(value)")
  }
  const { buffer, byteLength, byteOffset } = value
  if (Buffer.isBuffer(value)) return new StoredAs("Buffer", [value.toString("base64")])
  const bytes = (buffer as ArrayBuffer).slice(byteOffset, byteOffset + byteLength)
  const name = types.isDataView(value) ? "DataView" : (value as Uint8Array)[Symbol.toStringTag]
  const View = (globalThis as unknown as Record<string, new (buffer: ArrayBuffer) => unknown>)[name]
  return View === undefined ? reject(walk, `a ${name} cannot be stored`) : new View(bytes)
}

const own = <A extends object>(value: A, walk: Walk): A =>
  isBaseClass(value) ? value : reject(walk, classReason(value))

const at = (segment: Segment, walk: Walk, body: () => unknown): unknown => {
  walk.path.push(segment)
  const result = body()
  walk.path.pop()
  return result
}

const checkText = (text: string, walk: Walk): string => {
  const flaw = textFlaw(text)
  return flaw === undefined ? text : reject(walk, `a string has ${flaw}`)
}

const reject = (walk: Walk, reason: string): never => {
  throw new Rejection(formatPath(walk.path), reason)
}

const classReason = (value: object): string => {
  const name = className(value)
  const instance =
    name === undefined ? "an object with a prototype of its own" : `an instance of ${name}`
  if (Effect.isEffect(value)) return `${instance} is not a value yet: did you forget \`yield*\`?`
  const remedy =
    typeof (value as { toJSON?: unknown }).toJSON === "function"
      ? "store what its toJSON() returns"
      : "store a plain object with what you need of it"
  return `${instance} would come back without its class: ${remedy}`
}

const className = (value: object): string | undefined => {
  const name: unknown = (value as { constructor?: { name?: unknown } }).constructor?.name
  return typeof name === "string" && name !== "" && name !== "Object" ? name : undefined
}

const describeFunction = (value: { readonly name: string }): string =>
  typeof value.name === "string" && value.name !== "" ? `a function (${value.name})` : "a function"

const describeThrown = (error: unknown): string => {
  try {
    return String(error)
  } catch {
    return "something that cannot be printed"
  }
}

const formatPath = (path: ReadonlyArray<Segment>): string => {
  const text = path.map(formatSegment)
  const shown = text.length <= 20 ? text : [...text.slice(0, 10), "…", ...text.slice(-10)]
  return `$${shown.join("")}`
}

const formatSegment = (segment: Segment): string => {
  if (typeof segment === "number") return `[${segment}]`
  if (typeof segment === "symbol") return `[${String(segment)}]`
  if (typeof segment === "string") {
    return /^[\p{ID_Start}_$][\p{ID_Continue}$]*$/u.test(segment)
      ? `.${segment}`
      : `[${JSON.stringify(segment)}]`
  }
  if ("setIndex" in segment) return `.values()[${segment.setIndex}]`
  const key = segment.mapKey
  if (typeof key === "string") return `.get(${JSON.stringify(key)})`
  const isPrimitive = key === null || (typeof key !== "object" && typeof key !== "function")
  return `.get(${isPrimitive ? String(key) : "…"})`
}
