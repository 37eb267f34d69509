/**
 * A batch as one JSON text, for `json_to_recordset`.
 *
 * One parameter whatever the batch's size, so the statement's text (and its plan) stays the same,
 * and both drivers bind it alike. Payloads are put in as they stand, already JSON: they are parsed
 * once, by the server. JSON `null` becomes SQL NULL on the way, so a payload that *is* null is
 * told by its codec: see `payload`.
 *
 * @since 0.1.0
 */

/** JSON text to be put in as it stands. */
export class RawJson {
  readonly json: string
  constructor(json: string) {
    this.json = json
  }
}

export type Field = string | number | boolean | null | undefined | RawJson

/** Rows as one JSON text. `null` and `undefined` fields are left out: they read as NULL. */
export const batch = <A>(
  items: ReadonlyArray<A>,
  fields: (item: A, index: number) => Readonly<Record<string, Field>>,
): string => {
  let json = "["
  for (let i = 0; i < items.length; i++) {
    json += i === 0 ? "{" : ",{"
    const row = fields(items[i]!, i)
    let first = true
    for (const key in row) {
      const value = row[key]
      if (value === null || value === undefined) continue
      json += `${first ? "" : ","}"${key}":${value instanceof RawJson ? value.json : JSON.stringify(value)}`
      first = false
    }
    json += "}"
  }
  return json + "]"
}

/** SQL: a payload column of a batch's row, where JSON null is a value and its absence is not. */
export const payload = (codec: string, json: string): string =>
  `case when ${codec} is not null then coalesce(${json}, 'null'::jsonb) end`

// Postgres's last timestamp is in the year 294276; beyond this one a delay means "never" all the same.
const maxMilliseconds = 8_000_000_000_000_000

/** Milliseconds that every timestamp computed from them can hold. */
export const boundedMs = (milliseconds: number | null): number | null => {
  if (milliseconds === null) return null
  if (Number.isNaN(milliseconds)) return 0
  return Math.max(-maxMilliseconds, Math.min(maxMilliseconds, milliseconds))
}
