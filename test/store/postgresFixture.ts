/**
 * What the overlap tests stand on: one database, stores in fresh schemas whose clock the test sets, a
 * second connection that holds locks, statements that stop in the middle, and a proxy that cuts.
 */
import * as net from "node:net"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import pg from "pg"
import { EngineClock } from "../../src/EngineClock.ts"
import * as PostgresStore from "../../src/PostgresStore.ts"
import { WorkflowStore } from "../../src/WorkflowStore.ts"
import { createDatabase, type TestDatabase } from "../support/database.ts"
import { Fixture, start } from "./conformanceFixture.ts"

export interface Rig {
  readonly database: TestDatabase
  readonly schema: string
  readonly clock: { now: number }
  /** The second connection. */
  readonly other: pg.Client
  readonly query: (text: string, values?: Array<unknown>) => Promise<Array<any>>
  readonly layer: (options?: Partial<PostgresStore.UrlOptions>) => Layer.Layer<WorkflowStore, any>
}

let count = 0

/** A schema of its own, migrated, on a shared database. */
export const makeRig = async (database: TestDatabase): Promise<Rig> => {
  const schema = `overlap_${++count}`
  const clock = { now: start }
  const other = new pg.Client({ connectionString: database.url })
  other.on("error", () => {})
  await other.connect()
  await other.query(`create schema ${schema}`)
  await other.query(`set search_path = ${schema}`)
  const layer = (options: Partial<PostgresStore.UrlOptions> = {}) =>
    PostgresStore.layerUrl({ url: database.url, schema, maxConnections: 8, ...options }).pipe(
      Layer.provide(Layer.succeed(EngineClock, { now: Effect.sync(() => clock.now) })),
    )
  const query = async (text: string, values: Array<unknown> = []) =>
    (await other.query(text, values)).rows
  return { database, schema, clock, other, query, layer }
}

export { createDatabase }

/** Runs a test body on a store of the rig. */
export const onStore = <A>(
  rig: Rig,
  body: (s: Fixture) => Generator<Effect.Effect<any, any, any>, A, any>,
  options?: Partial<PostgresStore.UrlOptions>,
): Promise<A> =>
  Effect.runPromise(
    Effect.gen(function* () {
      const store = yield* WorkflowStore
      yield* store.migrate
      return yield* Effect.gen(() => body(new Fixture(store)))
    }).pipe(Effect.provide(rig.layer(options)), Effect.scoped) as Effect.Effect<A>,
  )

const gate = 4711

/** From now on, whatever writes the step "pause" stops there, holding its locks, until `open`. */
export const closeGate = async (rig: Rig): Promise<void> => {
  await rig.query(`select pg_advisory_lock(${gate})`)
  await rig.query(`create or replace function stop_here() returns trigger language plpgsql as
    'begin perform pg_advisory_xact_lock(${gate}); return new; end'`)
  await rig.query(`drop trigger if exists stop on workflow_steps`)
  await rig.query(`create trigger stop before insert on workflow_steps
    for each row when (new.step_key = 'pause') execute function stop_here()`)
}

export const openGate = (rig: Rig) => rig.query(`select pg_advisory_unlock(${gate})`)

/** Until `n` statements stand before the gate. */
export const atGate = (rig: Rig, n = 1): Promise<void> =>
  until(async () => {
    const [row] = await rig.query(
      `select count(*)::int as n from pg_locks l join pg_database d on d.oid = l.database
        where d.datname = current_database() and l.locktype = 'advisory' and not l.granted`,
    )
    return row.n >= n
  })

/** Until `n` sessions of this database wait for a row or a transaction. */
export const waiting = (rig: Rig, n = 1): Promise<void> =>
  until(async () => {
    const [row] = await rig.query(
      `select count(*)::int as n from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'`,
    )
    return row.n >= n
  })

const until = async (isTrue: () => Promise<boolean>): Promise<void> => {
  const deadline = Date.now() + 10_000
  while (!(await isTrue())) {
    if (Date.now() > deadline) throw new Error("what the test waits for did not happen in 10 s")
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** Locks rows of runs on the second connection until `unlock`. */
export const lockRuns = async (rig: Rig, ...ids: ReadonlyArray<string>): Promise<void> => {
  await rig.query("begin")
  await rig.query("select 1 from workflow_runs where workflow_run_id = any($1) for no key update", [
    ids,
  ])
}

export const unlock = (rig: Rig) => rig.query("rollback")

export interface Proxy {
  readonly url: string
  /** The next request reaches the server; its answer never comes, the connection ends. */
  loseNextAnswer(): void
  /** The next request never reaches the server; the connection ends. */
  loseNextRequest(): void
  /** How often something was lost. */
  /** Passes nothing more on of the connections that are there. */
  readonly silence: () => void
  /** Connections that are there. */
  readonly open: () => number
  readonly cuts: () => number
  readonly close: () => Promise<void>
}

/** A TCP proxy before the database. */
export const startProxy = async (url: string): Promise<Proxy> => {
  const target = new URL(url)
  let next: "answer" | "request" | null = null
  let cuts = 0
  const sockets = new Set<net.Socket>()
  const silent = new WeakSet<net.Socket>()
  const server = net.createServer((client) => {
    const upstream = net.connect(Number(target.port || 5432), target.hostname)
    let doomed = false
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on("error", () => {})
      socket.on("close", () => {
        sockets.delete(socket)
        client.destroy()
        // Not the server's side at once: what was sent must be carried out.
        if (!doomed) upstream.destroy()
      })
    }
    client.on("data", (data) => {
      if (silent.has(client)) return
      if (next === "request") {
        next = null
        cuts++
        client.destroy()
        return
      }
      if (next === "answer") {
        next = null
        cuts++
        doomed = true
      }
      upstream.write(data)
    })
    upstream.on("data", (data) => {
      if (silent.has(upstream)) return
      if (!doomed) client.write(data)
      else for (const socket of [client, upstream]) socket.destroy()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const own = new URL(url)
  own.hostname = "127.0.0.1"
  own.port = String((server.address() as net.AddressInfo).port)
  return {
    url: own.href,
    loseNextAnswer: () => {
      next = "answer"
    },
    loseNextRequest: () => {
      next = "request"
    },
    silence: () => {
      for (const socket of sockets) silent.add(socket)
    },
    open: () => sockets.size / 2,
    cuts: () => cuts,
    close: () => {
      for (const socket of sockets) socket.destroy()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}
