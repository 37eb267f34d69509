/**
 * The control log: one row per accepted verb, among the run's events, in the verb's own statement.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { ControlEntry, ControlVerb } from "../Control.ts"
import type { StoreError } from "../WorkflowStore.ts"
import type { Database, Row } from "./database.ts"
import type { Names } from "./names.ts"
import { int, ms, text, textOrNull } from "./rows.ts"
import { uuids } from "./uuids.ts"

/**
 * SQL: logs the verb for each row of `from`, which has `id` (the run) and `at`; `reason` and `detail`
 * are expressions over it, text and jsonb.
 */
export const logControl = (
  n: Names,
  options: {
    readonly verb: ControlVerb
    readonly from: string
    readonly reason: string
    readonly detail?: string
  },
): string => `
  insert into ${n.events} (workflow_run_id, direction, name, payload_codec, payload, created_at)
  select x.id, 'control', '${options.verb}', 'json',
    pg_catalog.jsonb_build_object('reason', ${options.reason}, 'detail', ${options.detail ?? "'{}'::jsonb"}),
    x.at
  from ${options.from}
  returning 1`

export const getControls = (
  database: Database,
): ((workflowRunId: string) => Effect.Effect<ReadonlyArray<ControlEntry>, StoreError>) => {
  const statement = `
    select e.event_id, e.workflow_run_id::text as workflow_run_id, e.name,
      e.payload->>'reason'::text as reason, (e.payload->'detail'::text)::text as detail,
      ${ms("e.created_at")} as created_at
    from ${database.names.events} e
    where e.workflow_run_id = any($1::uuid[]) and e.direction = 'control'
    order by e.event_id`
  return Effect.fnUntraced(function* (workflowRunId) {
    const rows = yield* database.read("getControls", statement, [uuids([workflowRunId])])
    return rows.map(toControlEntry)
  })
}

const toControlEntry = (row: Row): ControlEntry => ({
  controlId: int(row["event_id"]),
  workflowRunId: text(row["workflow_run_id"]),
  verb: text(row["name"]) as ControlVerb,
  reason: textOrNull(row["reason"]),
  detail: JSON.parse(text(row["detail"])) as ControlEntry["detail"],
  createdAt: int(row["created_at"]),
})
