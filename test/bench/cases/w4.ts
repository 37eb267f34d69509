/**
 * W4: replay: from the answer of the claim to the beginning of the first step that has no record.
 *
 * It reads the history, and runs the body through it. The limit only reads: the same columns of as
 * many rows, in order, on a warm connection. The body's first three records are the engine's; the
 * others are like them, written by SQL.
 */
import { createDatabaseOn, withClient } from "../../support/provision.ts"
import { lengthenHistory } from "../flowly/clone.ts"
import { beginRun, replay } from "../flowly/replay.ts"
import type { Case, Contender } from "../model.ts"
import { median } from "../statistics.ts"

/** Replays of one sample; it is their median. */
const times = 5

const rawLoad = (url: string): Promise<number> =>
  withClient(url, async (client) => {
    const load = {
      name: "load",
      text: `select step_key, name, kind, position, issued_after, status, attempts, result_codec,
          result::text as result, error::text as error, started_at, completed_at
        from durable_workflow.workflow_steps
        where workflow_run_id = (select workflow_run_id from durable_workflow.workflow_runs)
        order by position`,
    }
    await client.query(load)
    const taken: Array<number> = []
    for (let time = 0; time < times; time++) {
      const before = performance.now()
      const { rows } = await client.query<{ readonly result: string }>(load)
      for (const row of rows) JSON.parse(row.result)
      taken.push(performance.now() - before)
    }
    return median(taken)
  })

export const w4: Case = {
  id: "W4",
  title: "replay of recorded steps",
  prepare: async (bench) => {
    const databases = await Promise.all(
      bench.sizes.replays.map(async (steps) => {
        const database = await createDatabaseOn(bench.server)
        const workflowRunId = await beginRun(database.url)
        await withClient(database.url, async (client) => {
          await lengthenHistory(client, workflowRunId, steps)
          await client.query(
            `update durable_workflow.workflow_runs set input = jsonb_build_object('steps', $1::int)`,
            [steps],
          )
          await client.query("vacuum analyze")
        })
        return { ...database, steps }
      }),
    )
    return {
      contenders: databases.flatMap(({ url, steps }): ReadonlyArray<Contender> => {
        const raw = `raw load of ${steps}`
        return [
          { name: raw, unit: "ms", measure: async () => ({ value: await rawLoad(url) }) },
          {
            name: `flowly, replay of ${steps}`,
            unit: "ms",
            against: [raw],
            measure: async () => {
              const taken: Array<number> = []
              for (let time = 0; time < times; time++) taken.push(await replay(url))
              const value = median(taken)
              return { value, extras: { "µs per step": (value / steps) * 1000 } }
            },
          },
        ]
      }),
      targets: bench.sizes.replays.map((steps) => ({
        of: new RegExp(`^flowly, replay of ${steps}$`),
        figure: "value",
        over: "raw load",
        atMost: 3,
      })),
      close: async () => {
        for (const database of databases) await database.drop()
      },
    }
  },
}
