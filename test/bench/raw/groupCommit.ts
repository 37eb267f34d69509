/**
 * The limit of throughput: a fenced group commit, written by hand on `pg`.
 *
 * What is not in flight waits for the next batch, as in flowly's journal: one lane, one statement
 * per batch, `unnest` arrays, each row fenced by the run's token under its lock, and a step's
 * promise resolves after the commit. It has no retries, timers, events, waits, leases or replay.
 */
import pg from "pg"
import type { Meter, Working } from "../process/meter.ts"

export interface GroupCommitJob {
  readonly kind: "group-commit"
  readonly url: string
  readonly concurrency: number
  readonly workerId: string
  /** Runs are this worker's already: the loop only reads them. */
  readonly claimed: boolean
}

interface Claimed {
  readonly run_id: string
  readonly claim_token: string
  readonly input: { readonly n: number }
}

interface Write {
  readonly run: Claimed
  /** `null`: the run's end. */
  readonly step: string | null
  readonly position: number
  readonly result: string
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

const claim = {
  name: "claim",
  text: `
    with free as (
      select run_id from runs where worker_id is null and completed_at is null
      order by run_id limit $1::int for no key update skip locked
    )
    update runs r set worker_id = $2::uuid, claim_token = r.claim_token + 1, status = 'running'
    from free where r.run_id = free.run_id
    returning r.run_id, r.claim_token, r.input`,
}

const commit = {
  name: "commit",
  text: `
    with batch as materialized (
      select * from unnest($1::uuid[], $2::bigint[], $3::text[], $4::int[], $5::text[])
        as x(run_id, token, step_key, position, result)
    ),
    held as materialized (
      select b.* from batch b join runs r on r.run_id = b.run_id
        and case when r.claim_token = b.token then r.worker_id is not null else false end
      for no key update of r
    ),
    recorded as (
      insert into steps (run_id, step_key, position, claim_token, status, result, completed_at)
      select run_id, step_key, position, token, 'completed', result::jsonb, clock_timestamp()
      from held where step_key is not null
    ),
    settled as (
      update runs r set status = 'completed', worker_id = null, result = h.result::jsonb,
        completed_at = clock_timestamp()
      from held h where r.run_id = h.run_id and h.step_key is null
    )
    select run_id from held`,
}

export const groupCommit = async (job: GroupCommitJob, meter: Meter): Promise<Working> => {
  const [lane, claims] = [new pg.Client(job.url), new pg.Client(job.url)]
  await Promise.all([lane.connect(), claims.connect()])
  let queue: Array<Write> = []
  let committing = false

  const flush = async () => {
    committing = true
    while (queue.length > 0) {
      const batch = queue
      queue = []
      try {
        const { rows } = await lane.query<{ readonly run_id: string }>({
          ...commit,
          values: [
            batch.map(({ run }) => run.run_id),
            batch.map(({ run }) => run.claim_token),
            batch.map(({ step }) => step),
            batch.map(({ position }) => position),
            batch.map(({ result }) => result),
          ],
        })
        const held = new Set(rows.map((row) => row.run_id))
        for (const { run, resolve, reject } of batch) {
          if (held.has(run.run_id)) resolve()
          else reject(new Error(`lost ${run.run_id}`))
        }
      } catch (error) {
        for (const { reject } of batch) reject(error as Error)
      }
    }
    committing = false
  }

  const write = (run: Claimed, step: string | null, position: number, result: string) =>
    new Promise<void>((resolve, reject) => {
      queue.push({ run, step, position, result, resolve, reject })
      if (!committing) {
        committing = true
        queueMicrotask(() => void flush())
      }
    })

  const execute = async (run: Claimed) => {
    let { n } = run.input
    let position = 0
    for (const step of ["one", "two", "three"]) {
      n = await Promise.resolve(n + 1)
      await write(run, step, ++position, JSON.stringify(n))
    }
    await write(run, null, 0, JSON.stringify({ n }))
    meter.done()
  }

  /** As many as are free, again and again, until none comes. */
  const claimAll = async () => {
    let active = 0
    let freed = Promise.withResolvers<void>()
    const leave = () => {
      active--
      freed.resolve()
    }
    for (;;) {
      if (active === job.concurrency) await freed.promise
      freed = Promise.withResolvers<void>()
      const values = [job.concurrency - active, job.workerId]
      const { rows } = await claims.query<Claimed>({ ...claim, values })
      if (rows.length === 0) return
      active += rows.length
      for (const run of rows) void execute(run).then(leave, meter.fail)
    }
  }

  /** The runs are ours: no claim is counted. */
  const readAll = async () => {
    const { rows } = await claims.query<Claimed>(
      "select run_id, claim_token, input from runs where worker_id = $1 order by run_id",
      [job.workerId],
    )
    let next = 0
    const slot = async () => {
      for (let run = rows[next++]; run !== undefined; run = rows[next++]) await execute(run)
    }
    return () => Promise.all(Array.from({ length: job.concurrency }, slot))
  }

  const read = job.claimed ? await readAll() : claimAll
  let closing = false
  return {
    start: async () => {
      // the claim that finds nothing more may still be under way when all is done
      void read().catch((error: unknown) => {
        if (!closing) meter.fail(error)
      })
    },
    close: async () => {
      closing = true
      await Promise.all([lane.end(), claims.end()])
    },
  }
}
