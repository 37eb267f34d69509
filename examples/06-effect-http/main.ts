// A workflow in an Effect HTTP application: requests start runs and read their status.
// Run it: npm run example:06   (npm run example:06 -- --keep leaves the server running)
import assert from "node:assert/strict"
import { createServer } from "node:http"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Context, Effect, Layer, Redacted, Schedule, Schema } from "effect"
import { HttpRouter, HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"
import { SqlClient } from "effect/sql"
import {
  Engine,
  EngineClock,
  PostgresStore,
  Sleep,
  Step,
  Worker,
  Workflow,
  WorkflowStore,
} from "flowly/effect"
import { openDatabase } from "../support/postgres.ts"

// --- A service of the application, with a table of its own -----------------------------------------

class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { item: Schema.String }) {}

class Inventory extends Context.Service<
  Inventory,
  {
    readonly take: (item: string, quantity: number) => Effect.Effect<number, OutOfStock>
    readonly putBack: (item: string, quantity: number) => Effect.Effect<void>
  }
>()("example/Inventory") {
  static readonly layer = Layer.effect(
    Inventory,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`create table if not exists stock (item text primary key, pieces integer not null)`
      yield* sql`create table if not exists orders
        (id uuid primary key, item text not null, quantity integer not null check (quantity > 0))`
      yield* sql`insert into stock values ('chair', 10) on conflict (item) do update set pieces = 10`
      return Inventory.of({
        take: Effect.fnUntraced(function* (item, quantity) {
          const rows = yield* sql<{ pieces: number }>`
            update stock set pieces = pieces - ${quantity}
            where item = ${item} and pieces >= ${quantity}
            returning pieces`.pipe(Effect.orDie)
          if (rows[0] === undefined) return yield* new OutOfStock({ item })
          return rows[0].pieces
        }),
        putBack: (item, quantity) =>
          sql`update stock set pieces = pieces + ${quantity} where item = ${item}`.pipe(
            Effect.orDie,
          ),
      })
    }),
  )
}

// --- The workflow: a definition with Schemas, and a body that becomes a Layer ----------------------

const Order = Schema.Struct({ item: Schema.String, quantity: Schema.Number })
const Receipt = Schema.Struct({ left: Schema.Number })

const PlaceOrder = Workflow.make("place-order", {
  payload: Order,
  success: Receipt,
  error: OutOfStock,
})

const PlaceOrderLive = PlaceOrder.toLayer(
  Effect.fnUntraced(function* ({ item, quantity }) {
    // `Inventory` is used in a step, and so becomes a requirement of the layer. In the body itself,
    // outside of steps, it would not type-check: a body is replayed, and must not touch the world.
    const left = yield* Step.make("take", {
      success: Schema.Number,
      error: OutOfStock,
      run: Effect.flatMap(Inventory, (inventory) => inventory.take(item, quantity)),
      compensate: () => Effect.flatMap(Inventory, (inventory) => inventory.putBack(item, quantity)),
    })
    yield* Sleep.make("payment-window", "2 seconds")
    yield* Step.make("pack", { run: Effect.log(`packing ${quantity} × ${item}`) })
    return { left }
  }),
)

// --- Routes ------------------------------------------------------------------------------------------

const OrderId = Schema.Struct({ id: Schema.String })

const Routes = HttpRouter.addAll([
  HttpRouter.route(
    "POST",
    "/orders",
    Effect.gen(function* () {
      const request = yield* HttpServerRequest.HttpServerRequest
      const order = yield* HttpServerRequest.schemaBodyJson(Order)
      const sql = yield* SqlClient.SqlClient
      // One transaction for the application's row and the run: both are there, or neither is.
      const { workflowRunId } = yield* sql.withTransaction(
        Effect.gen(function* () {
          const handle = yield* Workflow.trigger(PlaceOrder, order, {
            idempotencyKey: request.headers["idempotency-key"],
          })
          const row = { id: handle.workflowRunId, ...order }
          if (!handle.existing) yield* sql`insert into orders ${sql.insert(row)}`
          return handle
        }),
      )
      return yield* HttpServerResponse.json({ id: workflowRunId }, { status: 202 })
    }).pipe(
      Effect.catchTags({
        SchemaError: () => Effect.succeed(HttpServerResponse.empty({ status: 400 })),
        IdempotencyConflict: () => Effect.succeed(HttpServerResponse.empty({ status: 409 })),
        SqlError: () => Effect.succeed(HttpServerResponse.empty({ status: 422 })),
      }),
    ),
  ),
  HttpRouter.route(
    "GET",
    "/orders/:id",
    Effect.gen(function* () {
      const { id } = yield* HttpRouter.schemaPathParams(OrderId)
      const engine = yield* Engine.Engine
      const run = yield* engine.getRun(id)
      if (run?.workflow !== PlaceOrder.name) return HttpServerResponse.empty({ status: 404 })
      if (run.completedAt === null) return yield* HttpServerResponse.json({ status: run.status })
      // The typed end of the run: a Receipt, or OutOfStock.
      const handle = yield* Workflow.handle(PlaceOrder, id)
      return yield* handle.result.pipe(
        Effect.flatMap((receipt) => HttpServerResponse.json({ status: run.status, receipt })),
        Effect.catchTag("OutOfStock", ({ item }) =>
          HttpServerResponse.json({ status: run.status, outOfStock: item }),
        ),
      )
    }),
  ),
])

// --- The application is a composition of layers ------------------------------------------------------

const database = await openDatabase()

const Sql = PgClient.layer({ url: Redacted.make(database.url) })
const Store = PostgresStore.layer().pipe(Layer.provide(EngineClock.layerStore))
// Tables first, then the engine, then a worker that executes what it knows.
const Migrated = Layer.effectDiscard(
  Effect.flatMap(WorkflowStore.WorkflowStore, (store) => store.migrate),
).pipe(Layer.provideMerge(Store))
const Flowly = Layer.mergeAll(Worker.layer(), PlaceOrderLive).pipe(
  Layer.provideMerge(Engine.layer()),
  Layer.provide(Migrated),
)
const Http = HttpRouter.serve(Routes, { disableLogger: true }).pipe(
  Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })),
)
const App = Http.pipe(
  Layer.provide(Flowly),
  Layer.provide(Inventory.layer),
  Layer.provideMerge(Sql),
)

// --- A client of this server -------------------------------------------------------------------------

const useIt = Effect.gen(function* () {
  const base = yield* HttpServer.addressFormattedWith((address) => Effect.succeed(address))
  const request = (path: string, init?: RequestInit) =>
    Effect.promise(async () => {
      const response = await fetch(base + path, init)
      return { status: response.status, body: response.ok ? await response.json() : null }
    })
  const post = (order: unknown, key: string) =>
    request("/orders", {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": key },
      body: JSON.stringify(order),
    })
  const order = (quantity: number, key: string) =>
    Effect.gen(function* () {
      const { status, body } = yield* post({ item: "chair", quantity }, key)
      assert.equal(status, 202)
      const get = request(`/orders/${body.id}`).pipe(Effect.map((answer) => answer.body))
      yield* Effect.log(`POST /orders: ${status}`, yield* get)
      const end = yield* get.pipe(
        Effect.repeat({
          schedule: Schedule.spaced("100 millis"),
          until: (run) => !["pending", "running", "sleeping"].includes(run.status),
        }),
      )
      yield* Effect.log("GET /orders/…:", end)
      return end
    })

  assert.deepEqual(yield* order(4, "key-1"), { status: "completed", receipt: { left: 6 } })
  assert.deepEqual(yield* order(100, "key-2"), { status: "failed", outOfStock: "chair" })
  assert.equal((yield* post({ item: "chair", quantity: 5 }, "key-1")).status, 409)
  assert.equal((yield* post({ item: "chair" }, "key-3")).status, 400)

  // The table refuses the row, and with it the run.
  assert.equal((yield* post({ item: "chair", quantity: -1 }, "key-4")).status, 422)
  const sql = yield* SqlClient.SqlClient
  const runs = yield* sql`select idempotency_key as key from durable_workflow.workflow_runs`
  assert.deepEqual(runs.map((run) => run["key"]).toSorted(), ["key-1", "key-2"])
  assert.equal((yield* request("/orders/no-such-id")).status, 404)
})

const program = process.argv.includes("--keep")
  ? Effect.andThen(HttpServer.logAddress, Effect.never)
  : useIt

program.pipe(
  Effect.provide(App),
  Effect.ensuring(Effect.promise(() => database.close())),
  NodeRuntime.runMain,
)
