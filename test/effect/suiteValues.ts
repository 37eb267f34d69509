/**
 * Values and errors through their Schemas: what a body, and who asks for a result, gets is
 * decode(encode(value)), on the first run and on every replay.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Child, Engine, Event, Sleep, Step, Workflow } from "flowly/effect"
import * as Testing from "flowly/testing"
import { type NewStore, rowOf, within } from "./place.ts"

class Item extends Schema.Class<Item>("Item")({
  sku: Schema.String,
  price: Schema.BigInt,
  soldAt: Schema.Date,
}) {
  get label() {
    return `${this.sku} for ${this.price}`
  }
}

class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", {
  item: Item,
  left: Schema.Option(Schema.Number),
}) {}

class Declined extends Schema.TaggedError<Declined>()("Declined", { code: Schema.Number }) {}

const item = new Item({ sku: "book", price: 12n, soldAt: new Date("2030-05-05T05:05:05Z") })

const isItem = (value: unknown): value is Item =>
  value instanceof Item && value.price === 12n && value.soldAt.getTime() === item.soldAt.getTime()

export const valuesSuite = (where: string, newStore: NewStore): void => {
  describe(`values in the Effect API, ${where}`, () => {
    const Order = Workflow.make("order", {
      payload: { item: Item, note: Schema.Option(Schema.String), at: Schema.Date },
      success: Schema.Struct({ item: Item, note: Schema.Option(Schema.String), at: Schema.Date }),
      error: OutOfStock,
    })
    const payload = { item, note: Option.some("gift"), at: new Date("2030-02-02T00:00:00Z") }

    it.effect("payload, step result and success come back as what they were", () => {
      const seen: Array<unknown> = []
      const live = Order.toLayer(
        Effect.fnUntraced(function* (input) {
          seen.push(isItem(input.item), input.note, input.at)
          const picked = yield* Step.make("pick", {
            success: Schema.Tuple([Item, Schema.Option(Schema.Number)]),
            run: Effect.succeed([input.item, Option.none()] as const),
          })
          seen.push(isItem(picked[0]), picked[0].label, picked[1])
          yield* Sleep.make("overnight", "1 day")
          return input
        }),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Order, payload)
        yield* Testing.runUntilSettled(run.workflowRunId)
        const result = yield* run.result
        assert.isTrue(isItem(result.item))
        assert.deepStrictEqual(result.note, Option.some("gift"))
        assert.deepStrictEqual(result.at, payload.at)
        const once = [true, Option.some("gift"), payload.at, true, "book for 12", Option.none()]
        assert.deepStrictEqual(seen, [...once, ...once])
      }).pipe(within(newStore(), live))
    })

    it.effect("a typed failure is caught by its tag, on the first run and on replay", () => {
      const caught: Array<OutOfStock> = []
      const live = Order.toLayer(
        Effect.fnUntraced(function* (input) {
          yield* Step.make("reserve", {
            error: OutOfStock,
            run: Effect.fail(new OutOfStock({ item, left: Option.some(3) })),
          }).pipe(Effect.catchTag("OutOfStock", (error) => Effect.sync(() => caught.push(error))))
          yield* Sleep.make("overnight", "1 day")
          return input
        }),
      )
      return Effect.gen(function* () {
        const { workflowRunId } = yield* Workflow.trigger(Order, payload)
        const row = yield* Testing.runUntilSettled(workflowRunId)
        assert.strictEqual(row.status, "completed")
        assert.strictEqual(caught.length, 2)
        for (const error of caught) {
          assert.instanceOf(error, OutOfStock)
          assert.isTrue(isItem(error.item))
          assert.deepStrictEqual(error.left, Option.some(3))
        }
      }).pipe(within(newStore(), live))
    })

    it.effect("a typed failure of the body is the failure of its result", () => {
      const live = Order.toLayer(() => Effect.fail(new OutOfStock({ item, left: Option.none() })))
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Order, payload)
        yield* Testing.runUntilSettled(run.workflowRunId)
        const error = yield* Effect.flip(run.result)
        assert.instanceOf(error, OutOfStock)
        assert.isTrue(error instanceof OutOfStock && isItem(error.item))
      }).pipe(within(newStore(), live))
    })

    it.effect(
      "another failure of a step with an error Schema is tried again; retryIf decides",
      () => {
        const tries: Array<number> = []
        const Pay = Workflow.make("pay", { error: Declined })
        const live = Pay.toLayer(() =>
          Effect.asVoid(
            Step.make("charge", {
              error: Declined,
              run: ({ attempt }) => {
                tries.push(attempt)
                return Effect.fail(new Declined({ code: attempt }))
              },
              retry: { maxAttempts: 5, initialDelayMs: 60_000 },
              retryIf: (error) => error.code < 3,
            }),
          ),
        )
        return Effect.gen(function* () {
          const run = yield* Workflow.trigger(Pay, undefined)
          yield* Testing.runUntilSettled(run.workflowRunId)
          assert.deepStrictEqual(yield* Effect.flip(run.result), new Declined({ code: 3 }))
          assert.deepStrictEqual(tries, [1, 2, 3])
        }).pipe(within(newStore(), live))
      },
    )

    it.effect("a step that takes too long fails with StepTimeout, typed", () => {
      const Slow = Workflow.make("slow", { success: Schema.Array(Schema.String) })
      const seen: Array<string> = []
      const live = Slow.toLayer(
        Effect.fnUntraced(function* () {
          yield* Step.make("work", { run: Effect.never, timeout: "1 hour" }).pipe(
            Effect.catchTag("StepTimeout", ({ stepKey, timeoutMs }) =>
              Effect.sync(() => seen.push(`${stepKey} after ${timeoutMs}`)),
            ),
          )
          yield* Sleep.make("overnight", "1 day")
          return seen
        }),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Slow, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.deepStrictEqual(yield* run.result, ["work after 3600000", "work after 3600000"])
      }).pipe(within(newStore(), live))
    })

    it.effect("a defect of a step is a defect of the body, which may catch it", () => {
      const Broken = Workflow.make("broken", { success: Schema.String })
      const live = Broken.toLayer(() =>
        Step.make("divide", {
          success: Schema.String,
          run: Effect.die(new RangeError("by zero")),
        }).pipe(
          Effect.catchDefect((defect) =>
            Effect.as(
              Sleep.make("overnight", "1 day"),
              defect instanceof Error ? `${defect.name}: ${defect.message}` : "no error",
            ),
          ),
        ),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Broken, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.strictEqual(yield* run.result, "RangeError: by zero")
      }).pipe(within(newStore(), live))
    })

    it.effect("a run that ends with a defect has failed: RunFailed, with the cause", () => {
      const Broken = Workflow.make("broken", { error: Declined })
      const live = Broken.toLayer(() => Effect.die(new RangeError("by zero")))
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Broken, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        const error = yield* Effect.flip(run.result)
        assert.strictEqual(error._tag, "RunFailed")
        assert.include(error.message, "by zero")
        assert.isTrue(
          error._tag === "RunFailed" &&
            error.status === "failed" &&
            error.cause instanceof Error &&
            error.cause.name === "RangeError",
        )
      }).pipe(within(newStore(), live))
    })

    it.effect("of a body that ends with a failure and a defect, the failure counts", () => {
      const Broken = Workflow.make("broken", { error: Declined })
      const both = Cause.combine(Cause.die("a defect"), Cause.fail(new Declined({ code: 7 })))
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Broken, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.deepStrictEqual(yield* Effect.flip(run.result), new Declined({ code: 7 }))
      }).pipe(
        within(
          newStore(),
          Broken.toLayer(() => Effect.failCause(both)),
        ),
      )
    })

    it.effect("a child's success and failure come typed to its parent", () => {
      const Leaf = Workflow.make("leaf", {
        payload: { fails: Schema.Boolean },
        success: Item,
        error: Declined,
      })
      const Root = Workflow.make("root", { success: Schema.Array(Schema.String) })
      const live = Layer.merge(
        Leaf.toLayer(({ fails }) =>
          fails ? Effect.fail(new Declined({ code: 7 })) : Effect.succeed(item),
        ),
        Root.toLayer(
          Effect.fnUntraced(function* () {
            const good = yield* Effect.orDie(Child.run(Leaf, { fails: false }))
            const bad = yield* Child.run(Leaf, { fails: true }).pipe(
              Effect.map(({ label }) => label),
              Effect.catchTag("Declined", ({ code }) => Effect.succeed(`declined ${code}`)),
              Effect.orDie,
            )
            return [good.label, bad]
          }),
        ),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Root, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.deepStrictEqual(yield* run.result, ["book for 12", "declined 7"])
      }).pipe(within(newStore(), live))
    })

    it.effect("a child's defect is ChildFailed, with the child's id and its cause", () => {
      const Leaf = Workflow.make("leaf", { error: Declined })
      const Root = Workflow.make("root", { success: Schema.String })
      const live = Layer.merge(
        Leaf.toLayer(() => Effect.die(new RangeError("by zero"))),
        Root.toLayer(() =>
          Child.run(Leaf, undefined).pipe(
            Effect.as("done"),
            Effect.catchTag("ChildFailed", ({ workflow, status, cause }) =>
              Effect.succeed(`${workflow} ${status}: ${(cause as Error).message}`),
            ),
            Effect.orDie,
          ),
        ),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Root, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.strictEqual(yield* run.result, "leaf failed: by zero")
      }).pipe(within(newStore(), live))
    })

    it.effect("an event is decoded by its Schema; None when the time is up", () => {
      const Approval = Workflow.make("approval", { success: Schema.Array(Schema.String) })
      const live = Approval.toLayer(
        Effect.fnUntraced(function* () {
          const first = yield* Event.wait("approved", { schema: Item, timeout: "1 day" })
          const second = yield* Event.wait("approved", { schema: Item, timeout: "1 day" })
          return [first, second].map((one) => (Option.isSome(one) ? one.value.label : "nobody"))
        }),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Approval, undefined)
        const engine = yield* Engine.Engine
        const stored = yield* Schema.encodeEffect(Schema.toCodecJson(Item))(item)
        yield* engine.sendEvent(run.workflowRunId, "approved", {
          codec: "json",
          json: JSON.stringify(stored),
        })
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.deepStrictEqual(yield* run.result, ["book for 12", "nobody"])
      }).pipe(within(newStore(), live))
    })

    it.effect("a payload that its Schema does not take is refused where it is given", () => {
      const live = Order.toLayer(Effect.succeed)
      return Effect.gen(function* () {
        const bad = { ...payload, at: "yesterday" as unknown as Date }
        const error = yield* Effect.flip(Workflow.trigger(Order, bad))
        assert.strictEqual(error._tag, "SerializationError")
        assert.include(error.message, "at")
      }).pipe(within(newStore(), live))
    })
  })

  describe(`a Schema that changed, ${where}`, () => {
    const oldCode = Workflow.make("changing", { success: Schema.String }).toLayer(
      Effect.fnUntraced(function* () {
        const { total } = yield* Step.make("sum", {
          success: Schema.Struct({ total: Schema.String }),
          run: Effect.succeed({ total: "twelve" }),
        })
        yield* Sleep.make("overnight", "1 day")
        return total
      }),
    )
    const Changing = Workflow.make("changing", { success: Schema.String })
    const newCode = Changing.toLayer(
      Effect.fnUntraced(function* () {
        const { total } = yield* Step.make("sum", {
          success: Schema.Struct({ total: Schema.Number }),
          run: Effect.succeed({ total: 12 }),
        })
        yield* Sleep.make("overnight", "1 day")
        return `${total}`
      }),
    )
    const day = 24 * 3_600_000

    it.effect("a stored value that it refuses pauses the run, naming the path", () => {
      const store = newStore()
      return Effect.gen(function* () {
        const id = yield* Effect.gen(function* () {
          const { workflowRunId } = yield* Workflow.trigger(Changing, undefined)
          yield* Testing.settle
          return workflowRunId
        }).pipe(within(store, oldCode))

        yield* Effect.gen(function* () {
          yield* Testing.advance("1 day")
          const row = yield* rowOf(id)
          assert.strictEqual(row?.status, "paused")
          assert.include(row?.pauseReason?.message, 'result of step "sum"')
          assert.match(row?.pauseReason?.message ?? "", /\["total"\]/)
        }).pipe(within(store, newCode))

        const result = yield* Effect.gen(function* () {
          const engine = yield* Engine.Engine
          yield* engine.resume(id)
          yield* Testing.runUntilSettled(id)
          return yield* Effect.flatMap(Workflow.handle(Changing, id), (handle) => handle.result)
        }).pipe(within(store, oldCode, day))
        assert.strictEqual(result, "twelve")
      })
    })

    it.effect("a stored input that it refuses pauses the run", () => {
      const Before = Workflow.make("input", { payload: { n: Schema.String } })
      const After = Workflow.make("input", { payload: { n: Schema.Number } })
      const body = () => Sleep.make("overnight", "1 day")
      const store = newStore()
      return Effect.gen(function* () {
        const id = yield* Effect.gen(function* () {
          const { workflowRunId } = yield* Workflow.trigger(Before, { n: "one" })
          yield* Testing.settle
          return workflowRunId
        }).pipe(within(store, Before.toLayer(body)))
        yield* Effect.gen(function* () {
          yield* Testing.advance("1 day")
          const row = yield* rowOf(id)
          assert.strictEqual(row?.status, "paused")
          assert.match(row?.pauseReason?.message ?? "", /input.*\["n"\]/s)
        }).pipe(within(store, After.toLayer(body)))
      })
    })
  })
}
