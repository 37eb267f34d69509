/**
 * Reading runs, for people and for handles.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { isTerminal } from "../Run.ts"
import type { RunRow, RunSelection, StoreError } from "../WorkflowStore.ts"
import { boundedMs } from "./batch.ts"
import type { Database, Parameter } from "./database.ts"
import type { Names } from "./names.ts"
import { at, clock, int, ms, runColumns, toRunRow } from "./rows.ts"
import { isUuid, uuids } from "./uuids.ts"

/** The store's clock. */
export const readClock = (database: Database): Effect.Effect<number, StoreError> => {
  const statement = `select ${ms(clock("$1"))} as now`
  return Effect.flatMap(database.now, (now) =>
    Effect.map(database.read("now", statement, [now]), (rows) => int(rows[0]?.["now"])),
  )
}

export const getRuns = (
  database: Database,
): ((ids: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<RunRow>, StoreError>) => {
  const statement = `
    select ${runColumns(database.names, "r")}
    from ${database.names.runs} r
    where r.workflow_run_id = any($1::uuid[])`
  return Effect.fnUntraced(function* (ids) {
    const known = uuids(ids)
    if (known.length === 0) return []
    return (yield* database.read("getRuns", statement, [known])).map(toRunRow)
  })
}

/** Newest first, by id (UUIDv7 begins with the time). */
export const listRuns = (
  database: Database,
): ((
  options: RunSelection & { readonly before: string | null; readonly limit: number },
) => Effect.Effect<ReadonlyArray<RunRow>, StoreError>) =>
  Effect.fnUntraced(function* (options) {
    const { before, limit } = options
    if (before !== null && !isUuid(before)) return []
    const list = listStatement(database.names, options, before, limit)
    if (list === null) return []
    return (yield* database.read("listRuns", list.text, list.parameters)).map(toRunRow)
  })

export const countRuns = (
  database: Database,
): ((selection: RunSelection) => Effect.Effect<number, StoreError>) =>
  Effect.fnUntraced(function* (selection) {
    const chosen = select(database.names, selection, null)
    if (chosen === null) return 0
    const text = `select count(*) as n from ${database.names.runs} r ${chosen.where}`
    const rows = yield* database.read("countRuns", text, chosen.parameters)
    return int(rows[0]?.["n"])
  })

/** Exported for the tests that read its plans. */
export const listStatement = (
  n: Names,
  selection: RunSelection,
  before: string | null,
  limit: number,
): { readonly text: string; readonly parameters: ReadonlyArray<Parameter> } | null => {
  const chosen = select(n, selection, before)
  if (chosen === null) return null
  const parameters = [...chosen.parameters, String(limit)]
  const text = `select ${runColumns(n, "r")}
    from ${n.runs} r
    ${chosen.where}
    order by r.workflow_run_id desc
    limit $${parameters.length}::int`
  return { text, parameters }
}

/**
 * Only the filters in use are in the text: `$1 is null or …` would keep the planner from indexes.
 * `null`: nothing can be selected.
 */
const select = (n: Names, selection: RunSelection, before: string | null) => {
  const { statuses, parentRunId } = selection
  if (parentRunId !== null && !isUuid(parentRunId)) return null
  const parameters: Array<Parameter> = []
  const conditions: Array<string> = []
  const bind = (value: Parameter): string => `$${parameters.push(value)}`
  const filter = (condition: (parameter: string) => string, value: Parameter | undefined): void => {
    if (value !== null && value !== undefined) conditions.push(condition(bind(value)))
  }
  filter((p) => `r.status = any(${p}::text[])`, statuses)
  // what the index of runs under way asks for
  if (statuses?.every((status) => !isTerminal(status))) conditions.push("r.completed_at is null")
  filter((p) => `r.workflow = ${p}::text`, selection.workflow)
  filter((p) => `r.parent_run_id = ${p}::uuid`, parentRunId)
  filter((p) => `r.idempotency_key = ${p}::text`, selection.idempotencyKey)
  filter((p) => `r.concurrency_key = ${p}::text`, selection.concurrencyKey)
  filter((p) => `r.created_at >= ${at(p)}`, text(selection.createdFrom))
  filter((p) => `r.created_at < ${at(p)}`, text(selection.createdBefore))
  filter((p) => `r.workflow_run_id < ${p}::uuid`, before)
  for (const [name, value] of Object.entries(selection.attributes ?? {})) {
    conditions.push(`r.workflow_run_id in (
        select a.workflow_run_id from ${n.attributes} a
        where a.name <> '' and a.name = ${bind(name)}::text
          and a.value = ${bind(JSON.stringify(value))}::jsonb
      )`)
  }
  const where = conditions.length === 0 ? "" : `where ${conditions.join("\n      and ")}`
  return { where, parameters }
}

const text = (value: number | null | undefined): string | null =>
  value == null ? null : String(boundedMs(value))
