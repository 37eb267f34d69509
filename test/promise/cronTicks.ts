/** Ticks under a clock that the test moves: one suite, on the memory store and on Postgres. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import { Engine, layer as engineLayer } from "../../src/Engine.ts"
import { WorkflowStore } from "../../src/WorkflowStore.ts"
import { fireDueTicks } from "../../src/worker/ticker.ts"

const hour = 3_600_000
/** 2026-03-01T00:00:00Z, a Sunday. */
const start = Date.UTC(2026, 2, 1)

const nothing = { codec: "json", json: "null" } as const

let used = 0

/** A schedule of its own workflow, and the runs that it has started. */
const scheduled = Effect.fnUntraced(function* (cron: string, timeZone?: string) {
  const engine = yield* Engine
  const workflow = `ticks-${++used}`
  yield* engine.schedule({ key: workflow, workflow, version: null, cron, timeZone, input: nothing })
  const runs = Effect.map(
    engine.store.listRuns({
      workflow,
      statuses: null,
      parentRunId: null,
      before: null,
      limit: 1000,
    }),
    (rows) => rows.length,
  )
  return { key: workflow, runs, unschedule: engine.unschedule(workflow) }
})

/** Four workers look for due ticks at the same time; answers how many they fired. */
const fourTickers = Effect.gen(function* () {
  const store = yield* WorkflowStore
  const tick = fireDueTicks(store)
  const fired = yield* Effect.all([tick, tick, tick, tick], { concurrency: "unbounded" })
  return fired.reduce((sum, one) => sum + one.fired, 0)
})

export const cronTicks = <E>(name: string, store: Layer.Layer<WorkflowStore, E>): void => {
  const live = Layer.provideMerge(engineLayer(), store)

  layer(live)(name, (it) => {
    it.effect("each tick starts one run, whatever the number of workers", () =>
      Effect.gen(function* () {
        yield* TestClock.setTime(start)
        const { runs, unschedule } = yield* scheduled("0 * * * *")
        assert.strictEqual(yield* fourTickers, 0)
        for (let n = 1; n <= 5; n++) {
          yield* TestClock.adjust(hour)
          yield* fourTickers
          yield* fourTickers
          assert.strictEqual(yield* runs, n)
        }
        yield* unschedule
      }),
    )

    it.effect("several hours of downtime start one run, and the rhythm goes on", () =>
      Effect.gen(function* () {
        yield* TestClock.setTime(start)
        const { key, runs, unschedule } = yield* scheduled("*/5 * * * *")
        yield* TestClock.adjust(7 * hour + 90_000)
        yield* fourTickers
        yield* fourTickers
        assert.strictEqual(yield* runs, 1)
        const schedules = yield* Effect.flatMap(WorkflowStore, (one) => one.listSchedules)
        const { nextTick } = schedules.find((one) => one.key === key) ?? { nextTick: 0 }
        assert.strictEqual(nextTick, start + 7 * hour + 300_000)
        yield* TestClock.adjust(210_000)
        yield* fourTickers
        assert.strictEqual(yield* runs, 2)
        yield* unschedule
      }),
    )

    it.effect("a schedule that was taken away starts nothing more", () =>
      Effect.gen(function* () {
        yield* TestClock.setTime(start)
        const { runs, unschedule } = yield* scheduled("@hourly")
        yield* TestClock.adjust(hour)
        yield* fourTickers
        assert.isTrue(yield* unschedule)
        yield* TestClock.adjust(24 * hour)
        yield* fourTickers
        assert.strictEqual(yield* runs, 1)
        assert.isFalse(yield* unschedule)
      }),
    )

    it.effect("a new rule under the same key replaces the old one", () =>
      Effect.gen(function* () {
        yield* TestClock.setTime(start)
        const { key, runs, unschedule } = yield* scheduled("@hourly")
        const engine = yield* Engine
        yield* engine.schedule({
          key,
          workflow: key,
          version: null,
          cron: "@daily",
          input: nothing,
        })
        yield* TestClock.adjust(23 * hour)
        yield* fourTickers
        assert.strictEqual(yield* runs, 0)
        yield* TestClock.adjust(hour)
        yield* fourTickers
        assert.strictEqual(yield* runs, 1)
        yield* unschedule
      }),
    )

    it.effect("a day when clocks change has each fixed tick once, each hourly one 23 times", () =>
      Effect.gen(function* () {
        // in Berlin, 02:00 to 03:00 does not exist on 2026-03-29
        yield* TestClock.setTime(Date.UTC(2026, 2, 28, 23))
        const fixed = yield* scheduled("30 2 * * *", "Europe/Berlin")
        const hourly = yield* scheduled("0 * * * *", "Europe/Berlin")
        for (let i = 0; i < 23 * 4; i++) {
          yield* TestClock.adjust(hour / 4)
          yield* fourTickers
        }
        assert.strictEqual(yield* fixed.runs, 1)
        assert.strictEqual(yield* hourly.runs, 23)
        yield* fixed.unschedule
        yield* hourly.unschedule
      }),
    )
  })
}
