/**
 * Children whose parent has ended. Whoever ends a run may die before it has told the children; so they
 * are looked for by what is true of them, whatever ended the parent, and told again.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../WorkflowStore.ts"
import { orphansStatement } from "./control.ts"
import type { Database } from "./database.ts"
import { text } from "./rows.ts"
import { uuids } from "./uuids.ts"

export const cancelOrphans = (
  database: Database,
): ((options: { readonly limit: number }) => Effect.Effect<number, StoreError>) => {
  const n = database.names
  // the index holds the open children that may have to go: few, and none at rest
  const find = `
    select distinct c.parent_run_id::text as id
    from ${n.runs} c
    join ${n.runs} p on p.workflow_run_id = c.parent_run_id
    where c.parent_run_id is not null and c.completed_at is null
      and c.cancel_requested_at is null and not c.outlives_parent
      and not c.compensating and p.completed_at is not null
    limit $1::int`
  // a child that is locked elsewhere is found again
  const ask = orphansStatement(n, "its parent ended", "skip locked")
  return Effect.fnUntraced(function* ({ limit }) {
    const rows = yield* database.read("cancelOrphans", find, [String(limit)])
    if (rows.length === 0) return 0
    const parents = uuids(rows.map((row) => text(row["id"])))
    yield* database.write("cancelOrphans", ask, [yield* database.now, parents])
    return rows.length
  })
}
