/** The limits of one long run: a commit for each step, one after another, on one connection. */
import { withClient } from "../../support/provision.ts"

const bare = {
  name: "bare",
  text: `
    insert into steps (run_id, step_key, position, claim_token, status, result, completed_at)
    values ($1::uuid, $2, $3::int, $4::bigint, 'completed', $5::jsonb, clock_timestamp())`,
}

/** The same, if the run is still ours: checked under its lock. */
const fenced = {
  name: "fenced",
  text: `
    with held as materialized (
      select run_id from runs
      where run_id = $1::uuid and claim_token = $4::bigint and worker_id is not null
      for no key update
    )
    insert into steps (run_id, step_key, position, claim_token, status, result, completed_at)
    select run_id, $2::text, $3::int, $4::bigint, 'completed', $5::jsonb, clock_timestamp()
    from held
    returning step_key`,
}

/** Steps per second of the one run that is there, claimed by us with token 1. */
export const rawSequence = async (options: {
  readonly url: string
  readonly steps: number
  readonly fence: boolean
}): Promise<number> => {
  const { url, steps, fence } = options
  return withClient(url, async (client) => {
    const { rows } = await client.query<{ readonly run_id: string }>("select run_id from runs")
    const [run] = rows
    const statement = fence ? fenced : bare
    const before = performance.now()
    let n = 0
    for (let step = 1; step <= steps; step++) {
      n = await Promise.resolve(n + 1)
      const values = [run?.run_id, `step ${step}`, step, "1", JSON.stringify(n)]
      const { rowCount } = await client.query({ ...statement, values })
      if (rowCount !== 1) throw new Error("the run was lost")
    }
    return (steps / (performance.now() - before)) * 1000
  })
}
