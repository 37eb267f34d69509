/** The limits of latency: milliseconds from a start to its visible end, one after another. */
import pg from "pg"
import { openWorker } from "../process/workers.ts"
import { endOfRun } from "./notified.ts"
import { createRawTables } from "./tables.ts"

/** Pauses, so that whatever works is idle at the next start. */
export const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 10))

/** Takes so many samples, after some that are not counted. */
export const latencies = async (
  count: number,
  one: (n: number) => Promise<unknown>,
): Promise<ReadonlyArray<number>> => {
  const taken: Array<number> = []
  for (let n = -30; n < count; n++) {
    await pause()
    const before = performance.now()
    await one(n)
    if (n >= 0) taken.push(performance.now() - before)
  }
  return taken
}

/** In one process: an insert that is claimed already, then the step and the end. */
export const rawSameProcess = async (url: string, count: number) => {
  await createRawTables(url)
  const client = new pg.Client(url)
  await client.connect()
  const workerId = crypto.randomUUID()
  const insert = {
    name: "insert",
    text: `insert into runs (run_id, status, worker_id, claim_token, input, created_at)
      values ($1::uuid, 'running', $2::uuid, 1, $3::jsonb, clock_timestamp())`,
  }
  const taken = await latencies(count, async (n) => {
    const runId = crypto.randomUUID()
    await client.query({ ...insert, values: [runId, workerId, `{"n":${n}}`] })
    await client.query({ ...endOfRun, values: [runId, "1", String(n + 1)] })
  })
  await client.end()
  return taken
}

/** Insert and NOTIFY; the worker of another process claims, records, completes; NOTIFY; read. */
export const rawOtherProcess = async (url: string, count: number) => {
  await createRawTables(url)
  const worker = await openWorker({ kind: "notified", url, workerId: crypto.randomUUID() })
  const [client, listener] = [new pg.Client(url), new pg.Client(url)]
  try {
    await worker.start()
    await Promise.all([client.connect(), listener.connect()])
    await listener.query("listen settled")
    let told = () => {}
    listener.on("notification", () => told())
    const insert = {
      name: "insert",
      text: `with started as (
          insert into runs (run_id, status, claim_token, input, created_at)
          values ($1::uuid, 'pending', 0, $2::jsonb, clock_timestamp())
        )
        select pg_notify('work', '')`,
    }
    const read = { name: "read", text: "select status, result from runs where run_id = $1::uuid" }
    const taken = await latencies(count, async (n) => {
      const runId = crypto.randomUUID()
      const hint = new Promise<void>((resolve) => {
        told = resolve
      })
      await client.query({ ...insert, values: [runId, `{"n":${n}}`] })
      await hint
      const { rows } = await client.query<{ readonly status: string }>({ ...read, values: [runId] })
      if (rows[0]?.status !== "completed") throw new Error("told of an end that is not there")
    })
    await worker.stop()
    return taken
  } finally {
    worker.kill()
    await Promise.all([client.end(), listener.end()])
  }
}
