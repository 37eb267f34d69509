/** Schedules: a tick fires once, whoever fires it. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import {
  type Fixture,
  id,
  idsOf,
  json,
  newRun,
  parse,
  schedule,
  start,
} from "./conformanceFixture.ts"
import type { Test } from "./conformanceFixture.ts"

const day = 24 * 3_600_000

const fire = (
  s: Fixture,
  n: number,
  options: { key?: string; tick?: number; expected?: number } = {},
) => {
  const tick = options.tick ?? start
  return s.store.fireTick({
    key: options.key ?? "daily",
    expectedNextTick: options.expected ?? tick,
    tick,
    nextTick: tick + day,
    run: newRun(n),
  })
}

export const scheduleTests = (test: Test) => {
  describe("schedules", () => {
    test("are inserted by key, and listed", function* (s) {
      const row = yield* s.store.upsertSchedule(schedule("b", { timeZone: "Europe/Berlin" }))
      const { input, ...rest } = row
      assert.deepStrictEqual(parse(input), "b")
      assert.deepStrictEqual(rest, {
        key: "b",
        workflow: "w",
        version: null,
        cron: "0 9 * * *",
        timeZone: "Europe/Berlin",
        enabled: true,
        nextTick: start,
        lastTick: null,
      })
      yield* s.store.upsertSchedule(schedule("a"))
      const versioned = yield* s.store.upsertSchedule(schedule("c", { version: "2" }))
      assert.strictEqual(versioned.version, "2")
      const again = yield* s.store.upsertSchedule(schedule("c", { version: "3" }))
      assert.deepStrictEqual([again.version, again.nextTick], ["3", versioned.nextTick])
      yield* s.store.removeSchedule("c")
      const all = yield* s.store.listSchedules
      assert.sameMembers(
        all.map(({ key }) => key),
        ["a", "b"],
      )
    })

    test("keep their next tick when replaced, unless the rule changed", function* (s) {
      yield* s.store.upsertSchedule(schedule("k"))
      const next = (overrides: Parameters<typeof schedule>[1]) =>
        Effect.map(s.store.upsertSchedule(schedule("k", overrides)), (row) => row.nextTick)
      const nextTick = start + 5
      assert.strictEqual(yield* next({ nextTick, workflow: "x", input: json("new") }), start)
      const [row] = yield* s.store.listSchedules
      assert.deepStrictEqual([row?.workflow, parse(row?.input)], ["x", "new"])
      assert.strictEqual(yield* next({ nextTick, cron: "0 8 * * *" }), nextTick)
      const zoned = { nextTick: start + 6, cron: "0 8 * * *", timeZone: "Asia/Tokyo" }
      assert.strictEqual(yield* next(zoned), start + 6)
    })

    test("of one workflow have each their own ticks, also at one instant", function* (s) {
      yield* s.store.upsertSchedule(schedule("daily"))
      yield* s.store.upsertSchedule(schedule("nightly"))
      assert.isTrue(yield* fire(s, 1))
      assert.isTrue(yield* fire(s, 2, { key: "nightly" }))
      assert.deepStrictEqual(idsOf(yield* s.list()), [id(2), id(1)])
      assert.isFalse(yield* fire(s, 3, { key: "weekly" }))
    })

    test("that are disabled do not fire, and start afresh when enabled again", function* (s) {
      yield* s.store.upsertSchedule(schedule("daily"))
      yield* s.store.upsertSchedule(schedule("daily", { enabled: false }))
      assert.deepStrictEqual((yield* s.store.dueSchedules({ limit: 10 })).schedules, [])
      assert.isFalse(yield* fire(s, 1))
      yield* s.advance(10 * day)
      const again = schedule("daily", { nextTick: start + 11 * day })
      assert.strictEqual((yield* s.store.upsertSchedule(again)).nextTick, start + 11 * day)
      assert.deepStrictEqual(yield* s.list(), [])
    })

    test("are due from their next tick on, oldest first, within the limit", function* (s) {
      for (const [key, delay] of [
        ["c", 3],
        ["a", 9],
        ["b", 2],
      ] as const) {
        yield* s.store.upsertSchedule(schedule(key, { nextTick: start + delay }))
      }
      yield* s.advance(1)
      const keys = (limit: number) =>
        Effect.map(s.store.dueSchedules({ limit }), (due) => due.schedules.map(({ key }) => key))
      assert.deepStrictEqual(yield* keys(10), [])
      yield* s.advance(2)
      assert.deepStrictEqual(yield* keys(10), ["b", "c"])
      assert.deepStrictEqual(yield* keys(1), ["b"])
      assert.strictEqual((yield* s.store.dueSchedules({ limit: 1 })).now, start + 3)
    })

    test("tell when the next tick of those that are enabled is", function* (s) {
      const soonest = Effect.map(s.store.dueSchedules({ limit: 1 }), (due) => due.nextTick)
      assert.isNull(yield* soonest)
      yield* s.store.upsertSchedule(schedule("off", { nextTick: start + 1, enabled: false }))
      assert.isNull(yield* soonest)
      yield* s.store.upsertSchedule(schedule("late", { nextTick: start + 9 }))
      yield* s.store.upsertSchedule(schedule("soon", { nextTick: start + 3 }))
      assert.strictEqual(yield* soonest, start + 3)
      yield* s.advance(5)
      assert.strictEqual(yield* soonest, start + 3)
    })

    test("are removed once", function* (s) {
      yield* s.store.upsertSchedule(schedule("daily"))
      assert.isTrue(yield* s.store.removeSchedule("daily"))
      assert.isFalse(yield* s.store.removeSchedule("daily"))
      assert.isFalse(yield* fire(s, 1))
      assert.deepStrictEqual(yield* s.list(), [])
    })
  })

  describe("a tick", () => {
    test("fires its run and moves the schedule on, in one step", function* (s) {
      yield* s.store.upsertSchedule(schedule("daily"))
      assert.isTrue(yield* fire(s, 1))
      assert.strictEqual((yield* s.row(1)).status, "pending")
      const [row] = yield* s.store.listSchedules
      assert.deepStrictEqual([row?.nextTick, row?.lastTick], [start + day, start])
      yield* s.claimOnly(yield* s.worker(1), 1)
    })

    test("fires once", function* (s) {
      yield* s.store.upsertSchedule(schedule("daily"))
      assert.isTrue(yield* fire(s, 1))
      assert.isFalse(yield* fire(s, 2))
      assert.deepStrictEqual(idsOf(yield* s.list()), [id(1)])
    })

    test("fires once, whatever the number of tickers", function* (s) {
      yield* s.store.upsertSchedule(schedule("daily"))
      const tickers = Array.from({ length: 8 }, (_, n) => fire(s, n))
      const fired = yield* Effect.all(tickers, { concurrency: "unbounded" })
      assert.strictEqual(fired.filter(Boolean).length, 1)
      assert.strictEqual((yield* s.list()).length, 1)
    })

    test("of a schedule that moved on does not fire", function* (s) {
      yield* s.store.upsertSchedule(schedule("daily", { nextTick: start + day }))
      assert.isFalse(yield* fire(s, 1))
      assert.deepStrictEqual(yield* s.list(), [])
      assert.strictEqual((yield* s.store.listSchedules)[0]?.nextTick, start + day)
    })

    test("of a schedule that was brought forward does not fire", function* (s) {
      yield* s.store.upsertSchedule(schedule("daily"))
      assert.isFalse(yield* fire(s, 1, { tick: start + day }))
      assert.deepStrictEqual(yield* s.list(), [])
      assert.strictEqual((yield* s.store.listSchedules)[0]?.nextTick, start)
    })

    test("may stand for older ones that were missed", function* (s) {
      yield* s.store.upsertSchedule(schedule("daily"))
      assert.isTrue(yield* fire(s, 1, { tick: start + 3 * day, expected: start }))
      const [row] = yield* s.store.listSchedules
      assert.deepStrictEqual([row?.nextTick, row?.lastTick], [start + 4 * day, start + 3 * day])
    })

    test("stays the schedule's latest, whatever rule it is given, until a later one fires", function* (s) {
      yield* s.store.upsertSchedule(schedule("daily"))
      yield* fire(s, 1, { tick: start + 3 * day, expected: start })
      const other = schedule("daily", { cron: "0 8 * * *", nextTick: start + day })
      assert.strictEqual((yield* s.store.upsertSchedule(other)).lastTick, start + 3 * day)
      assert.isTrue(yield* fire(s, 2, { tick: start + day }))
      assert.strictEqual((yield* s.store.listSchedules)[0]?.lastTick, start + 3 * day)
    })

    test("that fired before its schedule was removed does not fire again", function* (s) {
      yield* s.store.upsertSchedule(schedule("daily"))
      yield* fire(s, 1)
      yield* s.store.removeSchedule("daily")
      yield* s.store.upsertSchedule(schedule("daily"))
      assert.isFalse(yield* fire(s, 2))
      assert.deepStrictEqual(idsOf(yield* s.list()), [id(1)])
      assert.strictEqual((yield* s.store.listSchedules)[0]?.nextTick, start + day)
    })

    test("whose run is refused by its key has fired all the same", function* (s) {
      yield* s.store.upsertSchedule(schedule("daily"))
      yield* s.insert(newRun(1, { concurrencyKey: "c" }))
      const run = newRun(2, { concurrencyKey: "c" })
      const ticked = yield* s.store.fireTick({
        key: "daily",
        expectedNextTick: start,
        tick: start,
        nextTick: start + day,
        run,
      })
      assert.isTrue(ticked)
      assert.deepStrictEqual(idsOf(yield* s.list()), [id(1)])
      assert.strictEqual((yield* s.store.listSchedules)[0]?.nextTick, start + day)
    })
  })
}
