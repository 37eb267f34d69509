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
              success: Schema.Date,
              run: Effect.succeed(new Date(0)),
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
            ["b", new Date(0)],
          ])
        }).pipe(within(newStore(), live))
      },
    )

    it.effect("a step whose result cannot be stored is unknown", () => {
      const undone: Array<unknown> = []
      const Odd = Workflow.make("odd")
      const live = Odd.toLayer(() =>
        Effect.asVoid(
          Step.make("odd", {
            run: Effect.succeed(() => "a function"),
            compensate: (result) => Effect.sync(() => undone.push(result)),
            compensateOnUnknown: true,
          }),
        ),
      )
      return Effect.gen(function* () {
        const { workflowRunId } = yield* Workflow.trigger(Odd, undefined)
        const row = yield* Testing.runUntilSettled(workflowRunId)
        assert.deepStrictEqual([row.status, undone], ["compensated", [undefined]])
      }).pipe(within(newStore(), live))
    })

    it.effect("what was under way is undone first, the latest first, back to no return", () => {
      const undone: Array<string> = []
      const step = (name: string, run: Effect.Effect<void>) =>
        Step.make(name, {
          run,
          compensate: () => Effect.sync(() => undone.push(name)),
          compensateOnUnknown: true,
        })
      const Trip = Workflow.make("trip")
      const live = Trip.toLayer(
        Effect.fnUntraced(function* () {
          yield* step("a", Effect.void)
          yield* Compensation.pointOfNoReturn("booked")
          yield* step("b", Effect.void)
          yield* Compensation.pointOfNoReturn("paid")
          const last = Effect.andThen(step("d", Effect.void), step("e", Effect.never))
          yield* Effect.all([step("c", Effect.never), last], { concurrency: "unbounded" })
        }),
      )
      return Effect.gen(function* () {
        const { workflowRunId } = yield* Workflow.trigger(Trip, undefined)
        yield* Testing.settle
        yield* Effect.flatMap(Engine.Engine, (engine) => engine.cancel(workflowRunId))
        const row = yield* Testing.runUntilSettled(workflowRunId)
        assert.deepStrictEqual([row.status, undone], ["compensated", ["e", "c", "d"]])
      }).pipe(within(newStore(), live))
    })

    it.effect("a step stays unknown while it waits for its next try", () => {
      const undone: Array<unknown> = []
      const Call = Workflow.make("call")
      const live = Call.toLayer(() =>
        Effect.orDie(
          Step.make("call", {
            run: Effect.never,
            timeout: "1 minute",
            retry: { maxAttempts: 2, initialDelayMs: 3_600_000, maxDelayMs: 3_600_000 },
            compensate: (result) => Effect.sync(() => undone.push(result)),
            compensateOnUnknown: true,
          }),
        ),
      )
      return Effect.gen(function* () {
        const { workflowRunId } = yield* Workflow.trigger(Call, undefined)
        yield* Testing.advance("2 minutes")
        assert.strictEqual((yield* rowOf(workflowRunId))?.status, "sleeping")
        yield* Effect.flatMap(Engine.Engine, (engine) => engine.cancel(workflowRunId))
        const row = yield* Testing.runUntilSettled(workflowRunId)
        assert.deepStrictEqual([row.status, undone], ["compensated", [undefined]])
      }).pipe(within(newStore(), live))
    })

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
        const late = yield* Workflow.trigger(Keep, undefined, { timeoutMs: 60_000 })
        const other = yield* Testing.runUntilSettled(late.workflowRunId)
        assert.deepStrictEqual([other.status, undone.length], ["compensated", 1])
      }).pipe(within(newStore(), live))
    })

    it.effect("an undo is tried three times, and each try for as long as its timeout", () => {
      const tries = [0, 0]
      const Stay = Workflow.make("stay", { error: Boom })
      const live = Stay.toLayer(
        Effect.fnUntraced(function* () {
          const fails = Effect.suspend(() =>
            ++tries[0]! < 3 ? Effect.fail(new Boom()) : Effect.void,
          )
          const hangs = Effect.suspend(() => (++tries[1]! < 2 ? Effect.never : Effect.void))
          const compensate = Compensation.make(() => hangs, { timeout: "1 minute" })
          yield* Step.make("a", { run: Effect.void, compensate: () => fails })
          yield* Step.make("b", { run: Effect.void, compensate })
          return yield* new Boom()
        }),
      )
      return Effect.gen(function* () {
        const { workflowRunId } = yield* Workflow.trigger(Stay, undefined)
        const row = yield* Testing.runUntilSettled(workflowRunId)
        assert.deepStrictEqual([row.status, tries], ["compensated", [3, 2]])
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
        const told: Array<unknown> = []
        engine.onLifecycle((event) => {
          if (event.type === "step" && event.event._tag === "compensated") told.push(event.event)
        })
        const { workflowRunId } = yield* Workflow.trigger(Stay, undefined)
        const first = yield* Testing.runUntilSettled(workflowRunId)
        assert.deepStrictEqual([first.status, tries], ["failed", 2])
        assert.deepStrictEqual(told, [{ _tag: "compensated", stepKey: "a", failed: true }])
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
