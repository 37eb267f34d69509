/**
 * Where two values differ: paths, never what stands there.
 *
 * @since 0.1.0
 */
import { isDeepStrictEqual } from "node:util"

/** The first places, in the order of `a`, then of what only `b` has. */
export const differences = (a: unknown, b: unknown, most = 10): ReadonlyArray<string> => {
  const found: Array<string> = []
  const walk = (left: unknown, right: unknown, path: string): void => {
    if (found.length >= most || isDeepStrictEqual(left, right)) return
    if (Array.isArray(left) && Array.isArray(right)) {
      const length = Math.max(left.length, right.length)
      for (let i = 0; i < length && found.length < most; i++) {
        walk(left[i], right[i], `${path}[${i}]`)
      }
    } else if (isRecord(left) && isRecord(right)) {
      for (const key of new Set([...Object.keys(left), ...Object.keys(right)])) {
        if (found.length >= most) return
        const step = /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`
        walk(left[key], right[key], path + step)
      }
    } else found.push(path)
  }
  walk(a, b, "$")
  // equal but for what a path cannot show: a key that is undefined here and absent there
  return found.length === 0 ? ["$"] : found
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
