/**
 * What steps do to the world, as the world saw it: an append-only ledger, written through a
 * connection that is not the engine's. `effects` takes each idempotency key once, as a careful
 * service would; `ledger` takes every execution.
 */
import pg from "pg"

/** One execution of a step's body, or of an undo. */
export interface LedgerRow {
  readonly seq: number
  readonly run: string
  readonly step: string
  readonly key: string
  readonly pid: number
  readonly at: Date
}

export interface Witness {
  /** Notes that a body runs; answers the number of the note. */
  readonly note: (run: string, step: string, key: string) => Promise<number>
  /** Resolves when somebody has noted `step` for the run, or the signal aborts. */
  readonly seen: (run: string, step: string, signal: AbortSignal) => Promise<void>
  readonly close: () => Promise<void>
}

export const witnessTables = `
  create table ledger (
    seq bigint generated always as identity primary key,
    run uuid not null,
    step text not null,
    key text not null,
    pid int not null,
    at timestamptz not null default clock_timestamp()
  );
  create table effects (key text primary key, run uuid not null, step text not null);
  create table counted (run uuid not null, step text not null, result int not null)`

const note = `
  with effect as (
    insert into effects (key, run, step) values ($3, $1, $2) on conflict do nothing
  )
  insert into ledger (run, step, key, pid) values ($1, $2, $3, $4) returning seq::int as seq`

/** A witness on its own connections. */
export const openWitness = (url: string): Witness => {
  const pool = new pg.Pool({ connectionString: url, max: 2, allowExitOnIdle: true })
  pool.on("error", () => {})
  return {
    note: async (run, step, key) => {
      const { rows } = await pool.query<{ seq: number }>(note, [run, step, key, process.pid])
      return rows[0]?.seq ?? -1
    },
    seen: async (run, step, signal) => {
      while (!signal.aborted) {
        const { rows } = await pool.query("select from ledger where run = $1 and step = $2", [
          run,
          step,
        ])
        if (rows.length > 0) return
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    },
    close: () => pool.end(),
  }
}
