/**
 * Reading runs, for people and for handles.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { RunStatus } from "../Run.ts"
import type { RunRow, StoreError } from "../WorkflowStore.ts"
import type { Database, Parameter } from "./database.ts"
import { clock, int, ms, runColumns, toRunRow } from "./rows.ts"
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
    select ${runColumns("r")}
    from ${database.names.runs} r
    where r.workflow_run_id = any($1::uuid[])`
  return Effect.fnUntraced(function* (ids) {
    const known = uuids(ids)
    if (known.length === 0) return []
    return (yield* database.read("getRuns", statement, [known])).map(toRunRow)
  })
}

type ListOptions = {
  readonly statuses: ReadonlyArray<RunStatus> | null
  readonly workflow: string | null
  readonly parentRunId: string | null
  readonly before: string | null
  readonly limit: number
}

/** Newest first, by id (UUIDv7 begins with the time). */
export const listRuns = (
  database: Database,
): ((options: ListOptions) => Effect.Effect<ReadonlyArray<RunRow>, StoreError>) =>
  Effect.fnUntraced(function* (options) {
    const { statuses, workflow, parentRunId, before, limit } = options
    if (parentRunId !== null && !isUuid(parentRunId)) return []
    if (before !== null && !isUuid(before)) return []
    const parameters: Array<Parameter> = [String(limit)]
    const conditions: Array<string> = []
    // Only the filters in use are in the text: `$1 is null or …` would keep the planner from indexes.
    const filter = (condition: (parameter: string) => string, value: Parameter) => {
      if (value === null) return
      parameters.push(value)
      conditions.push(condition(`$${parameters.length}`))
    }
    filter((p) => `r.status = any(${p}::text[])`, statuses)
    filter((p) => `r.workflow = ${p}::text`, workflow)
    filter((p) => `r.parent_run_id = ${p}::uuid`, parentRunId)
    filter((p) => `r.workflow_run_id < ${p}::uuid`, before)
    const rows = yield* database.read(
      "listRuns",
      `select ${runColumns("r")}
      from ${database.names.runs} r
      ${conditions.length === 0 ? "" : `where ${conditions.join("\n        and ")}`}
      order by r.workflow_run_id desc
      limit $1::int`,
      parameters,
    )
    return rows.map(toRunRow)
  })
