/**
 * The tests an Effect user writes for workflows that take weeks: one suite for every store.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import { Child, Engine, Event, Sleep, Step, Workflow } from "flowly/effect"
import * as Testing from "flowly/testing"

const hour = 3_600_000
const day = 24 * hour

class NobodyHome extends Schema.TaggedError<NobodyHome>()("NobodyHome", {
  visits: Schema.Number,
}) {}

const Ship = Workflow.make("ship", {
  payload: { fails: Schema.Boolean },
  success: Schema.String,
  error: NobodyHome,
})

const ShipLive = Ship.toLayer(
  Effect.fnUntraced(function* ({ fails }) {
    yield* Sleep.make("transport", "3 days")
    return yield* Step.make("deliver", {
      error: NobodyHome,
      run: fails ? Effect.fail(new NobodyHome({ visits: 2 })) : Effect.succeed("delivered"),
    })
  }),
)

const Order = Workflow.make("order", {
  payload: { fails: Schema.Boolean },
  success: Schema.String,
  error: NobodyHome,
})

const log: Array<string> = []

class BankClosed extends Schema.TaggedError<BankClosed>()("BankClosed", {}) {}

const OrderLive = Order.toLayer(
  Effect.fnUntraced(function* ({ fails }) {
    for (const part of ["reserve", "charge"]) {
      yield* Effect.orDie(
        Step.make(part, {
          success: Schema.String,
          error: BankClosed,
          run: ({ attempt }) =>
            part === "charge" && attempt < 3
              ? Effect.fail(new BankClosed())
              : Effect.sync(() => {
                  log.push(part)
                  return part
                }),
          retry: { maxAttempts: 3, initialDelayMs: day, maxDelayMs: 30 * day },
          compensate: (result) => Effect.sync(() => log.push(`undo ${result}`)),
        }),
      )
    }
    yield* Sleep.make("cooling off", "14 days")
    yield* Event.emit("shipping", { part: "all" })
    return yield* Effect.catchTag(Child.run(Ship, { fails }), "ChildFailed", Effect.die)
  }),
)

/** What it says is a step that takes an hour of the test's clock. */
const Slow = Workflow.make("slow", { success: Schema.String })

const SlowLive = Slow.toLayer(() =>
  Effect.catchTag(
    Step.make("work", {
      run: Effect.as(Effect.sleep("1 hour"), "worked"),
      timeout: "2 hours",
    }),
    "StepTimeout",
    () => Effect.succeed("too slow"),
  ),
)

const Wait = Workflow.make("wait")

const WaitLive = Wait.toLayer(() => Effect.asVoid(Event.wait("approval")))

const Report = Workflow.make("report", { payload: { of: Schema.String } })

const ReportLive = Report.toLayer(() =>
  Effect.asVoid(
    Step.make("write", {
      run: Effect.map(Clock.currentTimeMillis, (now) => log.push(new Date(now).toISOString())),
    }),
  ),
)

const workflows = Layer.orDie(Layer.mergeAll(ShipLive, OrderLive, SlowLive, WaitLive, ReportLive))

/** Declares the suite for a store: each test gets an engine of its own. */
export const testingSuite = (
  where: string,
  engine: () => ReturnType<typeof Testing.layer>,
  clockStartsAt = 0,
): void => {
  const within = <A, E, R>(
    test: Effect.Effect<A, E, R>,
  ): Effect.Effect<A, E, Exclude<R, Layer.Success<ReturnType<typeof Testing.layer>>>> =>
    Effect.suspend(() => {
      log.length = 0
      return Effect.provide(test, Layer.provideMerge(workflows, engine()))
    })

  describe(`a workflow of weeks, ${where}`, () => {
    it.effect("TestClock moves a run through retries, a sleep of weeks and a child", () =>
      within(
        Effect.gen(function* () {
          const run = yield* Workflow.trigger(Order, { fails: false })
          yield* TestClock.adjust("19 days")
          const early = yield* Effect.flatMap(Engine.Engine, (one) => one.getRun(run.workflowRunId))
          assert.strictEqual(early?.status, "waiting")
          yield* TestClock.adjust("1 day")
          assert.strictEqual(yield* run.result, "delivered")
          assert.deepStrictEqual(log, ["reserve", "charge"])
          assert.strictEqual(yield* Clock.currentTimeMillis, clockStartsAt + 20 * day)
        }),
      ),
    )

    it.effect("a run goes to its end, each thing at its instant", () =>
      within(
        Effect.gen(function* () {
          const { workflowRunId } = yield* Workflow.trigger(Order, { fails: false })
          const row = yield* Testing.runUntilSettled(workflowRunId)
          assert.strictEqual(row.status, "completed")
          const history = yield* Testing.history(workflowRunId)
          assert.deepStrictEqual(
            history.map(({ key, kind, attempts, completedAt }) => ({
              key,
              kind,
              attempts,
              day: ((completedAt?.getTime() ?? 0) - clockStartsAt) / day,
            })),
            [
              { key: "reserve", kind: "step", attempts: 1, day: 0 },
              { key: "charge", kind: "step", attempts: 3, day: 3 },
              { key: "cooling off", kind: "sleep", attempts: 1, day: 17 },
              { key: "shipping", kind: "emit", attempts: 1, day: 17 },
              { key: "ship", kind: "child", attempts: 1, day: 20 },
            ],
          )
          const emitted = yield* Testing.emitted(workflowRunId)
          assert.deepStrictEqual(emitted, [
            {
              name: "shipping",
              data: { part: "all" },
              at: new Date(clockStartsAt + 17 * day),
            },
          ])
        }),
      ),
    )

    it.effect("a child's failure undoes its parent's steps, in reverse", () =>
      within(
        Effect.gen(function* () {
          const run = yield* Workflow.trigger(Order, { fails: true })
          const row = yield* Testing.runUntilSettled(run.workflowRunId)
          assert.strictEqual(row.status, "compensated")
          assert.deepStrictEqual(log, ["reserve", "charge", "undo charge", "undo reserve"])
          const error = yield* Effect.flip(run.result)
          assert.deepStrictEqual(error, new NobodyHome({ visits: 2 }))
        }),
      ),
    )

    it.effect("each tick of a schedule fires on the way", () =>
      within(
        Effect.gen(function* () {
          const { nextTick } = yield* Workflow.schedule(Report, {
            cron: "0 */6 * * *",
            payload: { of: "sales" },
          })
          yield* Testing.advance("1 day")
          assert.deepStrictEqual(
            log,
            [0, 6, 12, 18].map((hours) => new Date(nextTick + hours * hour).toISOString()),
          )
        }),
      ),
    )

    it.effect("a step that sleeps on the clock is moved by it, too", () =>
      within(
        Effect.gen(function* () {
          const run = yield* Workflow.trigger(Slow, undefined)
          yield* TestClock.adjust("59 minutes")
          const row = yield* Effect.flatMap(Engine.Engine, (one) => one.getRun(run.workflowRunId))
          assert.strictEqual(row?.status, "running")
          yield* TestClock.adjust("1 minute")
          assert.strictEqual(yield* run.result, "worked")
        }),
      ),
    )

    it.effect("the sleeps of the test itself end in order with those of its runs", () =>
      within(
        Effect.gen(function* () {
          const before = yield* Effect.forkChild(
            Effect.andThen(
              Effect.sleep("2 days"),
              Effect.sync(() => log.push("two days")),
            ),
          )
          yield* Workflow.trigger(Order, { fails: false })
          yield* TestClock.adjust("4 days")
          yield* Fiber.join(before)
          assert.deepStrictEqual(log, ["reserve", "two days", "charge"])
        }),
      ),
    )

    it.effect("a run that waits for an event is stuck, and its error says so", () =>
      within(
        Effect.gen(function* () {
          const { workflowRunId } = yield* Workflow.trigger(Wait, undefined)
          const stuck = yield* Effect.flip(Testing.runUntilSettled(workflowRunId))
          assert.strictEqual(stuck._tag, "RunStuck")
          assert.match(stuck.message, /of "wait" has not settled: nothing is due\. It is waiting/)
          assert.match(stuck.message, /for an event that was not sent/)
        }),
      ),
    )

    it.effect("an event brings it on", () =>
      within(
        Effect.gen(function* () {
          const { workflowRunId } = yield* Workflow.trigger(Wait, undefined)
          yield* Testing.settle
          const engineService = yield* Engine.Engine
          yield* engineService.sendEvent(workflowRunId, "approval", { codec: "json", json: "1" })
          const row = yield* Testing.runUntilSettled(workflowRunId)
          assert.strictEqual(row.status, "completed")
        }),
      ),
    )

    it.effect("live time stands beside it", () =>
      within(
        Effect.gen(function* () {
          const before = yield* Clock.currentTimeMillis
          yield* TestClock.withLive(Effect.sleep("2 millis"))
          assert.strictEqual(yield* Clock.currentTimeMillis, before)
        }),
      ),
    )

    it.effect("time never goes back", () =>
      within(
        Effect.gen(function* () {
          const before = yield* Clock.currentTimeMillis
          yield* TestClock.setTime(before - hour)
          assert.strictEqual(yield* Clock.currentTimeMillis, before)
        }),
      ),
    )

    it.effect("sleepers of one instant wake in their order, and an interrupted one does not", () =>
      within(
        Effect.gen(function* () {
          const before = yield* Clock.currentTimeMillis
          const sleep = (name: string, hours: number) =>
            Effect.forkChild(
              Effect.andThen(
                Effect.sleep(hours * hour),
                Effect.sync(() => log.push(name)),
              ),
              { startImmediately: true },
            )
          yield* sleep("a", 1)
          yield* sleep("b", 1)
          yield* Fiber.interrupt(yield* sleep("c", 2))
          const { workflowRunId } = yield* Workflow.trigger(Wait, undefined)
          yield* Effect.flip(Testing.runUntilSettled(workflowRunId))
          assert.deepStrictEqual(log, ["a", "b"])
          assert.strictEqual(yield* Clock.currentTimeMillis, before + hour)
        }),
      ),
    )
  })
}
