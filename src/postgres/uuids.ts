/**
 * Ids come from users. One that is not a UUID names no run: it must not become a failed statement.
 *
 * @since 0.1.0
 */

const shape = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

export const isUuid = (id: string): boolean => shape.test(id)

/** Those that can name a run, once each. */
export const uuids = (ids: ReadonlyArray<string>): ReadonlyArray<string> => [
  ...new Set(ids.filter(isUuid)),
]
