/** Undoing in the Effect API. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Compensation, Engine, Sleep, Step, Workflow } from "flowly/effect"
import * as Testing from "flowly/testing"
import { type NewStore, rowOf, within } from "./place.ts"

class Boom extends Schema.TaggedError<Boom>()("Boom", {}) {}

export const compensationSuite = (where: string, newStore: NewStore): void => {
  describe(`compensation in the Effect API, ${where}`, () => {
    it.effect(
      "an unknown step is undone with undefined; a point of no return keeps the rest",
      () => {
        const undone: Array<unknown> = []
        const Pay = Workflow.make("pay", { error: Boom })
        const undo = (name: string) => (result: unknown) =>
          Effect.sync(() => undone.push([name, result]))
        const live = Pay.toLayer(
          Effect.fnUntraced(function* () {
            yield* Step.make("a", { run: Effect.succeed("A"), compensate: undo("a") })
            yield* Compensation.pointOfNoReturn("shipped")
            yield* Step.make("b", {
              success: Schema.String,
              run: Effect.succeed("B"),
              compensate: undo("b"),
            })
            yield* Step.make("late", {
              success: Schema.String,
              run: Effect.never,
              timeout: "1 minute",
              compensate: undo("late"),
              compensateOnUnknown: true,
            }).pipe(Effect.catchTag("StepTimeout", () => Effect.fail(new Boom())))
          }),
        )
        return Effect.gen(function* () {
          const { workflowRunId } = yield* Workflow.trigger(Pay, undefined)
          const row = yield* Testing.runUntilSettled(workflowRunId)
          assert.strictEqual(row.status, "compensated")
          assert.deepStrictEqual(undone, [
            ["late", undefined],
            ["b", "B"],
          ])
        }).pipe(within(newStore(), live))
      },
    )

    it.effect("compensateOn chooses the endings that undo", () => {
      const undone: Array<string> = []
      const Keep = Workflow.make("keep", { compensateOn: { cancel: false } })
      const live = Keep.toLayer(
        Effect.fnUntraced(function* () {
          const compensate = () => Effect.sync(() => undone.push("a"))
          yield* Step.make("a", { run: Effect.succeed(1), compensate })
          yield* Sleep.make("long", "1 hour")
        }),
      )
      return Effect.gen(function* () {
        const { workflowRunId } = yield* Workflow.trigger(Keep, undefined)
        yield* Testing.settle
        const engine = yield* Engine.Engine
        yield* engine.cancel(workflowRunId)
        const row = yield* Testing.runUntilSettled(workflowRunId)
        assert.deepStrictEqual([row.status, undone.length], ["cancelled", 0])
      }).pipe(within(newStore(), live))
    })

    it.effect("an undo that gave up is tried again, or skipped, by an operator", () => {
      let tries = 0
      const Stay = Workflow.make("stay", { error: Boom })
      const live = Stay.toLayer(
        Effect.fnUntraced(function* () {
          yield* Step.make("a", {
            run: Effect.succeed(1),
            compensate: Compensation.make(
              () => Effect.suspend(() => (tries++, Effect.fail(new Boom()))),
              { retry: { maxAttempts: 2, initialDelayMs: 60_000 } },
            ),
          })
          return yield* new Boom()
        }),
      )
      return Effect.gen(function* () {
        const engine = yield* Engine.Engine
        const { workflowRunId } = yield* Workflow.trigger(Stay, undefined)
        const first = yield* Testing.runUntilSettled(workflowRunId)
        assert.deepStrictEqual([first.status, tries], ["failed", 2])
        yield* engine.retryCompensation(workflowRunId, "a")
        const second = yield* Testing.runUntilSettled(workflowRunId)
        assert.deepStrictEqual([second.status, tries], ["failed", 4])
        yield* engine.skipCompensation(workflowRunId)
        yield* Testing.runUntilSettled(workflowRunId)
        assert.strictEqual((yield* rowOf(workflowRunId))?.status, "compensated")
        assert.strictEqual(tries, 4)
        const again = yield* Effect.flip(engine.retryCompensation(workflowRunId))
        assert.strictEqual(again._tag, "RunStateConflict")
      }).pipe(within(newStore(), live))
    })
  })
}
