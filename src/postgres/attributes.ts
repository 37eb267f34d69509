/**
 * Attributes of runs, and their status texts (the attribute without a name): one row each, in a table
 * that a run touches only when it uses them.
 *
 * @since 0.1.0
 */
import type { Attributes } from "../Attributes.ts"
import { statusName } from "../Attributes.ts"
import type { Names } from "./names.ts"
import type { Row } from "./database.ts"

/** SQL: all attributes of run `r` as one JSON text; null where there are none. */
export const attributesColumn = (n: Names, r: string): string =>
  `(select pg_catalog.jsonb_object_agg(a.name, a.value)::text from ${n.attributes} a
      where a.workflow_run_id = ${r}.workflow_run_id) as attributes`

export const toAttributes = (
  row: Row,
): { readonly attributes: Attributes; readonly statusText: string | null } => {
  if (row["attributes"] == null) return { attributes: {}, statusText: null }
  const { [statusName]: statusText, ...attributes } = JSON.parse(
    String(row["attributes"]),
  ) as Attributes
  return { attributes, statusText: statusText === undefined ? null : String(statusText) }
}

/** SQL: inserts the attributes of new runs; `from` gives `id` and a jsonb object `attributes`. */
export const insertAttributes = (n: Names, from: string): string => `
  insert into ${n.attributes} (workflow_run_id, name, value)
  select x.id, a.key, a.value
  from ${from}
  cross join lateral jsonb_each(x.attributes) a
  returning 1`

/** SQL: what the runs of a batch publish; `held` is the fence. */
export const publishPart = (n: Names, parameter: string): string => `
published as (
  insert into ${n.attributes} as a (workflow_run_id, name, value)
  select h.run, p.key, p.value
  from json_to_recordset(${parameter}::json) as x(ord int, attributes jsonb)
  join held h on h.ord = x.ord
  cross join lateral jsonb_each(x.attributes) p
  on conflict (workflow_run_id, name) do update set value = excluded.value
    where a.value is distinct from excluded.value
)`
