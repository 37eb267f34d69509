/**
 * Bodies in the Effect API: determinism, services, interruption, finalizers, compensation,
 * registration.
 */
import { assert, describe, it } from "@effect/vitest"
import { vi } from "vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { Compensation, Engine, Sleep, Step, Workflow } from "flowly/effect"
import * as Testing from "flowly/testing"
import { type NewStore, rowOf, startAt, within } from "./place.ts"

const day = 24 * 3_600_000

class Ledger extends Context.Service<
  Ledger,
  { readonly write: (line: string) => Effect.Effect<void> }
>()("test/Ledger") {}

const ledgerIn = (lines: Array<string>) =>
  Layer.succeed(Ledger, {
    write: (line) =>
      Effect.sync(() => {
        lines.push(line)
      }),
  })

const write = (line: string) => Effect.flatMap(Ledger, (ledger) => ledger.write(line))

class ShipmentLost extends Schema.TaggedError<ShipmentLost>()("ShipmentLost", {
  orderId: Schema.String,
}) {}

export const bodiesSuite = (where: string, newStore: NewStore): void => {
  describe(`determinism of bodies in the Effect API, ${where}`, () => {
    it.effect(
      "Clock is the time of the last completion, Random is the run's: also on replay",
      () => {
        const Dice = Workflow.make("dice", { success: Schema.Array(Schema.Number) })
        const seen: Array<ReadonlyArray<number>> = []
        const live = Dice.toLayer(
          Effect.fnUntraced(function* () {
            const drawn: Array<number> = []
            const draw = Effect.gen(function* () {
              drawn.push(yield* Clock.currentTimeMillis, yield* Random.next)
            })
            yield* draw
            yield* Step.make("a", { run: Effect.sleep("3 hours") })
            yield* draw
            yield* Sleep.make("overnight", "1 day")
            yield* draw
            yield* Step.make("b", { run: Effect.void })
            yield* draw
            seen.push([...drawn])
            yield* Sleep.make("another night", "1 day")
            seen.push([...drawn])
            return drawn
          }),
        )
        return Effect.gen(function* () {
          const run = yield* Workflow.trigger(Dice, undefined)
          yield* Testing.runUntilSettled(run.workflowRunId)
          const result = yield* run.result
          for (const one of seen) assert.deepStrictEqual(one, result)
          assert.strictEqual(seen.length, 3)
          const hours = [0, 3, 27, 27]
          const times = result.filter((_, index) => index % 2 === 0)
          assert.deepStrictEqual(
            times,
            hours.map((n) => startAt + n * 3_600_000),
          )
          assert.strictEqual(new Set(result.filter((_, index) => index % 2 === 1)).size, 4)
          const other = yield* Workflow.trigger(Dice, undefined)
          yield* Testing.runUntilSettled(other.workflowRunId)
          assert.notStrictEqual((yield* other.result)[1], result[1])
        }).pipe(within(newStore(), live))
      },
    )

    it.effect(
      "Clock tells one time in milliseconds and in nanoseconds, in bodies and steps",
      () => {
        const Timed = Workflow.make("timed")
        const three = 3n * 3_600_000_000_000n
        const read = Effect.gen(function* () {
          const millis = yield* Clock.currentTimeMillis
          const nanos = yield* Clock.currentTimeNanos
          assert.strictEqual(nanos, BigInt(millis) * 1_000_000n)
          return { nanos, monotonic: yield* Clock.monotonicTimeNanos }
        })
        const passed: Array<ReadonlyArray<bigint>> = []
        const time = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          Effect.gen(function* () {
            const before = yield* read
            yield* effect
            const after = yield* read
            passed.push([after.nanos - before.nanos, after.monotonic - before.monotonic])
          })
        const live = Timed.toLayer(() =>
          time(Step.make("a", { run: time(Effect.sleep("3 hours")) })),
        )
        return Effect.gen(function* () {
          const run = yield* Workflow.trigger(Timed, undefined)
          yield* Testing.runUntilSettled(run.workflowRunId)
          yield* run.result
          assert.deepStrictEqual(passed, [
            [three, three],
            [three, three],
          ])
        }).pipe(within(newStore(), live))
      },
    )

    it.effect("a sleep on the clock, in the body, is a defect that names Sleep", () => {
      const Naps = Workflow.make("naps")
      const live = Naps.toLayer(() => Effect.sleep("1 second"))
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Naps, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.match((yield* Effect.flip(run.result)).message, /Sleep\.make/)
      }).pipe(within(newStore(), live))
    })

    it.effect("a race is decided on replay as it was the first time", () => {
      const Race = Workflow.make("race", { success: Schema.String })
      const winners: Array<string> = []
      const live = Race.toLayer(
        Effect.fnUntraced(function* () {
          const step = (name: string, hours: number) =>
            Step.make(name, {
              success: Schema.String,
              run: Effect.as(Effect.sleep(`${hours} hours`), name),
            })
          const winner = yield* Effect.raceFirst(step("slow", 2), step("fast", 1))
          winners.push(winner)
          yield* Sleep.make("overnight", "1 day")
          return winner
        }),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Race, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.strictEqual(yield* run.result, "fast")
        assert.deepStrictEqual(winners, ["fast", "fast"])
      }).pipe(within(newStore(), live))
    })

    it.effect("a sleep is at most a hundred years; one until long ago is over at once", () => {
      const Long = Workflow.make("long", { success: Schema.Boolean })
      const live = Long.toLayer(() =>
        Effect.andThen(
          Sleep.until("long past", new Date(-8.64e15)),
          Effect.map(Effect.exit(Sleep.make("too long", "40000 days")), Exit.hasDies),
        ),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Long, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.isTrue(yield* run.result)
      }).pipe(within(newStore(), live))
    })
  })

  describe(`services of steps, ${where}`, () => {
    it.effect("a step uses what the layer of its workflow was given", () => {
      const Notes = Workflow.make("notes")
      const lines: Array<string> = []
      const live = Notes.toLayer(
        Effect.fnUntraced(function* () {
          yield* Step.make("write", { run: write("done"), compensate: () => write("undone") })
          yield* Sleep.make("overnight", "1 day")
          return yield* Effect.die("no")
        }),
      )
      // the requirement of the step is the layer's
      const needs: Layer.Layer<never, unknown, Engine.Engine | Ledger> = live
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Notes, undefined)
        const row = yield* Testing.runUntilSettled(run.workflowRunId)
        assert.strictEqual(row.status, "compensated")
        assert.deepStrictEqual(lines, ["done", "undone"])
      }).pipe(within(newStore(), Layer.provide(needs, ledgerIn(lines))))
    })
  })

  describe(`the order saga in the Effect API, ${where}`, () => {
    const Order = Workflow.make("process-order", {
      payload: { orderId: Schema.String, amount: Schema.Number, lost: Schema.Boolean },
      success: Schema.Struct({ payment: Schema.String, tracking: Schema.String }),
      error: ShipmentLost,
    })
    const live = Order.toLayer(
      Effect.fnUntraced(function* ({ orderId, amount, lost }) {
        const { reservationId } = yield* Step.make("reserve-inventory", {
          success: Schema.Struct({ reservationId: Schema.String }),
          run: Effect.as(write(`reserve ${orderId}`), { reservationId: `r-${orderId}` }),
          compensate: (reserved) => write(`release ${reserved.reservationId}`),
          retry: { maxAttempts: 3, backoff: "exponential", initialDelayMs: 500 },
        })
        const { paymentId } = yield* Step.make("charge-card", {
          success: Schema.Struct({ paymentId: Schema.String }),
          run: ({ idempotencyKey }) =>
            Effect.as(write(`charge ${amount} ${idempotencyKey.split(":")[1]}`), {
              paymentId: `p-${orderId}`,
            }),
          compensate: Compensation.make(
            ({ paymentId: paid }: { readonly paymentId: string }, { attempt }) =>
              Effect.suspend((): Effect.Effect<void, string, Ledger> =>
                attempt < 3 ? Effect.fail("the bank is closed") : write(`refund ${paid}`),
              ),
            { retry: { maxAttempts: 3, initialDelayMs: 3_600_000 } },
          ),
        })
        yield* Sleep.make("cooling-period", "30 seconds")
        const tracking = yield* Step.make("ship", {
          success: Schema.String,
          error: ShipmentLost,
          run: lost
            ? Effect.fail(new ShipmentLost({ orderId }))
            : Effect.as(write(`ship ${reservationId}`), `t-${orderId}`),
        })
        return { payment: paymentId, tracking }
      }),
    )

    it.effect("completes, each step once", () => {
      const lines: Array<string> = []
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Order, { orderId: "1", amount: 5, lost: false })
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.deepStrictEqual(yield* run.result, { payment: "p-1", tracking: "t-1" })
        assert.deepStrictEqual(lines, ["reserve 1", "charge 5 charge-card", "ship r-1"])
      }).pipe(within(newStore(), Layer.provide(live, ledgerIn(lines))))
    })

    it.effect("is undone in reverse order, with the tries of each undo, and fails typed", () => {
      const lines: Array<string> = []
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Order, { orderId: "1", amount: 5, lost: true })
        const row = yield* Testing.runUntilSettled(run.workflowRunId)
        assert.strictEqual(row.status, "compensated")
        assert.deepStrictEqual(yield* Effect.flip(run.result), new ShipmentLost({ orderId: "1" }))
        assert.deepStrictEqual(lines, [
          "reserve 1",
          "charge 5 charge-card",
          "refund p-1",
          "release r-1",
        ])
        const history = yield* Testing.history(run.workflowRunId)
        assert.deepStrictEqual(
          history.map(({ key, compensation }) => [key, compensation]),
          [
            ["reserve-inventory", "completed"],
            ["charge-card", "completed"],
            ["cooling-period", null],
            ["ship", null],
          ],
        )
      }).pipe(within(newStore(), Layer.provide(live, ledgerIn(lines))))
    })

    it.effect("a cancel undoes it, too", () => {
      const lines: Array<string> = []
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Order, { orderId: "1", amount: 5, lost: false })
        yield* Testing.settle
        const engine = yield* Engine.Engine
        assert.strictEqual(yield* engine.cancel(run.workflowRunId), "requested")
        const row = yield* Testing.runUntilSettled(run.workflowRunId)
        assert.strictEqual(row.status, "compensated")
        assert.deepStrictEqual(lines.slice(2), ["refund p-1", "release r-1"])
        const error = yield* Effect.flip(run.result)
        assert.strictEqual(error._tag, "RunFailed")
        assert.match(error.message, /cancelled/)
      }).pipe(within(newStore(), Layer.provide(live, ledgerIn(lines))))
    })
  })

  describe(`interruption and finalizers of bodies, ${where}`, () => {
    it.effect("an interrupted branch aborts its step: its signal, and its effect", () => {
      const Race = Workflow.make("race", { success: Schema.String })
      const log: Array<string> = []
      const live = Race.toLayer(() =>
        Effect.raceFirst(
          Step.make("hangs", {
            success: Schema.String,
            run: ({ signal }) => {
              signal.addEventListener("abort", () => log.push("aborted"))
              return Effect.onInterrupt(Effect.never, () =>
                Effect.sync(() => {
                  log.push("interrupted")
                }),
              )
            },
          }),
          Effect.as(Sleep.make("an hour", "1 hour"), "the hour is over"),
        ),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Race, undefined)
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.strictEqual(yield* run.result, "the hour is over")
        assert.deepStrictEqual(log, ["aborted", "interrupted"])
      }).pipe(within(newStore(), live))
    })

    it.effect("finalizers run when the run parks; operations in them interrupt themselves", () => {
      const Guarded = Workflow.make("guarded", { success: Schema.String })
      const log: Array<string> = []
      const note = (line: string) =>
        Effect.sync(() => {
          log.push(line)
        })
      const live = Guarded.toLayer(() =>
        Effect.as(Sleep.make("overnight", "1 day"), "morning").pipe(
          // cannot run: this body is over, and the next one will come here again
          Effect.onInterrupt(() =>
            Effect.flatMap(Effect.exit(Step.make("cleanup", { run: note("cleanup") })), (exit) =>
              note(`interrupts itself: ${Exit.hasInterrupts(exit)}`),
            ),
          ),
          Effect.ensuring(note("finalizer")),
        ),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Guarded, undefined)
        yield* Testing.settle
        assert.strictEqual((yield* rowOf(run.workflowRunId))?.status, "sleeping")
        const parked = ["interrupts itself: true", "finalizer"]
        // a parked body is heard for a while: it may be at work of its own
        yield* Effect.promise(() =>
          vi.waitFor(() => assert.deepStrictEqual(log, parked), { timeout: 10_000 }),
        )
        yield* Testing.runUntilSettled(run.workflowRunId)
        assert.strictEqual(yield* run.result, "morning")
        assert.deepStrictEqual(log, [...parked, "finalizer"])
      }).pipe(within(newStore(), live))
    })

    it.effect("a branch that fails interrupts the others; what had completed is undone", () => {
      const Both = Workflow.make("both", { error: ShipmentLost })
      const lines: Array<string> = []
      const step = (name: string, seconds: number) =>
        Step.make(name, {
          run: Effect.andThen(Effect.sleep(seconds * 1000), write(name)),
          compensate: () => write(`undo ${name}`),
        })
      const fails = Step.make("fails", {
        error: ShipmentLost,
        run: Effect.delay(Effect.fail(new ShipmentLost({ orderId: "1" })), "2 seconds"),
      })
      const live = Both.toLayer(() =>
        Effect.asVoid(
          Effect.all([step("first", 0), step("second", 1), step("late", 10), fails], {
            concurrency: "unbounded",
          }),
        ),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Both, undefined)
        const row = yield* Testing.runUntilSettled(run.workflowRunId)
        assert.strictEqual(row.status, "compensated")
        assert.deepStrictEqual(lines, ["first", "second", "undo second", "undo first"])
      }).pipe(within(newStore(), Layer.provide(live, ledgerIn(lines))))
    })
  })

  describe(`registration, ${where}`, () => {
    const Late = Workflow.make("late", { success: Schema.String })
    const live = Late.toLayer(() => Effect.succeed("here"))

    it.effect("a workflow that is registered later is picked up then", () =>
      Effect.gen(function* () {
        const run = yield* Workflow.trigger(Late, undefined)
        yield* Testing.advance("1 day")
        assert.strictEqual((yield* rowOf(run.workflowRunId))?.status, "pending")
        yield* Layer.build(live)
        yield* Testing.settle
        assert.strictEqual(yield* run.result, "here")
      }).pipe(within(newStore(), Layer.empty)),
    )

    it.effect("two versions of one name live side by side, each with its own runs", () => {
      const of = (version: string) =>
        Workflow.make("versioned", { success: Schema.String, version })
      const say = (version: string) => of(version).toLayer(() => Effect.succeed(`by ${version}`))
      return Effect.gen(function* () {
        const two = yield* Workflow.trigger(of("2"), undefined)
        const one = yield* Workflow.trigger(of("1"), undefined)
        const three = yield* Workflow.trigger(of("3"), undefined)
        yield* Testing.advance("1 day")
        assert.deepStrictEqual([yield* one.result, yield* two.result], ["by 1", "by 2"])
        const waiting = yield* rowOf(three.workflowRunId)
        assert.deepStrictEqual([waiting?.status, waiting?.startedAt], ["pending", null])
        const scheduled = yield* Workflow.schedule(of("2"), { cron: "@daily", payload: undefined })
        assert.strictEqual(scheduled.version, "2")
      }).pipe(within(newStore(), Layer.merge(say("1"), say("2"))))
    })

    it.effect("two workflows of one name are refused", () =>
      Effect.gen(function* () {
        const other = Workflow.make("late").toLayer(() => Effect.void)
        const error = yield* Effect.flip(Layer.build(other))
        assert.strictEqual(error._tag, "DuplicateWorkflow")
        assert.include(error.message, '"late"')
      }).pipe(within(newStore(), live)),
    )

    it.effect("when its layer closes, the name is free, and its runs wait", () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        yield* Scope.provide(Layer.build(live), scope)
        yield* Scope.close(scope, Exit.void)
        const run = yield* Workflow.trigger(Late, undefined)
        yield* Testing.settle
        assert.strictEqual((yield* rowOf(run.workflowRunId))?.status, "pending")
        yield* Layer.build(live)
        yield* Testing.settle
        assert.strictEqual(yield* run.result, "here")
      }).pipe(within(newStore(), Layer.empty)),
    )

    it.effect("a body knows its run", () => {
      const Self = Workflow.make("self", { success: Schema.String })
      const selfLive = Self.toLayer(() =>
        Effect.map(Workflow.current, ({ workflowRunId, attempt }) => `${workflowRunId} ${attempt}`),
      )
      return Effect.gen(function* () {
        const run = yield* Workflow.trigger(Self, undefined)
        yield* Testing.settle
        assert.strictEqual(yield* run.result, `${run.workflowRunId} 1`)
      }).pipe(within(newStore(), selfLive))
    })

    it.effect("whoever waits for a result hears of it from any fiber", () =>
      Effect.gen(function* () {
        const heard = yield* Deferred.make<string>()
        const run = yield* Workflow.trigger(Late, undefined, {
          scheduledFor: new Date(startAt + day),
        })
        yield* Effect.forkChild(Effect.flatMap(run.result, (one) => Deferred.succeed(heard, one)))
        yield* Testing.advance("1 day")
        assert.strictEqual(yield* Deferred.await(heard), "here")
      }).pipe(within(newStore(), live)),
    )
  })
}
