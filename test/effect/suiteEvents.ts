/** Events and tokens in the Effect API. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { Event, Sleep, Step, Token, Workflow, type WorkflowRun } from "flowly/effect"
import * as Testing from "flowly/testing"
import { type NewStore, rowOf, within } from "./place.ts"

const Decision = Schema.Struct({ approved: Schema.Boolean, at: Schema.Date })

export const eventsSuite = (where: string, newStore: NewStore): void => {
  describe(`events and tokens in the Effect API, ${where}`, () => {
    it.effect("come early or late, in order, through their Schema; a timeout is None", () => {
      const Waits = Workflow.make("waits", {
        success: Schema.Array(Schema.NullOr(Schema.String)),
      })
      const live = Waits.toLayer(() =>
        Effect.gen(function* () {
          const wait = Event.wait("go", { schema: Schema.Date, timeout: "1 hour" })
          const seen = [yield* wait, yield* wait, yield* wait, yield* wait]
          assert.isTrue(Option.isNone(yield* Event.wait("none", { timeout: 0 })))
          return seen.map((one) => Option.getOrNull(Option.map(one, (date) => date.toISOString())))
        }),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Waits, undefined)
        const send = (ms: number, id?: string) =>
          Event.send(run.workflowRunId, "go", new Date(ms), { id, schema: Schema.Date })
        assert.strictEqual(yield* send(1, "x"), "sent")
        assert.strictEqual(yield* send(9, "x"), "duplicate")
        yield* send(2)
        yield* Testing.settle
        assert.strictEqual((yield* rowOf(run.workflowRunId))?.status, "waiting")
        yield* Testing.advance("59 minutes")
        yield* send(3)
        yield* Testing.settle
        yield* Testing.advance("59 minutes")
        assert.strictEqual((yield* rowOf(run.workflowRunId))?.status, "waiting")
        yield* Testing.advance("1 minute")
        const at = (ms: number) => new Date(ms).toISOString()
        assert.deepStrictEqual(yield* run.result, [at(1), at(2), at(3), null])
        const keys = (yield* Testing.history(run.workflowRunId)).map((one) => one.key)
        assert.deepStrictEqual(keys, ["go", "go#2", "go#3", "go#4", "none"])
        const late = yield* Effect.flip(send(4))
        assert.strictEqual(late._tag, "RunStateConflict")
      }).pipe(within(newStore(), live))
    })

    it.effect("a wait, a sleep or a name that nobody can mean is a defect", () => {
      const never = new Date(Number.NaN)
      const wrong: ReadonlyArray<
        readonly [string, Effect.Effect<unknown, never, WorkflowRun.WorkflowRun>]
      > = [
        ['sleep "late"', Sleep.until("late", new Date(Date.UTC(9999, 0) + 1))],
        ['sleep "never"', Sleep.until("never", never)],
        ['sleep "long"', Sleep.make("long", "36526 days")],
        ["timeout of the wait", Event.wait("go", { timeout: "36526 days" })],
        ["timeout of the wait", Event.wait("go", { timeout: -1 })],
        ["event name", Event.wait("flowly:own")],
        ["event name", Event.emit("")],
        ["patch id", Workflow.patched("")],
      ]
      const Wrong = Workflow.make("wrong", { success: Schema.Array(Schema.String) })
      const live = Wrong.toLayer(() =>
        Effect.forEach(wrong, ([, operation]) =>
          Effect.map(Effect.exit(operation), (exit) =>
            Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : "fine",
          ),
        ),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Wrong, undefined)
        yield* Testing.settle
        const told = yield* run.result
        assert.strictEqual(told.length, wrong.length)
        wrong.forEach(([what], i) => assert.include(told[i], what))
      }).pipe(within(newStore(), live))
    })

    it.effect("a branch that is interrupted takes no event from those after it", () => {
      const Fork = Workflow.make("fork", { success: Schema.String })
      const live = Fork.toLayer(() =>
        Effect.gen(function* () {
          const first = yield* Effect.forkChild(Event.wait<string>("go"))
          yield* Step.make("work", { run: Effect.void })
          yield* Fiber.interrupt(first)
          return Option.getOrElse(yield* Event.wait<string>("go"), () => "none")
        }),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Fork, undefined)
        yield* Testing.settle
        yield* Event.send(run.workflowRunId, "go", "taken")
        yield* Testing.settle
        assert.strictEqual(yield* run.result, "taken")
      }).pipe(within(newStore(), live))
    })

    it.effect("many runs at once: handles in their order, each conflict for itself", () => {
      const Echo = Workflow.make("echo", { payload: { n: Schema.Number }, success: Schema.Number })
      const live = Echo.toLayer(({ n }) => Effect.succeed(n))
      const item = (n: number, idempotencyKey?: string) => ({
        payload: { n },
        options: { idempotencyKey },
      })
      return Effect.gen(function* () {
        const outcomes = yield* Workflow.triggerMany(Echo, [item(1, "k"), item(2, "k"), item(3)])
        yield* Testing.settle
        const told: Array<unknown> = []
        for (const one of outcomes) {
          if (Result.isSuccess(one)) told.push(yield* one.success.result)
          else told.push(one.failure._tag, "fields" in one.failure && one.failure.fields)
        }
        assert.deepStrictEqual(told, [1, "IdempotencyConflict", ["$.n"], 3])
      }).pipe(within(newStore(), live))
    })

    it.effect("a token resolves its wait once; a forged one is told so", () => {
      const Ask = Workflow.make("ask", { success: Schema.NullOr(Decision) })
      let token = ""
      const live = Ask.toLayer(() =>
        Effect.gen(function* () {
          const approval = yield* Token.make("approval")
          yield* Step.make("hand out", { run: Effect.sync(() => void (token = approval)) })
          const reminded = yield* Token.wait(approval, { timeout: "1 day", schema: Decision })
          if (Option.isSome(reminded)) return null
          const answer = yield* Token.wait(approval, { schema: Decision })
          return Option.getOrNull(answer)
        }),
      )
      const decision = { approved: true, at: new Date(5) }
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Ask, undefined)
        yield* Testing.settle
        yield* Testing.advance("2 days")
        const forged = yield* Effect.flip(Token.resolve(`${token.slice(0, -3)}AAA`, 1))
        assert.strictEqual(forged._tag, "TokenNotFound")
        const options = { schema: Decision }
        assert.strictEqual(yield* Token.resolve(token, decision, options), "resolved")
        const again = yield* Token.resolve(token, { ...decision, approved: false }, options)
        assert.strictEqual(again, "already-resolved")
        yield* Testing.settle
        assert.deepStrictEqual(yield* run.result, decision)
      }).pipe(within(newStore(), live))
    })
  })
}
