/** `Testing.layer`: the memory store under TestClock. */
import { assert, describe, it, layer } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import { Engine, Sleep, Workflow } from "flowly/effect"
import * as Testing from "flowly/testing"
import { testingSuite } from "./suite.ts"

testingSuite("in memory", () => Testing.layer())

const Month = Workflow.make("month", { success: Schema.Number })

const MonthLive = Month.toLayer(() =>
  Effect.andThen(Sleep.make("a month", "30 days"), Clock.currentTimeMillis),
)

const startAt = new Date("2030-01-01T00:00:00Z")
const month = 30 * 24 * 3_600_000

layer(MonthLive.pipe(Layer.provideMerge(Testing.layer({ startAt }))))(
  "a layer for a whole block of tests",
  (test) => {
    test.effect("has a clock of its own", () =>
      Effect.gen(function* () {
        const run = yield* Workflow.trigger(Month, undefined)
        yield* TestClock.adjust("30 days")
        assert.strictEqual(yield* run.result, startAt.getTime() + month)
      }),
    )

    test.effect("which goes on in the next test", () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* Clock.currentTimeMillis, startAt.getTime() + month)
      }),
    )
  },
)

describe("two engines", () => {
  it.effect("have each a store of their own, also in one program", () =>
    Effect.gen(function* () {
      const get = (id: string) => Effect.flatMap(Engine.Engine, ({ getRun }) => getRun(id))
      const run = yield* Workflow.trigger(Month, undefined)
      const second = MonthLive.pipe(Layer.provideMerge(Testing.layer({ startAt })))
      const other = yield* Effect.provide(get(run.workflowRunId), second)
      const own = yield* get(run.workflowRunId)
      assert.deepStrictEqual([own?.workflow, other], ["month", null])
    }).pipe(Effect.provide(MonthLive.pipe(Layer.provideMerge(Testing.layer({ startAt }))))),
  )
})

describe("without a test framework's clock", () => {
  it("a runtime of the layer is enough", async () => {
    const runtime = ManagedRuntime.make(
      MonthLive.pipe(Layer.provideMerge(Testing.layer({ startAt }))),
    )
    const program = Effect.gen(function* () {
      const run = yield* Workflow.trigger(Month, undefined)
      yield* Testing.runUntilSettled(run.workflowRunId)
      return yield* run.result
    })
    assert.strictEqual(await runtime.runPromise(program), startAt.getTime() + month)
    await runtime.dispose()
  })

  it.effect("setTime goes to an instant", () =>
    Effect.gen(function* () {
      const run = yield* Workflow.trigger(Month, undefined)
      yield* TestClock.setTime(startAt.getTime() + month)
      assert.strictEqual(yield* run.result, startAt.getTime() + month)
    }).pipe(Effect.provide(MonthLive.pipe(Layer.provideMerge(Testing.layer({ startAt }))))),
  )
})
