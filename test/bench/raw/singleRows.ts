/**
 * What a durable engine does without group commit, and nothing else: for each run three inserted rows
 * and one updated, each a commit of its own, on as many connections as runs are under way.
 */
import pg from "pg"

const insertStep = {
  name: "single-step",
  text: `
    insert into steps (run_id, step_key, position, claim_token, status, result, completed_at)
    values ($1::uuid, $2, $3::int, 1, 'completed', $4::jsonb, clock_timestamp())`,
}
const completeRun = {
  name: "single-end",
  text: `
    update runs set status = 'completed', result = $2::jsonb, completed_at = clock_timestamp()
    where run_id = $1::uuid`,
}

/** Runs per second. */
export const singleRows = async (options: {
  readonly url: string
  readonly concurrency: number
}): Promise<number> => {
  const clients = Array.from(
    { length: options.concurrency },
    () => new pg.Client({ connectionString: options.url }),
  )
  await Promise.all(clients.map((client) => client.connect()))
  try {
    const { rows } = await clients[0]!.query<{ readonly run_id: string }>("select run_id from runs")
    const ids = rows.map((row) => row.run_id)
    let next = 0
    const before = performance.now()
    await Promise.all(
      clients.map(async (client) => {
        for (let id = ids[next++]; id !== undefined; id = ids[next++]) {
          for (let step = 1; step <= 3; step++) {
            await client.query({ ...insertStep, values: [id, `step ${step}`, step, `${step}`] })
          }
          await client.query({ ...completeRun, values: [id, `{"n":3}`] })
        }
      }),
    )
    return (ids.length / (performance.now() - before)) * 1000
  } finally {
    await Promise.all(clients.map((client) => client.end()))
  }
}
