/**
 * Where a value differs from another one: paths in the own, nothing of the other.
 *
 * @since 0.1.0
 */
import { isDeepStrictEqual } from "node:util"

/**
 * The first places, as who knows `own` alone can name them. Where `other` has more, that is said of the
 * record or the array which has it: keys of somebody else's dictionary are somebody else's data.
 */
export const differences = (other: unknown, own: unknown, most = 10): ReadonlyArray<string> => {
  const found: Array<string> = []
  const walk = (left: unknown, right: unknown, path: string): void => {
    if (found.length >= most || isDeepStrictEqual(left, right)) return
    if (Array.isArray(left) && Array.isArray(right)) {
      for (let i = 0; i < right.length && found.length < most; i++) {
        walk(left[i], right[i], `${path}[${i}]`)
      }
      if (left.length > right.length) found.push(path)
    } else if (isRecord(left) && isRecord(right)) {
      for (const key of Object.keys(right)) {
        const step = /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`
        walk(Object.hasOwn(left, key) ? left[key] : undefined, right[key], path + step)
      }
      if (Object.keys(left).some((key) => !Object.hasOwn(right, key))) found.push(path)
    } else found.push(path)
  }
  walk(other, own, "$")
  // equal but for what a path cannot show: a key that is undefined here and absent there
  return found.length === 0 ? ["$"] : found.slice(0, most)
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
