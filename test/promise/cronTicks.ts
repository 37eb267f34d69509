/** Ticks under a clock that the test moves: one suite, on the memory store and on Postgres. */
import { assert, layer } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import { Engine, layer as engineLayer } from "../../src/Engine.ts"
import * as Cron from "../../src/Cron.ts"
import { type RunRow, WorkflowStore } from "../../src/WorkflowStore.ts"
import { fireDueTicks } from "../../src/worker/ticker.ts"
import { type Dice, diceOf } from "../support/dice.ts"

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

/** S11: tier T1 is FLOWLY_TICKS=20000. */
const ticks = Number(process.env["FLOWLY_TICKS"] ?? 200)

const manyRules: ReadonlyArray<readonly [cron: string, timeZone: string]> = [
  ["* * * * *", "UTC"],
  ["*/10 * * * * *", "UTC"],
  ["*/5 * * * *", "Europe/Berlin"],
  ["30 2 * * *", "Europe/Berlin"],
  ["15 */2 * * *", "Australia/Lord_Howe"],
  ["@daily", "America/New_York"],
]

/** Some of them are cut off, wherever they are; then one looks in peace. */
const eightTickers = (dice: Dice) =>
  Effect.gen(function* () {
    const tick = Effect.exit(fireDueTicks(yield* WorkflowStore))
    const workers = yield* Effect.forEach(Array.from({ length: 8 }), () => Effect.forkChild(tick))
    for (const worker of workers) {
      if (!dice.chance(0.3)) continue
      for (let turns = dice.whole(0, 4); turns > 0; turns--) yield* Effect.yieldNow
      worker.interruptUnsafe()
    }
    yield* Effect.forEach(workers, (worker) => Effect.exit(Fiber.join(worker)))
    yield* fireDueTicks(yield* WorkflowStore)
  })

/** For which instants runs of a workflow were started, oldest first. */
const nominalTimes = Effect.fnUntraced(function* (workflow: string) {
  const store = yield* WorkflowStore
  const found: Array<number> = []
  for (let before: string | null = null; ;) {
    const rows: ReadonlyArray<RunRow> = yield* store.listRuns({
      workflow,
      statuses: null,
      parentRunId: null,
      before,
      limit: 1000,
    })
    found.push(...rows.map((row) => row.scheduledFor ?? 0))
    before = rows.at(-1)?.workflowRunId ?? null
    if (rows.length < 1000) return found.toSorted((a, b) => a - b)
  }
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

    it.effect(
      `${ticks} ticks and eight workers, of which some die amid of one: each once, no other`,
      () =>
        Effect.gen(function* () {
          yield* TestClock.setTime(start)
          const dice = diceOf(Number(process.env["FLOWLY_SEED"] ?? 1))
          const engine = yield* Engine
          const rules = yield* Effect.forEach(manyRules, ([cron, timeZone], n) =>
            Effect.gen(function* () {
              const key = `many-${++used}-${n}`
              const options = { key, workflow: key, version: null, cron, timeZone, input: nothing }
              const { nextTick } = yield* engine.schedule(options)
              const rule = Result.getOrThrow(Cron.parse(cron, timeZone))
              return { key, rule, nextTick, fired: [] as Array<number> }
            }),
          )
          let fired = 0
          while (fired < ticks) {
            const now = yield* TestClock.adjust(
              dice.pick([1000, 30_000, 60_000, 90_000, 5 * hour]),
            ).pipe(Effect.andThen(Clock.currentTimeMillis))
            yield* eightTickers(dice)
            // the policy, once more by hand: after whatever absence, the newest tick and no other
            for (const one of rules) {
              if (one.nextTick > now) continue
              const since = new Date(one.nextTick - 1)
              one.fired.push(Cron.latestAtOrBefore(one.rule, new Date(now), since)!.getTime())
              one.nextTick = Cron.next(one.rule, new Date(now)).getTime()
              fired++
            }
          }
          for (const { key, fired: expected } of rules) {
            assert.deepStrictEqual(yield* nominalTimes(key), expected)
            yield* engine.unschedule(key)
          }
        }),
      { timeout: 280_000 },
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
