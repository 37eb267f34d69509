/**
 * A co-tenant's schema that stands first in everybody's search path.
 *
 * Postgres looks into `pg_catalog` before it, but prefers what fits the arguments *exactly*, wherever
 * that is: `unnest(text[])` of a co-tenant to its own `unnest(anyarray)`, `numeric * int` to `numeric
 * * numeric` (CVE-2018-1058). So this schema has a lookalike of each function and operator for which
 * the catalog has no exact match. Each fails loudly; in earnest it would do what the caller may do.
 */

/** Types that our statements handle. */
const types = [
  "text",
  "text[]",
  "uuid",
  "uuid[]",
  "json",
  "jsonb",
  "boolean",
  "smallint",
  "integer",
  "bigint",
  "double precision",
  "numeric",
  "timestamptz",
  "interval",
  "xid8",
]

const namesOf = (text: string): ReadonlyArray<string> => text.trim().split(/\s+/)

/** Which of them take what the catalog has no exact match for, or are there with the same arguments. */
const functions = namesOf(`
  array_agg array_length array_to_string cardinality ceil count floor isfinite json_agg
  json_array_elements jsonb_agg jsonb_array_elements jsonb_each jsonb_strip_nulls
  jsonb_typeof length lower max min pg_column_size row_to_json sum to_json to_jsonb
  to_timestamp unnest
`)

const functionsOfTwo = namesOf(`
  array_append array_cat array_position array_positions array_remove json_build_object
  jsonb_build_object jsonb_object_agg power mod concat
`)

/** Without arguments: the catalog's come first, and must be the ones that are used. */
const functionsOfNone = ["now", "clock_timestamp", "statement_timestamp", "pg_current_xact_id"]

/** What they answer, so that a statement that was taken in is still one. */
const operators: Readonly<Record<string, string | null>> = {
  ...Object.fromEntries("= <> < <= > >= @> <@ ?".split(" ").map((name) => [name, "boolean"])),
  ...Object.fromEntries("-> #>".split(" ").map((name) => [name, "jsonb"])),
  ...Object.fromEntries("->> #>>".split(" ").map((name) => [name, "text"])),
  // as their left side
  ...Object.fromEntries("+ - * / % ||".split(" ").map((name) => [name, null])),
}

/** Tables of ours, of another shape. */
const tables = ["workflow_runs", "workflow_steps", "workflow_events", "flowly_migrations"]

const trap = (what: string): string =>
  `language plpgsql as $trap$ begin raise exception 'hijacked: ${what.replaceAll("%", "%%")}'; end $trap$`

const fake = (name: string, parameters: ReadonlyArray<string>, returns: string): string =>
  `create function hostile."${name}"(${parameters.join(", ")}) returns ${returns} ${trap(`${name}(${parameters.join(", ")})`)}`

const pairs = types.flatMap((left) => types.map((right) => [left, right] as const))

/** As a superuser. */
export const hostileSchema = [
  "create schema hostile",
  "grant usage on schema hostile to public",
  ...tables.map((table) => `create table hostile.${table} (trap int)`),
  ...functionsOfNone.map((name) => fake(name, [], "timestamptz")),
  ...types.flatMap((type) => functions.map((name) => fake(name, [type], type))),
  ...pairs.flatMap((pair) => functionsOfTwo.map((name) => fake(name, pair, pair[0]))),
  ...pairs.map(([left, right]) =>
    fake("jsonb_build_object", ["text", left, "text", right], "jsonb"),
  ),
  ...pairs.flatMap(([left, right]) =>
    Object.entries(operators).flatMap(([name, answer]) => [
      fake(`trap ${name}`, [left, right], answer ?? left),
      `create operator hostile.${name}
        (function = hostile."trap ${name}", leftarg = ${left}, rightarg = ${right})`,
    ]),
  ),
].join(";\n")
