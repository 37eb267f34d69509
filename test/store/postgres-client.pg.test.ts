/**
 * The clients under the store: one that renames columns, the application's pool, a caller's
 * transaction, deadlines, LISTEN that comes back.
 */
import { PgClient } from "@effect/sql-pg"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import { SqlClient } from "effect/sql/SqlClient"
import * as Tracer from "effect/Tracer"
import pg from "pg"
import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from "vitest"
import * as EngineClock from "../../src/EngineClock.ts"
import * as PostgresStore from "../../src/PostgresStore.ts"
import { type Hint, WorkflowStore } from "../../src/WorkflowStore.ts"
import { Fixture, id, json, newRun, park, parse, record, retrying } from "./conformanceFixture.ts"
import {
  createDatabase,
  lockRuns,
  makeRig,
  onStore,
  type Rig,
  startProxy,
  unlock,
} from "./postgresFixture.ts"

let database: Awaited<ReturnType<typeof createDatabase>>
let rig: Rig

beforeAll(async () => {
  database = await createDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  rig = await makeRig(database)
})
afterEach(() => rig.other.end())

const promise = (run: () => Promise<unknown>) => Effect.promise(run)

/** The pool of an application, ended by the application. */
const withPool = async (options: pg.PoolConfig, use: (pool: pg.Pool) => Promise<void>) => {
  const pool = new pg.Pool({ connectionString: database.url, ...options })
  try {
    await use(pool)
  } finally {
    await pool.end()
  }
}

const onPool = (
  pool: pg.Pool,
  body: (s: Fixture, sql: SqlClient) => Generator<Effect.Effect<any, any, any>, void, any>,
  options: PostgresStore.Options = {},
): Promise<void> =>
  Effect.runPromise(
    Effect.gen(function* () {
      const store = yield* WorkflowStore
      const sql = yield* SqlClient
      yield* store.migrate
      yield* Effect.gen(() => body(new Fixture(store), sql))
    }).pipe(
      Effect.provide(
        PostgresStore.layer({ schema: rig.schema, ...options }).pipe(
          Layer.provideMerge(PostgresStore.layerPoolClient(pool)),
          Layer.provide(EngineClock.layerStore),
        ),
      ),
      Effect.scoped,
    ) as Effect.Effect<void>,
  )

const heard = (hints: Queue.Dequeue<Hint>, wanted: Hint) =>
  Effect.gen(function* () {
    while ((yield* Queue.take(hints)) !== wanted);
  }).pipe(Effect.timeout("10 seconds"))

describe("a client that renames columns", () => {
  it("changes neither the store's rows nor the keys inside payloads", () => {
    const snake = (text: string) => text.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
    const camel = (text: string) =>
      text.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase())
    const client = PgClient.layer({
      url: Redacted.make(database.url),
      transformQueryNames: snake,
      transformResultNames: camel,
      maxConnections: 3,
    })
    return Effect.runPromise(
      Effect.gen(function* () {
        const store = yield* WorkflowStore
        const s = new Fixture(store)
        yield* store.migrate
        const input = json({ snake_case: 1, camelCase: { deep_key: [{ a_b: 1 }] } })
        yield* s.insert(newRun(1, { input }))
        assert.deepStrictEqual(parse((yield* s.row(1)).input), JSON.parse(input.json))
        yield* s.claimOnly(yield* s.worker(1), 1)
      }).pipe(
        Effect.provide(
          PostgresStore.layer({ schema: rig.schema }).pipe(
            Layer.provide(client),
            Layer.provide(EngineClock.layerStore),
          ),
        ),
      ) as Effect.Effect<void>,
    )
  })
})

describe("the application's pool", () => {
  it("is not ended, and has all its clients back", () =>
    withPool({ max: 3 }, async (pool) => {
      await onPool(pool, function* (s) {
        yield* Effect.scoped(Effect.andThen(s.store.listen, s.store.notify(["work"])))
        yield* s.insert(newRun(1))
      })
      assert.strictEqual(pool.idleCount, pool.totalCount)
      assert.strictEqual(pool.listenerCount("error"), 0)
      const clients = await Promise.all([pool.connect(), pool.connect(), pool.connect()])
      for (const client of clients) {
        assert.strictEqual(client.listenerCount("error"), 0)
        const listening = await client.query("select * from pg_listening_channels()")
        assert.strictEqual(listening.rowCount, 0)
        client.release()
      }
      assert.deepStrictEqual((await pool.query("select 1 as one")).rows, [{ one: 1 }])
    }))

  it("keeps a client whose statement the server refused", () =>
    withPool({ max: 1 }, (pool) =>
      onPool(pool, function* (s) {
        const pid = function* () {
          const { rows } = yield* Effect.promise(() => pool.query("select pg_backend_pid() as pid"))
          return rows[0].pid as number
        }
        const before = yield* pid()
        const broken = newRun(1, { input: { codec: "json", json: "{not json" } })
        assert.strictEqual((yield* Effect.flip(s.insert(broken)))._tag, "StoreRejected")
        assert.strictEqual(yield* pid(), before)
      }),
    ))

  it("is heard on flowly's channel alone, though its sessions listen to others", () =>
    withPool({ max: 3 }, (pool) => {
      pool.on("connect", (client) => void client.query("listen of_the_application"))
      return onPool(pool, function* (s) {
        const hints = yield* s.store.listen
        yield* heard(hints, "reconnected")
        yield* promise(() => rig.query("select pg_notify('of_the_application', 'w')"))
        yield* s.store.notify(["settled"])
        assert.strictEqual(yield* Queue.take(hints), "settled")
      })
    }))

  it("has a client back that came when nobody waited for it any more", () =>
    withPool({ max: 1 }, (pool) =>
      onPool(pool, function* (_, sql) {
        const taken = yield* Effect.promise(() => pool.connect())
        const late = yield* Effect.forkChild(sql`select 1`, { startImmediately: true })
        yield* Fiber.interrupt(late)
        taken.release()
        assert.deepStrictEqual(yield* sql`select 1 as one`, [{ one: 1 }])
        assert.deepStrictEqual([pool.idleCount, pool.totalCount], [1, 1])
      }),
    ))

  it("whose sessions the server ends does not end the process, and works again", () =>
    withPool({ max: 3 }, async (pool) => {
      await onPool(pool, function* (s) {
        yield* s.insert(newRun(1))
        for (let round = 0; round < 5; round++) {
          yield* promise(() =>
            rig.query(`select pg_terminate_backend(pid) from pg_stat_activity
              where datname = current_database() and pid <> pg_backend_pid()`),
          )
          yield* s.row(1).pipe(Effect.retry({ times: 5 }))
        }
      })
    }))

  it("without prepared names works too", () =>
    withPool({ max: 2 }, (pool) =>
      onPool(
        pool,
        function* (s) {
          yield* s.claimOnly(yield* Effect.andThen(s.insert(newRun(1)), s.worker(1)), 1)
          const prepared = yield* promise(() => pool.query("select * from pg_prepared_statements"))
          assert.strictEqual((prepared as pg.QueryResult).rowCount, 0)
        },
        { prepare: false },
      ),
    ))

  it("with type parsers of its own gives the same rows", () =>
    withPool({ max: 2, types: { getTypeParser: () => (value: unknown) => value } as any }, (pool) =>
      onPool(pool, function* (s) {
        const a = yield* s.worker(1)
        yield* s.insert(newRun(1, { timeoutMs: 1000 }))
        const claim = yield* s.claimOnly(a, 1)
        yield* s.committed(claim, { records: [record("x", 1)], transition: park(0) })
        const history = yield* s.history(1)
        assert.strictEqual(history.records[0]!.position, 1)
        assert.isFalse(history.deadlinePassed)
        assert.isNumber((yield* s.row(1)).deadlineAt)
      }),
    ))

  it("that is too small is refused by verify", () =>
    withPool({ max: 2 }, (pool) =>
      onPool(pool, function* (s) {
        yield* s.store.verify({ worker: true, listen: false })
        const error = yield* Effect.flip(s.store.verify({ worker: true, listen: true }))
        assert.strictEqual(error._tag, "PoolTooSmall")
      }),
    ))
})

describe("a caller's transaction", () => {
  it("holds an insert back until it commits, and takes it along when it does not", () =>
    withPool({ max: 3 }, (pool) =>
      onPool(pool, function* (s, sql) {
        const a = yield* s.worker(1)
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* s.insert(newRun(1))
            assert.deepStrictEqual(
              yield* promise(() => rig.query("select * from workflow_runs")),
              [],
            )
          }),
        )
        yield* s.claimOnly(a, 1)
        yield* Effect.ignore(
          sql.withTransaction(Effect.andThen(s.insert(newRun(2)), Effect.fail("no"))),
        )
        assert.deepStrictEqual(yield* s.store.getRuns([id(2)]), [])
      }),
    ))

  it("that the server rolled back at its commit has failed", () =>
    withPool({ max: 3 }, (pool) =>
      onPool(pool, function* (_, sql) {
        const broken = Effect.ignore(sql`select 1/0`)
        const error = yield* Effect.flip(sql.withTransaction(broken))
        assert.match(String(error.reason.cause), /COMMIT rolled back an aborted transaction/)
      }),
    ))

  it("goes on where an id that is said to be new is taken", () =>
    withPool({ max: 3 }, (pool) =>
      onPool(pool, function* (s, sql) {
        const run = newRun(1, { fresh: true })
        yield* s.insert(run)
        const answers = yield* sql.withTransaction(
          s.store.insertRuns({ runs: [run, newRun(2, { fresh: true })], claimFor: null }),
        )
        assert.deepStrictEqual(
          answers.map(({ _tag }) => _tag),
          ["Inserted", "Inserted"],
        )
        assert.strictEqual((yield* s.store.getRuns([id(1), id(2)])).length, 2)
      }),
    ))

  it("that sends an event does not lock the run: its batches go on, and it is woken later", () =>
    withPool({ max: 4 }, (pool) =>
      onPool(pool, function* (s, sql) {
        const claim = yield* s.hold(yield* s.worker(1), 1)
        yield* sql.withTransaction(
          Effect.gen(function* () {
            assert.strictEqual(yield* s.sendEvent(1), "sent")
            // by another connection, while the transaction is open
            const rows = yield* promise(() =>
              rig.query("select 1 from workflow_runs for no key update nowait"),
            )
            assert.strictEqual((rows as Array<unknown>).length, 1)
          }),
        )
        yield* s.committed(claim, { transition: park(0) })
        assert.strictEqual((yield* s.row(1)).status, "waiting")
        yield* s.store.sweep({ limit: 10 })
        const { status, wakeCounter } = yield* s.row(1)
        assert.deepStrictEqual([status, wakeCounter], ["pending", 1])
        assert.strictEqual((yield* s.history(1)).events.length, 1)
        assert.deepStrictEqual(yield* promise(() => rig.query("select * from workflow_wakes")), [])
      }),
    ))

  it("that sends an event to a run that is locked elsewhere is not held up", () =>
    withPool({ max: 4 }, (pool) =>
      onPool(pool, function* (s, sql) {
        yield* s.insert(newRun(1))
        yield* promise(() => lockRuns(rig, id(1)))
        assert.strictEqual(yield* sql.withTransaction(s.sendEvent(1)), "sent")
        // the wake stays until the row is free
        yield* s.store.sweep({ limit: 10 })
        yield* promise(() => unlock(rig))
        assert.strictEqual((yield* s.row(1)).wakeCounter, 0)
        yield* s.store.sweep({ limit: 10 })
        assert.strictEqual((yield* s.row(1)).wakeCounter, 1)
      }),
    ))
})

describe("a time until which to wait", () => {
  it("is told rounded up to milliseconds: who waits so long never comes too early", () =>
    withPool({ max: 3 }, (pool) =>
      onPool(pool, function* (s) {
        const claim = yield* s.hold(yield* s.worker(1), 1)
        const keys = Array.from({ length: 9 }, (_, n) => `s${n}`)
        const { timers } = yield* s.committed(claim, {
          timers: keys.map((stepKey) => ({ stepKey, delayMs: 1000 })),
          records: keys.map((key) => retrying(`try ${key}`, 1, 1000)),
        })
        const stored = yield* promise(() =>
          rig.query(`select
            (select ceil(extract(epoch from min(wake_at)) * 1000) from sleep_timers)::float8 as timer,
            (select ceil(extract(epoch from min(retry_at)) * 1000) from workflow_steps)::float8
              as retry`),
        )
        const [{ timer, retry }] = stored as [{ timer: number; retry: number }]
        const { records, dueTimes, timers: read } = yield* s.history(1)
        const [sources] = yield* s.store.loadSources([id(1)])
        const steps = yield* s.store.getSteps(id(1))
        for (const told of [timers, read]) {
          for (const { wakeAt } of told) assert.strictEqual(wakeAt, timer)
        }
        for (const told of [records, steps]) {
          for (const { retryAt } of told) assert.strictEqual(retryAt, retry)
        }
        for (const told of [dueTimes, sources?.dueTimes ?? []]) {
          const times = new Set(told.map(({ wakeAt }) => wakeAt))
          assert.deepStrictEqual(times, new Set([timer, retry]))
        }
      }),
    ))
})

describe("a long history", () => {
  it("is read whole, in pages of rows and of bytes", () =>
    onStore(rig, function* (s) {
      const a = yield* s.worker(1)
      const claims = [yield* s.hold(a, 1), yield* s.hold(a, 2)]
      const small = Array.from({ length: 2300 }, (_, n) => record(`s${n}`, n + 1))
      // 2 MB that do not compress
      const noise = () =>
        json(Array.from({ length: 60_000 }, () => Math.random().toString(36).slice(2)).join(""))
      const large = Array.from({ length: 12 }, (_, n) =>
        record(`s${n}`, n + 1, { result: noise() }),
      )
      yield* s.committed(claims[0]!, { records: small })
      yield* s.committed(claims[1]!, { records: large })
      const histories = yield* s.store.loadHistory([id(1), id(2)])
      const positions = histories.map((h) => h.records.map((r) => r.position))
      assert.deepStrictEqual(
        positions.toSorted((x, y) => y.length - x.length),
        [small, large].map((records) => records.map((r) => r.position)),
      )
    }))
})

describe("deadlines", () => {
  // long enough for what comes before, also where the disk is slow to confirm a commit
  const statementTimeoutMs = 2000
  const late = function* (s: Fixture, meanwhile: Effect.Effect<void> = Effect.void) {
    yield* s.insert(newRun(1))
    yield* promise(() => lockRuns(rig, id(1)))
    const began = performance.now()
    const error = yield* Effect.flip(Effect.uninterruptible(s.sendEvent(1)))
    assert.isBelow(performance.now() - began, 20_000)
    assert.strictEqual(error._tag, "StoreUnavailable")
    // our own deadline knows nothing; where the server's for locks came first, it says it gave up
    const outcome = error._tag === "StoreUnavailable" ? error.outcome : error.reason
    assert.match(outcome, /^(unknown|not-applied)$/)
    yield* meanwhile
    yield* promise(() => unlock(rig))
    assert.isNumber(yield* s.store.now)
  }

  it("end a statement that waits, also where the caller cannot be interrupted", () =>
    onStore(rig, (s) => late(s), { statementTimeoutMs }))

  it("end it on the application's pool, and do not hand its connection back", () =>
    withPool({ max: 2 }, (pool) => {
      const nothingInUse = Effect.gen(function* () {
        while (pool.idleCount < pool.totalCount) yield* Effect.sleep(10)
      })
      return onPool(pool, (s) => late(s, nothingInUse), { statementTimeoutMs })
    }))

  it("leave no timer behind", () =>
    onStore(rig, function* (s) {
      const timers = () =>
        process.getActiveResourcesInfo().filter((resource) => resource === "Timeout").length
      const before = timers()
      for (let i = 0; i < 20; i++) yield* s.store.getRuns([id(1)])
      assert.isBelow(timers() - before, 10)
    }))

  it("end a call to a server that does not answer", async () => {
    const proxy = await startProxy("postgres://x@127.0.0.1:1/x")
    try {
      const began = performance.now()
      const outcome = await Effect.runPromise(
        Effect.result(
          Effect.flatMap(WorkflowStore, (store) => store.now).pipe(
            Effect.provide(
              PostgresStore.layerUrl({ url: proxy.url, statementTimeoutMs: 300 }).pipe(
                Layer.provide(EngineClock.layerStore),
              ),
            ),
          ),
        ),
      )
      assert.strictEqual(outcome._tag === "Failure" && outcome.failure._tag, "StoreUnavailable")
      assert.isBelow(performance.now() - began, 3000)
    } finally {
      await proxy.close()
    }
  })
})

describe("errors", () => {
  const refused = (s: Fixture, sqlState: string) =>
    Effect.map(
      Effect.flip(s.insert(newRun(1, { input: { codec: "json", json: sqlState } }))),
      (error) => error,
    )

  it("of the data are rejected, those of the server are unavailable", () =>
    onStore(rig, function* (s) {
      const broken = yield* refused(s, "{not json")
      assert.strictEqual(broken._tag, "StoreRejected")
      yield* promise(() =>
        rig.query(`alter database ${dbName()} set default_transaction_read_only = on`),
      )
      yield* promise(() =>
        rig.query(`select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and pid <> pg_backend_pid()`),
      )
      yield* Effect.retry(s.store.now, { times: 5 })
      const readOnly = yield* Effect.flip(s.insert(newRun(1)))
      assert.strictEqual(readOnly._tag, "StoreUnavailable")
      assert.strictEqual(readOnly._tag === "StoreUnavailable" && readOnly.outcome, "not-applied")
      yield* promise(() => rig.query("set transaction_read_only = off"))
      yield* promise(() =>
        rig.query(`alter database ${dbName()} reset default_transaction_read_only`),
      )
    }))

  it("name no value, and statements make no span", () => {
    const spans: Array<string> = []
    const tracer = Tracer.make({
      span: (options) => {
        spans.push(options.name)
        return new Tracer.NativeSpan(options)
      },
    })
    return onStore(rig, function* (s) {
      const canary = "s3cr3t"
      yield* s.insert(newRun(1, { idempotencyKey: canary })).pipe(Effect.withTracer(tracer))
      const bad = newRun(2, { input: { codec: "json", json: `{"${canary}": nope` } })
      const error = yield* Effect.flip(s.insert(bad))
      assert.notInclude(error.message, canary)
      assert.deepStrictEqual(spans, [])
    })
  })

  const dbName = () => new URL(database.url).pathname.slice(1)
})

describe("hints", () => {
  const comesBack = function* (s: Fixture) {
    const hints = yield* s.store.listen
    yield* heard(hints, "reconnected")
    yield* s.store.notify(["work", "signal", "work"])
    yield* heard(hints, "work")
    yield* promise(() =>
      rig.query(`select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and query ilike 'listen%'`),
    )
    yield* heard(hints, "reconnected")
    yield* Effect.retry(s.store.notify(["settled"]), { times: 5 })
    yield* heard(hints, "settled")
  }

  it("come again after the listening session was ended", () => onStore(rig, comesBack))

  it("come again on the application's pool", () =>
    withPool({ max: 3 }, (pool) => onPool(pool, comesBack)))

  it("of another schema are not heard", () =>
    onStore(rig, function* (s) {
      const hints = yield* s.store.listen
      yield* promise(() => rig.query("select pg_notify('other_hints', 'w')"))
      yield* promise(() => rig.query(`select pg_notify('${rig.schema}_hints', 'nonsense')`))
      yield* s.store.notify(["settled"])
      yield* heard(hints, "reconnected")
      assert.strictEqual(yield* Queue.take(hints), "settled")
    }))
})
