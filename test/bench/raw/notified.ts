/**
 * The limit of latency: a worker that listens, claims one run, records its step, completes it and
 * tells so. A commit for the claim, and one for the step and the end together.
 */
import pg from "pg"
import type { Meter, Working } from "../process/meter.ts"

export interface NotifiedJob {
  readonly kind: "notified"
  readonly url: string
  readonly workerId: string
}

const claim = {
  name: "claim",
  text: `
    with free as (
      select run_id from runs where worker_id is null and completed_at is null
      order by run_id limit 1 for no key update skip locked
    )
    update runs r set worker_id = $1::uuid, claim_token = r.claim_token + 1, status = 'running'
    from free where r.run_id = free.run_id
    returning r.run_id, r.claim_token, r.input`,
}

export const endOfRun = {
  name: "end_of_run",
  text: `
    with held as materialized (
      select run_id from runs
      where run_id = $1::uuid and claim_token = $2::bigint and worker_id is not null
      for no key update
    ),
    recorded as (
      insert into steps (run_id, step_key, position, claim_token, status, result, completed_at)
      select run_id, 'one', 1, $2::bigint, 'completed', $3::jsonb, clock_timestamp() from held
    ),
    settled as (
      update runs r set status = 'completed', worker_id = null, result = $3::jsonb,
        completed_at = clock_timestamp()
      from held h where r.run_id = h.run_id
    )
    select pg_notify('settled', '') from held`,
}

export const notified = async (job: NotifiedJob, meter: Meter): Promise<Working> => {
  const [listener, client] = [new pg.Client(job.url), new pg.Client(job.url)]
  await Promise.all([listener.connect(), client.connect()])
  let looking: Promise<void> = Promise.resolve()

  const look = async () => {
    for (;;) {
      const { rows } = await client.query<{
        readonly run_id: string
        readonly claim_token: string
        readonly input: { readonly n: number }
      }>({ ...claim, values: [job.workerId] })
      const [run] = rows
      if (run === undefined) return
      const result = JSON.stringify(run.input.n + 1)
      await client.query({ ...endOfRun, values: [run.run_id, run.claim_token, result] })
      meter.done()
    }
  }
  listener.on("notification", () => {
    looking = looking.then(look).catch(meter.fail)
  })
  return {
    start: async () => void (await listener.query("listen work")),
    close: async () => {
      await looking
      await Promise.all([listener.end(), client.end()])
    },
  }
}
