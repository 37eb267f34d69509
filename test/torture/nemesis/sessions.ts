/** What happens to sessions: an operator ends them, and a user's own session holds rows of runs. */
import pg from "pg"
import type { Dice } from "../../support/dice.ts"
import type { Observer } from "../observer.ts"
import type { Harm } from "./nemesis.ts"

/** `pg_terminate_backend` of one of the engine's sessions. */
export const terminating = (given: {
  readonly observer: Observer
  readonly dice: Dice
  readonly times: number
  readonly everyMs: number
  readonly tell: (who: string, what: string) => void
}): Harm => ({
  name: "backend kills",
  times: given.times,
  everyMs: given.everyMs,
  poisson: true,
  act: async () => {
    const { observer, dice, tell } = given
    const sessions = await observer.query<{ pid: number; usename: string; state: string }>(
      `select pid, usename, state from pg_stat_activity
      where datname = current_database() and application_name like 'flowly%' order by pid`,
    )
    if (sessions.length === 0) return false
    // one that is at work, or in a transaction, rather than one that idles
    const busy = sessions.filter(({ state }) => state !== "idle")
    const { pid, usename } = dice.pick(busy.length > 0 && dice.chance(0.5) ? busy : sessions)
    tell("nemesis", `ends session ${pid} of ${usename}`)
    await observer.query("select pg_terminate_backend($1)", [pid])
    return true
  },
})

/** Rows of runs that nobody could write, and when. */
export interface RowLock {
  readonly runs: ReadonlyArray<string>
  readonly from: number
  readonly to: number
}

/**
 * A session of the application locks the rows of some runs, for up to one and a half leases. It waits
 * for no lock itself.
 */
export const locking = (
  given: {
    readonly url: string
    readonly dice: Dice
    readonly leaseMs: number
    readonly times: number
    readonly everyMs: number
    readonly tell: (who: string, what: string) => void
  },
  locks: Array<RowLock>,
): Harm => ({
  name: "row locks",
  times: given.times,
  everyMs: given.everyMs,
  act: async () => {
    const { url, dice, leaseMs, tell } = given
    const client = new pg.Client({ connectionString: url, application_name: "torture-locker" })
    client.on("error", () => undefined)
    await client.connect()
    try {
      await client.query("begin")
      const { rows } = await client.query<{ workflow_run_id: string }>(
        `select workflow_run_id from durable_workflow.workflow_runs
        where worker_id is not null order by workflow_run_id
        offset $1 limit $2 for update skip locked`,
        [dice.whole(0, 5), dice.whole(1, 8)],
      )
      const from = Date.now()
      const ms = Math.round(leaseMs * (0.2 + 1.3 * dice.roll()))
      tell(
        "nemesis",
        `locks ${rows.length} runs for ${ms} ms: ${rows.map((r) => r.workflow_run_id.slice(-6)).join()}`,
      )
      await new Promise((resolve) => setTimeout(resolve, ms))
      const waiting = await client.query<{ usename: string; ms: number; query: string }>(
        `select usename, (extract(epoch from clock_timestamp() - state_change) * 1000)::int as ms,
          left(regexp_replace(query, '\\s+', ' ', 'g'), 120) as query
        from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`,
      )
      for (const { usename, ms: waited, query } of waiting.rows) {
        tell("nemesis", `${usename} has waited for a lock for ${waited} ms: ${query}`)
      }
      await client.query("rollback")
      locks.push({ runs: rows.map((row) => row.workflow_run_id), from, to: Date.now() })
      return rows.length > 0
    } finally {
      await client.end()
    }
  },
})
