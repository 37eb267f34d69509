/**
 * What the outside world saw, in tables of its own, over connections that pass neither the proxy nor
 * the engine's pool. Nothing in them is ever taken back.
 *
 * - `ledger`: each beginning of a step's body or undo, before it does anything; `sink` takes each
 *   idempotency key once, as a careful service would; `endings` says how a try ended, if its process
 *   lived to tell.
 * - `transfers`: written through the client that `ctx.transaction` hands out, and nowhere else.
 * - `told`: what bodies saw and decided, in the order in which they did.
 *
 * All processes and the server share one machine: their clocks are one.
 */
import { randomBytes } from "node:crypto"
import pg from "pg"

export const witnessTables = `
  create schema torture;
  create table torture.ledger (
    seq bigint generated always as identity primary key,
    nonce text not null unique,
    what text not null,
    run uuid not null,
    step text not null,
    key text not null,
    attempt int not null,
    run_attempt int not null,
    worker text not null,
    began_at timestamptz not null,
    at timestamptz not null default clock_timestamp()
  );
  create index on torture.ledger (run);
  create table torture.sink (key text primary key, run uuid not null, step text not null);
  create table torture.endings (
    nonce text not null, how text not null, ended_at timestamptz not null
  );
  create table torture.transfers (
    run uuid not null, step text not null, nonce text not null, worker text not null
  );
  create table torture.told (
    seq bigint generated always as identity primary key,
    execution text not null,
    worker text not null,
    run uuid not null,
    attempt int not null,
    kind text not null,
    site text not null,
    value text not null,
    at timestamptz not null
  )`

/** One beginning of a body. */
export interface Beginning {
  readonly what: "step" | "undo"
  readonly run: string
  readonly step: string
  readonly key: string
  readonly attempt: number
  readonly runAttempt: number
}

/** Something that a body saw or decided. */
export interface Told {
  readonly execution: string
  readonly run: string
  readonly attempt: number
  /** `begun`, `seen`, `note`, `sleep` */
  readonly kind: string
  readonly site: string
  readonly value: string
}

export interface Witness {
  readonly worker: string
  /** Resolves with the try's nonce, when it stands. */
  readonly begin: (beginning: Beginning) => Promise<string>
  /** Resolves when it stands. */
  readonly end: (nonce: string, how: string) => Promise<void>
  readonly tell: (told: Told) => void
  readonly close: () => Promise<void>
}

const begin = `
  with effect as (
    insert into torture.sink (key, run, step)
    select $6, $3, $4 where $2 = 'step' on conflict do nothing
  )
  insert into torture.ledger
    (nonce, what, run, step, worker, key, attempt, run_attempt, began_at)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
  on conflict (nonce) do nothing`

const endings = `
  insert into torture.endings (nonce, how, ended_at)
  select * from json_to_recordset($1::json) as x(nonce text, how text, ended_at timestamptz)`

const told = `
  insert into torture.told (execution, worker, run, attempt, kind, site, value, at)
  select x.* from json_to_recordset($1::json) as x(
    execution text, worker text, run uuid, attempt int, kind text, site text, value text,
    at timestamptz
  )`

const flushMs = 40

/** Sees nothing. */
export const blindWitness = (worker: string): Witness => ({
  worker,
  begin: async () => randomBytes(9).toString("base64url"),
  end: async () => undefined,
  tell: () => undefined,
  close: async () => undefined,
})

/** The witness of one process. It writes until it has written: the server may be away. */
export const openWitness = (url: string, worker: string): Witness => {
  const pool = new pg.Pool({
    connectionString: url,
    max: 3,
    allowExitOnIdle: true,
    application_name: "torture-witness",
    connectionTimeoutMillis: 5000,
  })
  pool.on("error", () => {})
  let closed = false
  const write = async (text: string, values: Array<unknown>): Promise<void> => {
    for (;;) {
      try {
        await pool.query(text, values)
        return
      } catch (error) {
        if (closed) throw error
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }
  }
  let ended: Array<unknown> = []
  let heard: Array<unknown> = []
  let flushing: Promise<void> | null = null
  const flush = async (): Promise<void> => {
    while (ended.length > 0 || heard.length > 0) {
      const [someEnded, someHeard] = [ended, heard]
      ended = []
      heard = []
      if (someEnded.length > 0) await write(endings, [JSON.stringify(someEnded)])
      if (someHeard.length > 0) await write(told, [JSON.stringify(someHeard)])
    }
  }
  const soon = (): Promise<void> => {
    flushing ??= new Promise((resolve) => setTimeout(resolve, flushMs))
      .then(flush)
      .catch(() => undefined)
      .finally(() => {
        flushing = null
        if (ended.length + heard.length > 0 && !closed) void soon()
      })
    return flushing
  }
  return {
    worker,
    begin: async ({ what, run, step, key, attempt, runAttempt }) => {
      // before anything is awaited: this is when the body began
      const beganAt = new Date()
      const nonce = randomBytes(9).toString("base64url")
      await write(begin, [nonce, what, run, step, worker, key, attempt, runAttempt, beganAt])
      return nonce
    },
    end: (nonce, how) => {
      ended.push({ nonce, how, ended_at: new Date() })
      return soon()
    },
    tell: (one) => {
      heard.push({ ...one, worker, at: new Date() })
      void soon()
    },
    close: async () => {
      await flushing
      await flush()
      closed = true
      await pool.end()
    },
  }
}
