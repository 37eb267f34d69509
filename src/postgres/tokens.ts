/**
 * Tokens: which step of a run issued one. A run's records are few and lie together, so this is a
 * range of the primary key, and no index is kept for it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../WorkflowStore.ts"
import type { Database } from "./database.ts"
import { textOrNull } from "./rows.ts"
import { isUuid } from "./uuids.ts"

/** The step key of a recorded token. */
export const findToken = (
  database: Database,
): ((options: {
  readonly workflowRunId: string
  readonly token: string
}) => Effect.Effect<string | null, StoreError>) => {
  const statement = `
    select s.step_key
    from ${database.names.steps} s
    where s.workflow_run_id = $1::uuid and s.kind = 'token' and s.status = 'completed'
      and s.result = pg_catalog.to_jsonb($2::text)`
  return Effect.fnUntraced(function* ({ workflowRunId, token }) {
    // NUL is no text of Postgres, and of no token
    if (!isUuid(workflowRunId) || token.includes("\0")) return null
    const rows = yield* database.read("findToken", statement, [workflowRunId, token])
    return textOrNull(rows[0]?.["step_key"])
  })
}
