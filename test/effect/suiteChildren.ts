/** Children of the Effect API that are started and awaited later, or outlive their parent. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { Child, Engine, Sleep, Step, Workflow } from "flowly/effect"
import * as Testing from "flowly/testing"
import { type NewStore, rowOf, within } from "./place.ts"

class Odd extends Schema.TaggedError<Odd>()("Odd", { n: Schema.Number }) {}

export const childrenSuite = (where: string, newStore: NewStore): void => {
  describe(`children in the Effect API, ${where}`, () => {
    const Half = Workflow.make("half", {
      payload: Schema.Number,
      success: Schema.Number,
      error: Odd,
    })
    const HalfLive = Half.toLayer(
      Effect.fnUntraced(function* (n) {
        yield* Sleep.make("a while", "1 hour")
        return n % 2 === 0 ? n / 2 : yield* new Odd({ n })
      }),
    )

    it.effect("are started, and awaited later, with their typed errors", () => {
      const Both = Workflow.make("both", { success: Schema.Array(Schema.Number) })
      const live = Both.toLayer(
        Effect.fnUntraced(function* () {
          const four = yield* Child.start(Half, 8)
          const odd = yield* Child.start(Half, 3)
          const caught = yield* Effect.catchTag(odd.result, "Odd", ({ n }) => Effect.succeed(-n))
          return [yield* Effect.orDie(four.result), yield* Effect.orDie(Effect.succeed(caught))]
        }, Effect.orDie),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Both, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.deepStrictEqual(yield* run.result, [4, -3])
      }).pipe(within(newStore(), Layer.merge(HalfLive, live)))
    })

    it.effect.each([
      ["child name", { name: "" }],
      ['timeout of child "half"', { timeout: 0 }],
      ['timeout of child "half"', { timeout: Infinity }],
      ['maxAttempts of child "half"', { maxAttempts: Number.NaN }],
    ] as const)("that cannot be are refused, by name: %s", ([field, options]) => {
      const Parent = Workflow.make("parent", { success: Schema.Number })
      const live = Parent.toLayer(() => Effect.orDie(Child.run(Half, 2, options)))
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Parent, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        const { message } = yield* Effect.flip(run.result)
        assert.include(message, `InvalidInput: ${field}: must `)
      }).pipe(within(newStore(), Layer.merge(HalfLive, live)))
    })

    it.effect("run so many at a time under Effect.forEach, with their results in order", () => {
      const Fan = Workflow.make("fan", { success: Schema.Array(Schema.Number) })
      const items = [10, 2, 8, 4, 6]
      let open = 0
      let most = 0
      const half = (n: number) =>
        Effect.gen(function* () {
          most = Math.max(most, ++open)
          const result = yield* Child.run(Half, n)
          open--
          return result
        })
      const live = Fan.toLayer(() =>
        Effect.suspend(() => {
          // every execution of the body counts anew
          open = 0
          return Effect.orDie(Effect.forEach(items, half, { concurrency: 2 }))
        }),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Fan, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.deepStrictEqual(yield* run.result, [5, 1, 4, 2, 3])
        const children = yield* Effect.flatMap(Engine.Engine, (engine) =>
          engine.listRuns({ workflow: "half" }),
        )
        assert.strictEqual(children.length, items.length)
        assert.strictEqual(most, 2)
      }).pipe(within(newStore(), Layer.merge(HalfLive, live)))
    })

    it.effect("outlive their parent, or do not", () => {
      const ids: Array<string> = []
      const Leave = Workflow.make("leave")
      const live = Leave.toLayer(
        Effect.fnUntraced(function* () {
          const one = yield* Child.start(Half, 2, { name: "stays", onParentClose: "abandon" })
          const two = yield* Child.start(Half, 2, { name: "goes" })
          ids.push(one.workflowRunId, two.workflowRunId)
        }),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Leave, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        const ends = yield* Effect.forEach(ids, (id) => Testing.runUntilSettled(id))
        assert.deepStrictEqual(
          ends.map((end) => end.status),
          ["completed", "cancelled"],
        )
        assert.strictEqual((yield* rowOf(run.workflowRunId))?.status, "completed")
      }).pipe(within(newStore(), Layer.merge(HalfLive, live)))
    })

    it.effect("are recorded by the name that they are given, else by their workflow's", () => {
      const Names = Workflow.make("names")
      const live = Names.toLayer(
        Effect.fnUntraced(function* () {
          yield* Effect.orDie(Child.run(Half, 2, { name: "named" }))
          yield* Effect.orDie(Child.run(Half, 2))
        }),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Names, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        const keys = (yield* Testing.history(run.workflowRunId)).map((one) => one.key)
        assert.deepStrictEqual(keys, ["named", "half"])
      }).pipe(within(newStore(), Layer.merge(HalfLive, live)))
    })

    it.effect("have a version, a time limit and attempts of their own", () => {
      const Third = Workflow.make("third", { version: "2" })
      const Parent = Workflow.make("parent")
      const live = Layer.merge(
        Third.toLayer(() => Sleep.make("a while", "1 hour")),
        Parent.toLayer(() =>
          Effect.ignore(Child.run(Third, undefined, { timeout: "30 minutes", maxAttempts: 3 })),
        ),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Parent, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        const [child] = yield* Effect.flatMap(Engine.Engine, (engine) =>
          engine.listRuns({ workflow: "third" }),
        )
        assert.deepInclude(child, { status: "dead_letter", version: "2", maxAttempts: 3 })
      }).pipe(within(newStore(), live))
    })

    it.effect("start anew in the next attempt of a run that failed with their error", () => {
      const Parent = Workflow.make("parent")
      const live = Parent.toLayer(
        Effect.fnUntraced(function* () {
          const odd = yield* Effect.orDie(Effect.flip(Child.run(Half, 3)))
          yield* Effect.exit(Step.make("other", { run: Effect.die("caught") }))
          return yield* Effect.die(odd)
        }),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Parent, undefined, { maxAttempts: 2 })
        yield* Testing.runUntilSettled(run.workflowRunId)
        const children = yield* Effect.flatMap(Engine.Engine, (engine) =>
          engine.listRuns({ workflow: "half" }),
        )
        assert.strictEqual(children.length, 2)
      }).pipe(within(newStore(), Layer.merge(HalfLive, live)))
    })
  })
}
