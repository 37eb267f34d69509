/** The Effect API on Postgres, and what is Postgres's alone: the caller's transaction. */
import { assert, layer as withLayer } from "@effect/vitest"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { SqlClient } from "effect/sql"
import * as Text from "effect/String"
import {
  Engine,
  EngineClock,
  Event,
  PostgresStore,
  Sleep,
  Step,
  Worker,
  Workflow,
} from "flowly/effect"
import { afterAll, beforeAll } from "vitest"
import { createDatabase, type TestDatabase, withClient } from "../support/database.ts"
import { childrenSuite } from "./suiteChildren.ts"
import { compensationSuite } from "./suiteCompensation.ts"
import { controlSuite } from "./suiteControl.ts"
import { bodiesSuite } from "./suiteBodies.ts"
import type { NewStore } from "./place.ts"
import { eventsSuite } from "./suiteEvents.ts"
import { stepControlSuite } from "./suiteStepControl.ts"
import { valuesSuite } from "./suiteValues.ts"

let database: TestDatabase

beforeAll(async () => {
  database = await createDatabase()
})
afterAll(() => database.drop())

let schemas = 0

const newStore: NewStore = () => {
  const schema = `effect_${schemas++}`
  return Layer.orDie(
    Layer.unwrap(
      Effect.sync(() => PostgresStore.layerUrl({ url: database.url, schema, maxConnections: 3 })),
    ),
  )
}

valuesSuite("on Postgres", newStore)
bodiesSuite("on Postgres", newStore)
eventsSuite("on Postgres", newStore)
childrenSuite("on Postgres", newStore)
compensationSuite("on Postgres", newStore)
controlSuite("on Postgres", newStore)
stepControlSuite("on Postgres", newStore)

// -----------------------------------------------------------------------------
// The caller's transaction
// -----------------------------------------------------------------------------

const Ship = Workflow.make("ship", {
  payload: { orderId: Schema.String },
  success: Schema.String,
})

const ShipLive = Ship.toLayer(
  Effect.fnUntraced(function* ({ orderId }) {
    yield* Sleep.make("a moment", "10 millis")
    return yield* Step.make("ship", {
      success: Schema.Struct({ trackingId: Schema.String, snake_case: Schema.String }),
      run: Effect.succeed({ trackingId: `t-${orderId}`, snake_case: "kept" }),
    }).pipe(Effect.map((one) => `${one.trackingId} ${one.snake_case}`))
  }),
)

/** A poll would come too late for these tests: what starts promptly was told of. */
const pollIntervalMs = 600_000

/** The application's own client, with its own ideas about names. */
const Client = Layer.orDie(
  Layer.unwrap(
    Effect.sync(() =>
      PgClient.layer({
        url: Redacted.make(database.url),
        maxConnections: 5,
        transformQueryNames: Text.camelToSnake,
        transformResultNames: Text.snakeToCamel,
        transformJson: true,
      }),
    ),
  ),
)

const Store = PostgresStore.layer({ schema: "shared" }).pipe(Layer.provide(EngineClock.layerStore))

const Migrated = Layer.effectDiscard(
  Effect.gen(function* () {
    const engine = yield* Engine.Engine
    yield* engine.store.migrate
    const sql = yield* SqlClient.SqlClient
    yield* sql`create table orders (order_id text primary key)`
  }),
)

class SoldOut extends Schema.TaggedError<SoldOut>("test/SoldOut")("SoldOut", {}) {}

const Book = Workflow.make("book", {
  payload: { orderId: Schema.String, fails: Schema.Boolean },
  success: Schema.Number,
  error: SoldOut,
})

const BookLive = Book.toLayer(({ orderId, fails }) =>
  Step.transaction("book", {
    success: Schema.Number,
    error: SoldOut,
    isolation: "serializable",
    run: Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* Effect.orDie(sql`insert into orders ${sql.insert({ orderId })}`)
      yield* sql`insert into orders ${sql.insert({ orderId: "inner" })}`.pipe(
        Effect.andThen(Effect.fail("no")),
        sql.withTransaction,
        Effect.ignore,
      )
      const inner = sql`insert into orders ${sql.insert({ orderId: `${orderId} inner` })}`
      yield* Effect.orDie(sql.withTransaction(inner))
      if (fails) return yield* new SoldOut()
      return 1
    }),
  }),
)

const Await = Workflow.make("await", { success: Schema.String })

const AwaitLive = Await.toLayer(() =>
  Effect.map(Event.wait<string>("go"), (event) => Option.getOrElse(event, () => "nothing")),
)

const App = Layer.mergeAll(ShipLive, BookLive, AwaitLive).pipe(
  Layer.provideMerge(Worker.layer({ pollIntervalMs })),
  Layer.provideMerge(Migrated),
  Layer.provideMerge(Engine.layer({ pollIntervalMs })),
  Layer.provideMerge(Store),
  Layer.provideMerge(Client),
)

const placeOrder = (orderId: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`insert into orders ${sql.insert({ orderId })}`
    return yield* Workflow.trigger(Ship, { orderId }, { idempotencyKey: orderId })
  })

const runsOf = (orderId: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* sql<{ readonly status: string }>`
      select status from shared.workflow_runs where idempotency_key = ${orderId}`
    return rows.map(({ status }) => status)
  })

/** On a connection of its own. */
const runsOutside = (key: string) =>
  Effect.promise(() =>
    withClient(database.url, async (client) => {
      const text = "select from shared.workflow_runs where idempotency_key = $1"
      return (await client.query(text, [key])).rows.length
    }),
  )

withLayer(App, { excludeTestServices: true, timeout: 60_000 })(
  "a trigger inside the caller's transaction, on a client with name transforms",
  (it) => {
    it.effect("commits with it: not before, and then the run starts promptly", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const run = yield* sql.withTransaction(
          Effect.gen(function* () {
            const placed = yield* placeOrder("committed")
            const engine = yield* Engine.Engine
            // another connection does not see it
            assert.deepStrictEqual(yield* runsOutside("committed"), 0)
            assert.isNotNull(yield* engine.getRun(placed.workflowRunId))
            return placed
          }),
        )
        assert.isFalse(run.existing)
        assert.strictEqual(yield* run.result, "t-committed kept")
        assert.deepStrictEqual(yield* runsOf("committed"), ["completed"])
      }).pipe(Effect.timeout("20 seconds")),
    )

    it.effect("is rolled back with it: there is no run", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const error = yield* placeOrder("rolled back").pipe(
          Effect.andThen(Effect.fail("changed my mind")),
          sql.withTransaction,
          Effect.flip,
        )
        assert.strictEqual(error, "changed my mind")
        assert.deepStrictEqual(yield* runsOf("rolled back"), [])
        const orders = yield* sql`select * from orders where order_id = 'rolled back'`
        assert.deepStrictEqual(orders, [])
      }),
    )

    it.effect("a savepoint that is rolled back takes its run with it, the other one starts", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const run = yield* sql.withTransaction(
          Effect.gen(function* () {
            const kept = yield* placeOrder("kept")
            yield* placeOrder("inner").pipe(
              Effect.andThen(Effect.fail("no")),
              sql.withTransaction,
              Effect.ignore,
            )
            return kept
          }),
        )
        assert.strictEqual(yield* run.result, "t-kept kept")
        assert.deepStrictEqual(yield* runsOf("inner"), [])
      }).pipe(Effect.timeout("20 seconds")),
    )

    it.effect("the same key again, in a later transaction, is the same run", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const options = { idempotencyKey: "twice" }
        const start = sql.withTransaction(Workflow.trigger(Ship, { orderId: "x" }, options))
        const first = yield* start
        const second = yield* start
        assert.strictEqual(second.workflowRunId, first.workflowRunId)
        assert.isTrue(second.existing)
        const conflict = yield* Workflow.trigger(Ship, { orderId: "y" }, options).pipe(
          sql.withTransaction,
          Effect.flip,
        )
        assert.strictEqual(conflict._tag, "IdempotencyConflict")
      }),
    )

    it.effect("an event is sent with it, and wakes its run promptly then", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const run = yield* Workflow.trigger(Await, undefined)
        const send = (payload: string) =>
          sql.withTransaction(Event.send(run.workflowRunId, "go", payload, { id: "x" }))
        const engine = yield* Engine.Engine
        yield* engine
          .getRun(run.workflowRunId)
          .pipe(
            Effect.delay("20 millis"),
            Effect.repeat({ until: (row) => row?.status === "waiting" }),
          )
        yield* send("dropped").pipe(
          Effect.andThen(Effect.fail("no")),
          sql.withTransaction,
          Effect.ignore,
        )
        assert.strictEqual(yield* send("kept"), "sent")
        assert.strictEqual(yield* run.result, "kept")
      }).pipe(Effect.timeout("20 seconds")),
    )

    it.effect("a transactional step works on it, and is recorded with what it did", () =>
      Effect.gen(function* () {
        const good = yield* Workflow.trigger(Book, { orderId: "good", fails: false })
        assert.strictEqual(yield* good.result, 1)
        const bad = yield* Workflow.trigger(Book, { orderId: "bad", fails: true })
        const refused = yield* Effect.flip(bad.result)
        assert.strictEqual(refused._tag, "SoldOut")
        const sql = yield* SqlClient.SqlClient
        const booked = yield* sql<{ readonly orderId: string }>`
          select order_id from orders where order_id in ('good', 'good inner', 'bad', 'inner')
          order by order_id`
        assert.deepStrictEqual(
          booked.map((row) => row.orderId),
          ["good", "good inner"],
        )
      }).pipe(Effect.timeout("20 seconds")),
    )

    it.effect("outside of one, a trigger is durable by itself", () =>
      Effect.gen(function* () {
        const run = yield* Workflow.trigger(Ship, { orderId: "plain" })
        assert.strictEqual(yield* run.result, "t-plain kept")
      }).pipe(Effect.timeout("20 seconds")),
    )
  },
)
