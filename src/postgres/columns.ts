/**
 * A batch as one array per column, for `unnest`.
 *
 * The server reads arrays three times as fast as the same rows as JSON (Postgres 18, 200 rows, round
 * trip: 1.3 against 3.9 ms for the columns of a record, 0.4 against 2.0 ms for those of a write), and
 * the rows are the largest part of what a batch costs it. So the statements of the hot path take
 * columns; what is rare in a row travels in one JSON column (`more`), and rare batches as JSON
 * (`batch.ts`).
 *
 * Each array stands in a subselect, which hides its length from the planner: a plan made for the one
 * row of this very call looks cheaper than the general one, and so Postgres would plan anew each time.
 *
 * A value that is its column's default is not sent, and a column that has its default in every row is an
 * empty array: of a step's record that leaves three arrays of eleven.
 *
 * A batch of one row is that row: its values are the parameters.
 *
 * Each array is bound as its text: drivers disagree about arrays with nulls, empty ones and numbers
 * beyond 32 bits, and about text they agree.
 *
 * @since 0.1.0
 */

/** What a column may hold. JSON is given as its text. */
export type Value = string | number | boolean | null | undefined

/** One column: its type in SQL, and its value in a row. */
export interface Column<in A> {
  readonly type: "int" | "bigint" | "float8" | "text" | "uuid" | "boolean" | "jsonb"
  readonly get: (row: A, index: number) => Value
  /** SQL: what a null stands for, in terms of the row `x` and its `place` (from 1). */
  readonly otherwise?: string
}

/** The columns of a batch. */
export interface Columns<in A> {
  readonly size: number
  /** SQL: the rows as `alias`, from `size` parameters beginning with number `first`. */
  readonly rows: (alias: string, first: number) => string
  /** The parameters. */
  readonly parameters: (rows: ReadonlyArray<A>) => ReadonlyArray<string>
  /** SQL: the one row of a batch that has no other, its values the parameters themselves. */
  readonly row: (alias: string, first: number) => string
  /** The parameters of `row`. */
  readonly parametersOfRow: (row: A) => ReadonlyArray<string | null>
}

/** A batch of these columns, in this order. */
export const columns = <A>(given: Readonly<Record<string, Column<A>>>): Columns<A> => {
  const names = Object.keys(given)
  const all = Object.values(given)
  const list = all.map(({ otherwise }, i) => selected(names[i]!, otherwise)).join(", ")
  return {
    size: all.length,
    rows: (alias, first) =>
      `(select ${list}
    from rows from (${all.map(({ type }, i) => `pg_catalog.unnest((select $${first + i}::${type}[]))`).join(", ")})
      with ordinality as x(${names.join(", ")}, place)) as ${alias}`,
    row: (alias, first) =>
      `(select ${list}
    from (values (${all.map(({ type }, i) => `$${first + i}::${type}`).join(", ")}, 1::bigint))
      as x(${names.join(", ")}, place)) as ${alias}`,
    parameters: (rows) => all.map(({ get }) => arrayText(rows, get)),
    parametersOfRow: (row) =>
      all.map(({ get }) => {
        const value = get(row, 0)
        return value === null || value === undefined ? null : String(value)
      }),
  }
}

const selected = (name: string, otherwise: string | undefined): string =>
  otherwise === undefined ? `x.${name}` : `coalesce(x.${name}, ${otherwise}) as ${name}`

/** SQL: the place of row `x` in its batch, from 0. */
export const placeOf = "(x.place - 1::bigint)::int"

/** Nulls at the end are left out: `unnest` fills them up, to the length of the longest column. */
const arrayText = <A>(rows: ReadonlyArray<A>, get: Column<A>["get"]): string => {
  let text = ""
  let nulls = 0
  for (let i = 0; i < rows.length; i++) {
    const value = get(rows[i]!, i)
    if (value === null || value === undefined) {
      nulls++
      continue
    }
    if (nulls > 0) text += "NULL,".repeat(nulls)
    nulls = 0
    text += element(value)
  }
  return `{${text.slice(0, -1)}}`
}

const special = /["\\]/
const specials = /["\\]/g

/** With the comma behind it. */
const element = (value: string | number | boolean): string => {
  if (typeof value !== "string") return `${value},`
  return special.test(value) ? `"${value.replace(specials, "\\$&")}",` : `"${value}",`
}
