/** The raw loops: single-row commits with `pg`, and nothing else. */
import pg from "pg"
import { withClient } from "../support/provision.ts"
import { countCommits, freshDatabase } from "./database.ts"
import type { Sample } from "./flowly.ts"

const tables = `
  create table runs (id bigint primary key, status text not null, result jsonb);
  create table steps (
    run_id bigint, step_key text, result jsonb not null,
    completed_at timestamptz not null default clock_timestamp(), primary key (run_id, step_key)
  )`

const insertStep = {
  name: "insert_step",
  text: "insert into steps (run_id, step_key, result) values ($1, $2, $3)",
}
const completeRun = {
  name: "complete_run",
  text: "update runs set status = 'completed', result = $2 where id = $1",
}

/** Per run: one commit for each of three steps, one for its end. */
export const rawManyRuns = async (options: {
  readonly server: string
  readonly runs: number
  readonly concurrency: number
}): Promise<Sample> => {
  const { server, runs, concurrency } = options
  const database = await freshDatabase(server)
  await withClient(database.url, async (client) => {
    await client.query(tables)
    await client.query(
      "insert into runs (id, status) select n, 'pending' from generate_series(1, $1) n",
      [runs],
    )
  })
  let seconds = 0
  const commits = await countCommits(server, database.url, async () => {
    const clients = Array.from(
      { length: concurrency },
      () => new pg.Client({ connectionString: database.url }),
    )
    await Promise.all(clients.map((client) => client.connect()))
    let next = 1
    const before = performance.now()
    await Promise.all(
      clients.map(async (client) => {
        for (let id = next++; id <= runs; id = next++) {
          for (let step = 1; step <= 3; step++) {
            await client.query({ ...insertStep, values: [id, `step ${step}`, `{"n":${step}}`] })
          }
          await client.query({ ...completeRun, values: [id, `{"n":${id}}`] })
        }
      }),
    )
    seconds = (performance.now() - before) / 1000
    await Promise.all(clients.map((client) => client.end()))
  })
  await database.drop()
  return { units: runs, perSecond: runs / seconds, commits }
}

/** One commit for each step, one after another. */
export const rawLongRun = async (options: {
  readonly server: string
  readonly steps: number
}): Promise<Sample> => {
  const { server, steps } = options
  const database = await freshDatabase(server)
  await withClient(database.url, (client) => client.query(tables))
  let seconds = 0
  const commits = await countCommits(server, database.url, () =>
    withClient(database.url, async (client) => {
      const before = performance.now()
      for (let step = 1; step <= steps; step++) {
        await client.query({ ...insertStep, values: [1, `step ${step}`, `{"n":${step}}`] })
      }
      seconds = (performance.now() - before) / 1000
    }),
  )
  await database.drop()
  return { units: steps, perSecond: steps / seconds, commits }
}
