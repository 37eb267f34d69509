/**
 * Starting runs: one insert for many triggers, deadlines, unknown outcomes, refusals.
 */
import { assert, describe } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { CallClock } from "../../src/engine/bounded.ts"
import { makeStarter } from "../../src/engine/starter.ts"
import type { TriggerTimeout } from "../../src/FlowlyError.ts"
import * as MemoryStore from "../../src/MemoryStore.ts"
import { Fixture, id, newRun } from "../store/conformanceFixture.ts"
import { it, makeScripted, quiet, until } from "./scripted.ts"
import { pass, setUp } from "./starterRig.ts"

describe("concurrent triggers", () => {
  for (const [what, keys, chosen] of [
    ["an idempotency key", { idempotencyKey: "k" }, false],
    ["a concurrency key", { concurrencyKey: "k" }, false],
    ["an id of its own choice", {}, true],
  ] as const) {
    it.effect(`do not wait behind one with ${what}, which may have to wait for others`, () =>
      Effect.gen(function* () {
        const bench = yield* setUp
        const before = yield* Latch.make()
        bench.script("insertRuns", (nth) => (nth === 1 ? { before } : undefined))
        const waiting = yield* bench.fork(newRun(1, keys), { chosen })
        yield* until("it is under way", () => bench.sent().length === 1)
        assert.strictEqual((yield* bench.insert(newRun(2)))._tag, "Inserted")
        yield* before.open
        assert.strictEqual((yield* Fiber.join(waiting))._tag, "Inserted")
      }),
    )
  }

  it.effect("share one insert", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const latch = yield* Latch.make()
      bench.script("insertRuns", (nth) => (nth === 1 ? { before: latch } : undefined))
      const first = yield* bench.fork(newRun(1))
      yield* until("the first is under way", () => bench.sent().length === 1)
      const others = yield* Effect.forEach([2, 3, 4, 5], (n) => bench.fork(newRun(n)))
      yield* latch.open
      const answers = yield* Effect.forEach([first, ...others], Fiber.join)
      assert.deepStrictEqual(bench.sent(), [[1], [2, 3, 4, 5]])
      assert.deepStrictEqual(
        answers.map((answer) => answer._tag === "Inserted" && answer.workflowRunId),
        [1, 2, 3, 4, 5].map(id),
      )
    }),
  )

  it.effect("of at most 500 runs", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const latch = yield* Latch.make()
      bench.script("insertRuns", (nth) => (nth === 1 ? { before: latch } : undefined))
      const fibers = yield* Effect.forEach(
        Array.from({ length: 1101 }, (_, n) => n),
        (n) => bench.fork(newRun(n)),
      )
      yield* latch.open
      yield* Effect.forEach(fibers, Fiber.join)
      assert.isTrue(bench.sent().every((runs) => runs.length <= 500))
      assert.isAtMost(bench.sent().length, 4)
    }),
  )

  it.effect("in numbers are inserted beside an insert that is under way, at most two at once", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      bench.script("insertRuns", () => "hang")
      const fork = (from: number, count: number) =>
        Effect.forEach(
          Array.from({ length: count }, (_, n) => from + n),
          (n) => bench.fork(newRun(n)),
        )
      const counts = () => bench.sent().map((runs) => runs.length)
      yield* fork(0, 1)
      yield* until("the first is under way", () => bench.sent().length === 1)
      yield* fork(1, 79)
      yield* quiet
      assert.deepStrictEqual(counts(), [1])
      yield* fork(80, 1)
      yield* until("the second is under way", () => bench.sent().length === 2)
      yield* fork(100, 200)
      yield* quiet
      assert.deepStrictEqual(counts(), [1, 80])
    }),
  )

  it.effect("with keys wait for the insert that is under way, however many they are", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      bench.script("insertRuns", () => "hang")
      const fork = (n: number) => bench.fork(newRun(n, { idempotencyKey: `key ${n}` }))
      yield* fork(0)
      yield* until("the first is under way", () => bench.sent().length === 1)
      for (let n = 1; n < 200; n++) yield* fork(n)
      yield* quiet
      assert.strictEqual(bench.sent().length, 1)
    }),
  )

  it.effect("for different workers, or none, do not mix", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const fixture = new Fixture(bench.memory.store)
      const worker = yield* fixture.worker(1)
      const latch = yield* Latch.make()
      bench.script("insertRuns", (nth) => (nth === 1 ? { before: latch } : undefined))
      const first = yield* bench.fork(newRun(1))
      yield* until("the first is under way", () => bench.sent().length === 1)
      const eager = yield* bench.fork(newRun(2), { claimFor: worker })
      const plain = yield* bench.fork(newRun(3))
      yield* latch.open
      const answers = yield* Effect.forEach([first, eager, plain], Fiber.join)
      assert.deepStrictEqual(bench.sent(), [[1], [2], [3]])
      assert.deepStrictEqual(
        answers.map((answer) => answer._tag === "Inserted" && answer.token),
        [null, 1, null],
      )
    }),
  )

  it.effect("of a key that a foreign transaction holds do not delay those without", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      bench.script("insertRuns", (_, { runs }) =>
        runs.some((run) => run.idempotencyKey === "held") ? "hang" : undefined,
      )
      const held = yield* bench.fork(newRun(1, { idempotencyKey: "held" }))
      yield* until("it waits", () => bench.open("insertRuns") === 1)
      assert.strictEqual((yield* bench.insert(newRun(2)))._tag, "Inserted")
      assert.isUndefined(held.pollUnsafe())
    }),
  )
})

describe("the deadline", () => {
  const timeoutOf = (exit: Exit.Exit<unknown, unknown>): TriggerTimeout =>
    Exit.isFailure(exit)
      ? ((exit.cause.reasons[0] as { error: TriggerTimeout }).error as TriggerTimeout)
      : assert.fail("it should have failed")

  it.effect("is not waited for when there is nobody left to keep it", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const scripted = makeScripted(MemoryStore.makeUnsafe().store)
      scripted.script("insertRuns", () => "hang")
      const starter = yield* Scope.provide(makeStarter(scripted.store), scope)
      const insert = (n: number) => starter({ run: newRun(n), claimFor: null, deadlineMs: 1000 })
      const waiting = yield* Effect.forkChild(insert(1), { startImmediately: true })
      yield* quiet
      yield* Scope.close(scope, Exit.void)
      const exits = [yield* Fiber.await(waiting), yield* Effect.exit(insert(2))]
      assert.deepStrictEqual(exits.map(Exit.hasInterrupts), [true, true])
    }),
  )

  it.effect("leaves no timer behind that would keep the process from ending", () =>
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      let timers = 0
      const counting: Clock.Clock = Object.assign(Object.create(clock), {
        sleep: (duration: Parameters<Clock.Clock["sleep"]>[0]) =>
          Effect.suspend(() => {
            timers++
            return Effect.ensuring(
              clock.sleep(duration),
              Effect.sync(() => timers--),
            )
          }),
      })
      const scripted = makeScripted(MemoryStore.makeUnsafe().store)
      const latch = yield* Latch.make()
      scripted.script("insertRuns", () => ({ before: latch }))
      const starter = yield* Effect.provideService(makeStarter(scripted.store), CallClock, counting)
      const insert = starter({ run: newRun(1), claimFor: null, deadlineMs: 30_000 })
      const waiting = yield* Effect.forkChild(insert, { startImmediately: true })
      yield* quiet
      // its own, and that of the insert under way
      assert.strictEqual(timers, 2)
      yield* latch.open
      yield* Fiber.join(waiting)
      yield* quiet
      assert.strictEqual(timers, 0)
    }),
  )

  it.effect("of a later trigger may come first", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      bench.script("insertRuns", () => "hang")
      const long = yield* bench.fork(newRun(1), { deadlineMs: 10_000 })
      yield* pass(100)
      const short = yield* bench.fork(newRun(2), { deadlineMs: 1000 })
      yield* pass(1100)
      assert.strictEqual(timeoutOf(yield* Fiber.await(short)).timeoutMs, 1000)
      assert.isUndefined(long.pollUnsafe())
      yield* pass(9000)
      assert.strictEqual(timeoutOf(yield* Fiber.await(long)).timeoutMs, 10_000)
    }),
  )

  it.effect("of a trigger that was never sent: nothing was applied, nothing ever will be", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const latch = yield* Latch.make()
      bench.script("insertRuns", (nth) => (nth === 1 ? { before: latch } : undefined))
      const first = yield* bench.fork(newRun(1))
      yield* until("the first is under way", () => bench.sent().length === 1)
      const second = yield* bench.fork(newRun(2), { deadlineMs: 1000 })
      yield* TestClock.adjust(1000)
      const error = timeoutOf(yield* Fiber.await(second))
      assert.strictEqual(error._tag, "TriggerTimeout")
      assert.strictEqual(error.outcome, "not-applied")
      yield* latch.open
      yield* Fiber.join(first)
      yield* quiet
      assert.deepStrictEqual(bench.stored(), [id(1)])
    }),
  )

  it.effect("of a trigger that was sent: the outcome is unknown", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      bench.script("insertRuns", () => "hang-after")
      const fiber = yield* bench.fork(newRun(1), { deadlineMs: 1000 })
      yield* until("it was sent", () => bench.sent().length === 1)
      yield* TestClock.adjust(1000)
      const error = timeoutOf(yield* Fiber.await(fiber))
      assert.strictEqual(error.outcome, "unknown")
      assert.strictEqual(error.workflowRunId, id(1))
      assert.deepStrictEqual(bench.stored(), [id(1)])
    }),
  )

  it.effect("drops the trigger from what is sent again", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const latch = yield* Latch.make()
      bench.script("insertRuns", (nth) =>
        nth === 1 ? { before: latch } : nth <= 12 ? "fail" : undefined,
      )
      const first = yield* bench.fork(newRun(1))
      yield* until("the first is under way", () => bench.sent().length === 1)
      const patient = yield* bench.fork(newRun(2))
      const hasty = yield* bench.fork(newRun(3), { deadlineMs: 500 })
      yield* latch.open
      yield* pass(4000)
      yield* Fiber.join(first)
      yield* Fiber.join(patient)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(hasty)))
      assert.isTrue(bench.sent().some((runs) => runs.includes(3)))
      assert.deepStrictEqual(bench.sent().at(-1), [2])
      assert.deepStrictEqual(bench.stored(), [id(1), id(2)])
    }),
  )

  it.effect("where all have gone, nothing is sent any more", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      bench.script("insertRuns", () => "fail")
      const fiber = yield* bench.fork(newRun(1), { deadlineMs: 1000 })
      yield* pass(3000)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(fiber)))
      const { length } = bench.sent()
      yield* pass(10_000)
      assert.strictEqual(bench.sent().length, length)
    }),
  )

  it.effect("also an interrupted caller is not sent again", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const latch = yield* Latch.make()
      bench.script("insertRuns", (nth) => (nth === 1 ? { before: latch } : undefined))
      const first = yield* bench.fork(newRun(1))
      yield* until("the first is under way", () => bench.sent().length === 1)
      const second = yield* bench.fork(newRun(2))
      yield* Fiber.interrupt(second)
      yield* latch.open
      yield* Fiber.join(first)
      yield* quiet
      assert.deepStrictEqual(bench.sent(), [[1]])
    }),
  )
})

describe("answers that never came", () => {
  it.effect("an insert that was applied is recognised when it is sent again", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const worker = yield* new Fixture(bench.memory.store).worker(1)
      bench.script("insertRuns", (nth) => (nth <= 3 ? "fail-after" : undefined))
      const fiber = yield* bench.fork(newRun(1, { idempotencyKey: "k" }), { claimFor: worker })
      yield* pass(5000)
      const answer = yield* Fiber.join(fiber)
      assert.strictEqual(answer._tag, "Inserted")
      assert.strictEqual(answer._tag === "Inserted" && answer.token, 1)
      assert.deepStrictEqual(bench.stored(), [id(1)])
    }),
  )

  it.effect("a call that never answers is given up and sent again", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      bench.script("insertRuns", (nth) => (nth === 1 ? "hang-after" : undefined))
      const fiber = yield* bench.fork(newRun(1), { deadlineMs: 600_000 })
      yield* until("it was sent", () => bench.sent().length === 1)
      yield* pass(100_000)
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "Inserted")
      assert.deepStrictEqual(bench.stored(), [id(1)])
    }),
  )

  it.effect("a hung call does not stop the triggers after it for ever", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      bench.script("insertRuns", (nth) => (nth === 1 ? "hang" : undefined))
      const first = yield* bench.fork(newRun(1), { deadlineMs: 1000 })
      yield* until("it was sent", () => bench.sent().length === 1)
      const second = yield* bench.fork(newRun(2), { deadlineMs: 600_000 })
      yield* pass(100_000)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(first)))
      assert.strictEqual((yield* Fiber.join(second))._tag, "Inserted")
    }),
  )
})

describe("what the store refuses", () => {
  it.effect("fails alone", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const latch = yield* Latch.make()
      bench.script("insertRuns", (nth, { runs }) => {
        if (nth === 1) return { before: latch }
        return runs.some((run) => run.workflowRunId === id(5)) ? "reject" : undefined
      })
      const first = yield* bench.fork(newRun(0))
      yield* until("the first is under way", () => bench.sent().length === 1)
      const fibers = yield* Effect.forEach([1, 2, 3, 4, 5, 6, 7, 8], (n) => bench.fork(newRun(n)))
      yield* latch.open
      const exits = yield* Effect.forEach([first, ...fibers], Fiber.await)
      assert.deepStrictEqual(
        exits.map((exit) => Exit.isSuccess(exit)),
        [true, true, true, true, true, false, true, true, true],
      )
      const failure = exits.find((exit) => Exit.isFailure(exit))
      assert.include(String(failure?.cause), "refused by the database")
    }),
  )

  for (const fault of ["die", "interrupt"] as const) {
    it.effect(`a store that answers with "${fault}" once is asked again`, () =>
      Effect.gen(function* () {
        const bench = yield* setUp
        bench.script("insertRuns", (nth) => (nth === 1 ? fault : undefined))
        const fiber = yield* bench.fork(newRun(1))
        yield* pass(5000)
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "Inserted")
      }),
    )
  }

  it.effect("a run on which the store dies each time fails alone", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const latch = yield* Latch.make()
      bench.script("insertRuns", (nth, { runs }) => {
        if (nth === 1) return { before: latch }
        return runs.some((run) => run.workflowRunId === id(2)) ? "die" : undefined
      })
      const first = yield* bench.fork(newRun(0))
      yield* until("the first is under way", () => bench.sent().length === 1)
      const fibers = yield* Effect.forEach([1, 2, 3], (n) => bench.fork(newRun(n)))
      yield* latch.open
      yield* pass(5000)
      const exits = yield* Effect.forEach([first, ...fibers], Fiber.await)
      assert.deepStrictEqual(
        exits.map((exit) => Exit.isSuccess(exit)),
        [true, true, false, true],
      )
    }),
  )
})
