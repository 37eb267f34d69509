/** Steering, reading and explaining runs in the Effect API. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Engine, Sleep, Step, Workflow } from "flowly/effect"
import * as Testing from "flowly/testing"
import { type NewStore, rowOf, within } from "./place.ts"

export const controlSuite = (where: string, newStore: NewStore): void => {
  const makeTrial = () => {
    const ran: Array<string> = []
    const Trial = Workflow.make("trial", {
      payload: { plan: Schema.String },
      success: Schema.String,
    })
    const live = Trial.toLayer(
      Effect.fnUntraced(function* ({ plan }) {
        const begin = Effect.sync(() => (ran.push("sign-up"), "c-1"))
        const customer = yield* Step.make("sign-up", { run: begin, success: Schema.String })
        yield* Effect.orDie(Workflow.setStatus("on trial"))
        yield* Effect.orDie(Workflow.setAttributes({ plan, days: 30 }))
        yield* Sleep.make("trial", "30 days")
        yield* Step.make("bill", { run: Effect.sync(() => void ran.push(`bill ${plan}`)) })
        return `${customer}: ${plan}`
      }),
    )
    return { Trial, live, ran }
  }

  describe(`control in the Effect API, ${where}`, () => {
    it.effect("a run is paused, resumed, woken, read, explained and forked", () => {
      const { Trial, live, ran } = makeTrial()
      return Effect.gen(function* () {
        const engine = yield* Engine.Engine
        const run = yield* Workflow.trigger(
          Trial,
          { plan: "small" },
          { attributes: { region: "eu" } },
        )
        const id = run.workflowRunId
        yield* Testing.settle
        const asleep = yield* engine.explain(id)
        assert.deepInclude(asleep?._tag === "waiting" ? asleep.for[0] : {}, { stepKey: "trial" })
        const row = yield* rowOf(id)
        assert.deepStrictEqual(row?.attributes, { region: "eu", plan: "small", days: 30 })
        assert.strictEqual(row?.statusText, "on trial")
        assert.strictEqual(yield* engine.count({ attributes: { plan: "small" } }), 1)

        const filter = { workflow: "trial", status: "sleeping" } as const
        const paused = yield* engine.pauseMany(filter, { reason: "audit" })
        assert.deepStrictEqual(paused, { accepted: 1, refused: 0 })
        yield* Testing.advance("60 days")
        assert.strictEqual((yield* rowOf(id))?.status, "paused")
        yield* engine.resume(id)
        assert.strictEqual(yield* run.result, "c-1: small")
        const late = yield* Effect.flip(engine.wake(id))
        assert.strictEqual(late._tag, "RunStateConflict")

        const fork = yield* Workflow.fork(Trial, id, {
          from: { stepKey: "bill" },
          payload: { plan: "large" },
        })
        assert.strictEqual(yield* fork.result, "c-1: large")
        assert.deepStrictEqual(ran, ["sign-up", "bill small", "bill large"])
        const log = yield* engine.getControls(id)
        assert.deepStrictEqual(
          log.map(({ verb, reason }) => [verb, reason]),
          [
            ["pause", "audit"],
            ["resume", null],
          ],
        )
      }).pipe(within(newStore(), live))
    })

    it.effect("what a run tells of itself is checked where it is said", () => {
      const Tells = Workflow.make("tells", { success: Schema.Array(Schema.String) })
      const live = Tells.toLayer(() =>
        Effect.forEach(
          [
            Workflow.setStatus("x".repeat(1001)),
            Workflow.setAttributes({ n: Number.NaN }),
            Workflow.setAttributes({ "": "no name" }),
          ],
          (said) => Effect.map(Effect.flip(Effect.mapError(said, String)), (error) => error),
        ).pipe(Effect.orDie),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Tells, undefined)
        yield* Testing.settle
        const told = yield* run.result
        assert.deepStrictEqual(
          told.map((error) => /status text|attributes(\.n)?/.exec(error)?.[0]),
          ["status text", "attributes.n", "attributes"],
        )
        const row = yield* rowOf(run.workflowRunId)
        assert.deepStrictEqual([row?.statusText, row?.attributes], [null, {}])
      }).pipe(within(newStore(), live))
    })

    it.effect("a run is rescheduled and terminated; what is unknown is RunNotFound", () => {
      const { Trial, live, ran } = makeTrial()
      return Effect.gen(function* () {
        const engine = yield* Engine.Engine
        const run = yield* Workflow.trigger(Trial, { plan: "small" })
        const id = run.workflowRunId
        yield* Testing.settle
        yield* engine.reschedule(id, new Date(Date.UTC(2031, 0, 1)), { sleep: "trial" })
        yield* Testing.settle
        yield* Testing.advance("31 days")
        assert.strictEqual((yield* rowOf(id))?.status, "sleeping")
        yield* engine.terminate(id, { reason: "enough" })
        const error = yield* Effect.flip(run.result)
        assert.include(String(error), "enough")
        assert.deepStrictEqual(ran, ["sign-up"])
        const nobody = yield* Effect.flip(engine.pause("01990000-0000-7000-8000-000000000000"))
        assert.strictEqual(nobody._tag, "RunNotFound")
      }).pipe(within(newStore(), live))
    })
  })
}
