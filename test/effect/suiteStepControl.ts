/** What a step of the Effect API may say about its tries: limits, delays, heartbeats. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Compensation, FlowlyError, Step, Workflow } from "flowly/effect"
import * as Testing from "flowly/testing"
import { engineOn, type NewStore, within } from "./place.ts"

class Busy extends Schema.TaggedError<Busy>()("Busy", { n: Schema.Number }) {}

export const stepControlSuite = (where: string, newStore: NewStore): void => {
  describe(`step control in the Effect API, ${where}`, () => {
    const Call = Workflow.make("call", { success: Schema.Unknown, error: Busy })

    it.effect("an error that is marked nonRetryable is not tried again", () => {
      let tries = 0
      const live = Call.toLayer(() =>
        Step.make("call", {
          error: Busy,
          run: Effect.suspend(() => Effect.fail(Step.nonRetryable(new Busy({ n: ++tries })))),
          retry: { maxAttempts: 5 },
        }).pipe(Effect.catchTag("Busy", ({ n }) => Effect.succeed(n))),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Call, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.strictEqual(yield* run.result, 1)
        assert.strictEqual(tries, 1)
      }).pipe(within(newStore(), live))
    })

    it.effect("an error that is marked retryAfter is tried again then, and not before", () => {
      const at: Array<number> = []
      const live = Call.toLayer(() =>
        Step.make("call", {
          error: Busy,
          run: Effect.flatMap(Clock.currentTimeMillis, (now) => {
            at.push(now)
            if (at.length === 1) return Effect.fail(Step.retryAfter(new Busy({ n: 1 }), "1 hour"))
            if (at.length > 2) return Effect.succeed("done")
            return Effect.fail(Step.retryAfter(new Busy({ n: 2 }), new Date(now + 7_200_000)))
          }),
          retry: { maxAttempts: 3, initialDelayMs: 1, maxDelayMs: 10 },
        }),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Call, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.strictEqual(yield* run.result, "done")
        const [first = 0, second = 0, third = 0] = at
        assert.isAtLeast(second - first, 3_600_000)
        assert.isAtLeast(third - second, 7_200_000)
      }).pipe(within(newStore(), live))
    })

    it.effect("a deadline counts over all tries; it fails with StepDeadlineExceeded", () => {
      let tries = 0
      const live = Call.toLayer(() =>
        Step.make("call", {
          error: Busy,
          run: Effect.suspend(() => Effect.fail(new Busy({ n: ++tries }))),
          retry: { maxAttempts: 100, backoff: "fixed", initialDelayMs: 3_600_000 },
          deadline: "150 minutes",
        }).pipe(
          Effect.catchTag("StepDeadlineExceeded", (error) =>
            Effect.succeed([
              error instanceof FlowlyError.StepDeadlineExceeded,
              error.attempts,
              error.deadlineMs,
            ]),
          ),
        ),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Call, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        // at 0, 1 and 2 hours; the next would come at 3
        assert.deepStrictEqual(yield* run.result, [true, 3, 9_000_000])
        assert.strictEqual(tries, 3)
      }).pipe(within(newStore(), live))
    })

    const wrong: ReadonlyArray<readonly [string, Partial<Parameters<typeof Step.make>[1]>]> = [
      ["retry.maxAttempts", { retry: { maxAttempts: Number.NaN } }],
      ["retry.maxAttempts", { retry: { maxAttempts: 0 } }],
      ["retry.initialDelayMs", { retry: { initialDelayMs: Number.NaN } }],
      ["retry.initialDelayMs", { retry: { initialDelayMs: Infinity } }],
      ["retry.maxDelayMs", { retry: { maxDelayMs: -1 } }],
      ["retry.factor", { retry: { factor: Number.NaN } }],
      ["retry.backoff", { retry: { backoff: "expo" as "fixed" } }],
      ["timeout", { timeout: 0 }],
      ["timeout", { timeout: Infinity }],
      ["deadline", { deadline: -1 }],
      ["heartbeatTimeout", { heartbeatTimeout: "200000 weeks" }],
      [
        "retry.maxAttempts of compensate",
        { compensate: Compensation.make(() => Effect.void, { retry: { maxAttempts: 1.5 } }) },
      ],
      [
        "timeout of compensate",
        { compensate: Compensation.make(() => Effect.void, { timeout: 0 }) },
      ],
    ]

    it.effect.each(wrong)("a number that cannot be is refused, by name: %s", ([field, options]) => {
      let tries = 0
      const live = Call.toLayer(() =>
        Step.make("call", {
          ...(options as object),
          error: Busy,
          run: Effect.suspend(() => Effect.fail(new Busy({ n: ++tries }))),
        }),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Call, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        const { message } = yield* Effect.flip(run.result)
        assert.include(message, `InvalidInput: ${field} of step "call": must be `)
        assert.strictEqual(tries, 0)
      }).pipe(within(newStore(), live))
    })

    it.effect("a first delay of more than 30 seconds is not cut short", () => {
      const at: Array<number> = []
      const live = Call.toLayer(() =>
        Step.make("call", {
          error: Busy,
          run: Effect.flatMap(Clock.currentTimeMillis, (now) =>
            at.push(now) < 2 ? Effect.fail(new Busy({ n: 1 })) : Effect.succeed("done"),
          ),
          retry: { maxAttempts: 2, initialDelayMs: 600_000 },
        }),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Call, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.isAtLeast((at[1] ?? 0) - (at[0] ?? 0), 600_000)
      }).pipe(within(newStore(), live))
    })

    it.effect("the next attempt of a run tries a step again whose limit was its error", () => {
      const tried: Array<string> = []
      const again = (name: string) => Effect.sync(() => tried.push(name) > 2)
      const Twice = Workflow.make("twice")
      const live = Twice.toLayer(
        Effect.fnUntraced(function* () {
          const late = yield* Effect.flip(
            Step.make("slow", {
              run: Effect.flatMap(again("slow"), (ends) => (ends ? Effect.void : Effect.never)),
              timeout: "1 minute",
            }),
          )
          const other = Effect.andThen(again("other"), Effect.fail(new Busy({ n: 1 })))
          yield* Effect.ignore(Step.make("other", { error: Busy, run: other }))
          return yield* Effect.die(late)
        }, Effect.ignore),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Twice, undefined, { maxAttempts: 2 })
        const row = yield* Testing.runUntilSettled(run.workflowRunId)
        assert.deepStrictEqual([row.status, tried], ["completed", ["slow", "other", "slow"]])
      }).pipe(within(newStore(), live))
    })

    it.effect("of two steps that failed alike, the next attempt tries both again", () => {
      const tried: Array<string> = []
      const Twice = Workflow.make("twice", { error: Schema.String })
      const fails = (name: string) =>
        Step.make(name, {
          error: Schema.String,
          run: Effect.suspend(() => (tried.push(name), Effect.fail("no"))),
        })
      const live = Twice.toLayer(() => Effect.andThen(Effect.flip(fails("a")), fails("b")))
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Twice, undefined, { maxAttempts: 2 })
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.deepStrictEqual(tried, ["a", "b", "a", "b"])
      }).pipe(within(newStore(), live))
    })

    it.effect("a heartbeat reaches the next try, on another engine too", () => {
      const heard: Array<unknown> = []
      const pages = Effect.fnUntraced(function* ({ lastHeartbeat, heartbeat }: Step.Info) {
        heard.push(lastHeartbeat)
        if (heard.length > 1) return "done"
        yield* heartbeat({ page: 1 })
        yield* heartbeat({ page: 2n })
        return yield* Effect.never
      })
      const live = Call.toLayer(
        Effect.fnUntraced(function* () {
          return yield* Step.make("call", { run: pages })
        }),
      )
      const store = newStore()
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Call, undefined).pipe(
          Effect.tap(() => Testing.settle),
          Effect.provide(engineOn(store, live)),
        )
        yield* Effect.gen(function* () {
          yield* Testing.runUntilSettled(run.workflowRunId)
          const handle = yield* Workflow.handle(Call, run.workflowRunId)
          assert.strictEqual(yield* handle.result, "done")
        }).pipe(Effect.provide(engineOn(store, live, 60_000)))
        assert.deepStrictEqual(heard, [undefined, { page: 2n }])
      })
    })

    it.effect("a try that gives no heartbeat fails with StepHeartbeatTimeout", () => {
      const live = Call.toLayer(() =>
        Step.make("call", { run: Effect.never, heartbeatTimeout: "1 minute" }).pipe(
          Effect.catchTag("StepHeartbeatTimeout", ({ timeoutMs }) => Effect.succeed(timeoutMs)),
        ),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Call, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.strictEqual(yield* run.result, 60_000)
      }).pipe(within(newStore(), live))
    })
  })
}
