/**
 * What of the Effect API must compile, and what must not: the compiler checks determinism. Never
 * run: `npm run typecheck` is the test.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import {
  Child,
  Compensation,
  type Engine,
  type FlowlyError,
  Sleep,
  Step,
  Workflow,
} from "flowly/effect"
import { same } from "./same.ts"

class Inventory extends Context.Service<
  Inventory,
  { readonly reserve: (id: string) => Effect.Effect<number> }
>()("test/Inventory") {}

class Mailer extends Context.Service<
  Mailer,
  { readonly send: (to: string) => Effect.Effect<void> }
>()("test/Mailer") {}

class OutOfStock extends Schema.TaggedError<OutOfStock>("test/OutOfStock")("OutOfStock", {
  id: Schema.String,
}) {}

const Order = Workflow.make("order", {
  payload: { id: Schema.String },
  success: Schema.Number,
  error: OutOfStock,
})

const reserve = (id: string) => Effect.flatMap(Inventory, (inventory) => inventory.reserve(id))

// --- a service in a step becomes a requirement of the layer -------------------------

const fine = Order.toLayer(({ id }) =>
  Effect.gen(function* () {
    const reserved = yield* Step.make("reserve", {
      run: reserve(id),
      compensate: () => Effect.flatMap(Mailer, (mailer) => mailer.send(id)),
    })
    same<typeof reserved, number>(true)
    yield* Sleep.make("a while", "1 hour")
    return reserved
  }),
)
const transacts = Order.toLayer(({ id }) =>
  Effect.gen(function* () {
    return yield* Step.transaction("book", {
      isolation: "serializable",
      run: Effect.as(SqlClient.SqlClient, 5),
      compensate: () => Effect.flatMap(Mailer, (mailer) => mailer.send(id)),
    })
  }),
)
// the store gives the client
same<Requirements<typeof transacts>, Engine.Engine | Mailer>(true)

type Requirements<L> = L extends Layer.Layer<never, any, infer R> ? R : never
same<Requirements<typeof fine>, Engine.Engine | Inventory | Mailer>(true)

const explicit = Order.toLayer(({ id }) =>
  Step.make("reserve", {
    run: reserve(id),
    compensate: Compensation.make((result: number) =>
      Effect.flatMap(Mailer, (mailer) => mailer.send(String(result))),
    ),
  }),
)
same<Requirements<typeof explicit>, Engine.Engine | Inventory | Mailer>(true)

const http = Order.toLayer(() =>
  Step.make("fetch", {
    run: Effect.orDie(Effect.map(HttpClient.get("https://example.org"), () => 1)),
  }),
)
same<Requirements<typeof http>, Engine.Engine | HttpClient.HttpClient>(true)

const nothing = Order.toLayer(() => Effect.succeed(1))
same<Requirements<typeof nothing>, Engine.Engine>(true)

// --- outside a step it does not compile -----------------------------------------------

Order.toLayer(({ id }) =>
  // @ts-expect-error a service in the body, outside a step
  Effect.gen(function* () {
    return yield* reserve(id)
  }),
)

Order.toLayer(() =>
  // @ts-expect-error an HTTP request in the body, outside a step
  Effect.orDie(Effect.map(HttpClient.get("https://example.org"), () => 1)),
)

Order.toLayer(({ id }) =>
  // @ts-expect-error a service beside a step that uses it
  Effect.gen(function* () {
    yield* Step.make("reserve", { run: reserve(id) })
    return yield* reserve(id)
  }),
)

Order.toLayer(() =>
  // @ts-expect-error a query in the body, outside a step
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* Effect.orDie(sql`delete from orders`)
    return 1
  }),
)

Order.toLayer(({ id }) =>
  // @ts-expect-error a service in a branch that runs beside a step
  Effect.map(
    Effect.all([Step.make("one", { run: Effect.succeed(1) }), reserve(id)], {
      concurrency: "unbounded",
    }),
    ([one]) => one,
  ),
)

Order.toLayer(({ id }) =>
  // @ts-expect-error a service in a finalizer of the body
  Effect.ensuring(Effect.succeed(1), Effect.ignore(reserve(id))),
)

Order.toLayer(() =>
  // @ts-expect-error a scope that the body would hold open over a crash
  Effect.as(
    Effect.addFinalizer(() => Effect.void),
    1,
  ),
)

// --- inside of one it does, wherever the step stands ------------------------------------

const query = Order.toLayer(() =>
  Step.make("query", {
    run: Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* Effect.orDie(sql`delete from orders`)
      return 1
    }),
  }),
)
same<Requirements<typeof query>, Engine.Engine | SqlClient.SqlClient>(true)

const nested = Order.toLayer(({ id }) =>
  Effect.gen(function* () {
    const mail = Step.make("mail", {
      run: Effect.flatMap(Mailer, (mailer) => mailer.send(id)),
      retry: { maxAttempts: 3 },
      timeout: "1 second",
    }).pipe(Effect.ignore)
    const [reserved] = yield* Effect.all([Step.make("reserve", { run: reserve(id) }), mail], {
      concurrency: 2,
    })
    yield* Effect.forkChild(mail)
    return reserved
  }),
)
same<Requirements<typeof nested>, Engine.Engine | Inventory | Mailer>(true)

// the run's own: dice, time, ids, patches
const own = Order.toLayer(() =>
  Effect.gen(function* () {
    const id = yield* Workflow.uuid
    same<typeof id, string>(true)
    const isNew = yield* Workflow.patched("new")
    same<typeof isNew, boolean>(true)
    return (yield* Random.next) + (yield* Clock.currentTimeMillis)
  }),
)
same<Requirements<typeof own>, Engine.Engine>(true)

// a service that the body brings along is no requirement
const provided = Order.toLayer(({ id }) =>
  Effect.gen(function* () {
    const run = Effect.provideService(reserve(id), Inventory, { reserve: () => Effect.succeed(1) })
    return yield* Step.make("reserve", { run })
  }),
)
same<Requirements<typeof provided>, Engine.Engine>(true)

// --- errors are typed, and must have a Schema --------------------------------------------

const failing = Effect.fail(new OutOfStock({ id: "a" })) as Effect.Effect<number, OutOfStock>

const typed = Step.make("typed", { error: OutOfStock, run: failing })
same<Effect.Error<typeof typed>, OutOfStock>(true)

const limited = Step.make("limited", { error: OutOfStock, run: failing, timeout: "1 second" })
same<Effect.Error<typeof limited>, OutOfStock | FlowlyError.StepTimeout>(true)

// @ts-expect-error a step that can fail names the Schema of its error
Step.make("untyped", { run: failing })

// @ts-expect-error the success is not what the Schema says
Step.make("wrong success", { success: Schema.String, run: Effect.succeed(1) })

const Failing = Workflow.make("failing", { success: Schema.Number })
Failing.toLayer(
  () =>
    // @ts-expect-error the body fails with an error that the workflow does not name
    typed,
)

Order.toLayer(() =>
  // @ts-expect-error the body's success is another type
  Effect.succeed("text"),
)

// --- payloads, results, children -----------------------------------------------------------

export const started = Effect.gen(function* () {
  const handle = yield* Workflow.trigger(Order, { id: "a" })
  const result = yield* handle.result
  same<typeof result, number>(true)
  // @ts-expect-error the payload is the workflow's
  yield* Workflow.trigger(Order, { id: 5 })
  // @ts-expect-error the payload is missing
  yield* Workflow.trigger(Order)
  yield* Workflow.trigger(Failing, undefined)
})
same<
  Extract<Effect.Error<typeof started>, OutOfStock | FlowlyError.RunFailed>,
  OutOfStock | FlowlyError.RunFailed
>(true)

const parent = Failing.toLayer(() =>
  Child.run(Order, { id: "a" }).pipe(
    Effect.catchTag("OutOfStock", () => Effect.succeed(0)),
    Effect.catchTag("ChildFailed", () => Effect.succeed(1)),
  ),
)
same<Requirements<typeof parent>, Engine.Engine>(true)

Failing.toLayer(() =>
  // @ts-expect-error the child's errors are not handled
  Child.run(Order, { id: "a" }),
)
