/**
 * What the journal makes of the store's answers: none, unknown ones, busy and lost rows, refusals,
 * defects.
 */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as TestClock from "effect/testing/TestClock"
import type { Fragment } from "../../src/engine/Execution.ts"
import type { StoredError } from "../../src/ErrorPayload.ts"
import * as Journal from "../../src/Journal.ts"
import * as MemoryStore from "../../src/MemoryStore.ts"
import { type Claim, type RunWrite, WorkflowStore } from "../../src/WorkflowStore.ts"
import { failed, Fixture, handBack, id, settle, start } from "../store/conformanceFixture.ts"
import { it, makeScripted, quiet, until } from "../worker/scripted.ts"
import { holdFirst, isBad, keysOf, one, setUp, statusOf, stepsOf } from "./rig.ts"

describe("a store that is unavailable", () => {
  it.effect("is sent the same rows until it answers", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [claim, other] = yield* bench.hold(2)
      bench.script("commit", (nth) => (nth <= 5 ? "fail" : undefined))
      bench.append(claim!, "a", one("a", 1))
      yield* until("it was sent", () => bench.commits().length === 1)
      // newer work of the same and of another run waits behind the rows that are unanswered
      bench.append(claim!, "b", one("b", 2))
      bench.append(other!, "c", one("c", 1))
      for (let i = 0; i < 5; i++) yield* Effect.andThen(TestClock.adjust(2000), quiet)
      yield* until("all are committed", () => bench.told.length === 3)
      assert.deepStrictEqual(
        bench.commits().slice(0, 6).map(keysOf),
        Array.from({ length: 6 }, () => [["a"]]),
      )
      assert.deepStrictEqual(bench.commits().slice(6).map(keysOf), [[["b"], ["c"]]])
      assert.deepStrictEqual(yield* stepsOf(bench, 0), ["a completed 1", "b completed 2"])
    }),
  )

  it.effect("an applied sending is recognised, with its transition", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [claim] = yield* bench.hold(1)
      bench.script("commit", (nth) => (nth <= 3 ? "fail-after" : undefined))
      bench.append(claim!, "a", { ...one("a", 1), transition: settle("completed") })
      for (let i = 0; i < 3; i++) yield* Effect.andThen(TestClock.adjust(2000), quiet)
      yield* until("it is answered", () => bench.told.length === 1)
      assert.deepStrictEqual(bench.told, ["a committed"])
      assert.deepStrictEqual(yield* stepsOf(bench, 0), ["a completed 1"])
    }),
  )

  it.effect("that never answers is given up, and sent the rows again", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [claim] = yield* bench.hold(1)
      bench.script("commit", (nth) => (nth === 1 ? "hang-after" : undefined))
      bench.append(claim!, "a", { ...one("a", 1), transition: handBack })
      yield* until("it was sent", () => bench.commits().length === 1)
      for (let i = 0; i < 10; i++) yield* Effect.andThen(TestClock.adjust(10_000), quiet)
      assert.deepStrictEqual(bench.told, ["a committed"])
      assert.strictEqual(bench.open("commit"), 0)
    }),
  )

  it.effect("that never answers, and cannot be called off either, is given up all the same", () =>
    Effect.gen(function* () {
      const memory = MemoryStore.makeUnsafe()
      let calls = 0
      const deaf: WorkflowStore["Service"] = {
        ...memory.store,
        commit: (writes) =>
          ++calls === 1 ? Effect.uninterruptible(Effect.never) : memory.store.commit(writes),
      }
      const journal = yield* Journal.make.pipe(Effect.provideService(WorkflowStore, deaf))
      const fixture = new Fixture(memory.store)
      const claim = yield* fixture.hold(yield* fixture.worker(1, 3_600_000), 0)
      const told: Array<string> = []
      journal.append(claim, { ...one("a", 1), onCommitted: () => told.push("committed") })
      yield* until("it was sent", () => calls === 1)
      for (let i = 0; i < 10; i++) yield* Effect.andThen(TestClock.adjust(10_000), quiet)
      assert.deepStrictEqual(told, ["committed"])
    }),
  )
})

describe("busy and lost", () => {
  /** Answers `busy` for the runs while they are named. */
  const withBusy = Effect.fnUntraced(function* (busy: Set<string>) {
    yield* TestClock.setTime(start)
    const memory = MemoryStore.makeUnsafe()
    const batches: Array<ReadonlyArray<RunWrite>> = []
    const gates: Array<Latch.Latch> = []
    const store: WorkflowStore["Service"] = {
      ...memory.store,
      commit: (writes) =>
        Effect.gen(function* () {
          batches.push(writes)
          const gate = gates.shift()
          if (gate) yield* gate.await
          const free = writes.filter((write) => !busy.has(write.workflowRunId))
          const answers = yield* memory.store.commit(free)
          return writes.map(
            ({ workflowRunId }) =>
              answers.find((answer) => answer.workflowRunId === workflowRunId) ?? {
                _tag: "busy" as const,
                workflowRunId,
              },
          )
        }),
    }
    const journal = yield* Journal.make.pipe(Effect.provideService(WorkflowStore, store))
    const fixture = new Fixture(memory.store)
    const worker = yield* fixture.worker(1, 3_600_000)
    const claims = yield* Effect.forEach([0, 1, 2], (n) => fixture.hold(worker, n))
    const told: Array<string> = []
    const append = (claim: Claim, name: string, fragment: Partial<Fragment> = {}) =>
      journal.append(claim, {
        onCommitted: () => told.push(`${name} committed`),
        onLost: () => told.push(`${name} lost`),
        onRejected: () => told.push(`${name} rejected`),
        ...fragment,
      })
    return { memory, batches, gates, journal, claims, told, append, fixture }
  })

  it.effect("a busy row goes before newer fragments of its run, and delays nobody", () =>
    Effect.gen(function* () {
      const busy = new Set([id(0)])
      const { claims, gates, append, told, batches } = yield* withBusy(busy)
      const gate = yield* Latch.make()
      gates.push(gate)
      append(claims[0]!, "a1", one("a1", 1))
      append(claims[1]!, "b1", one("b1", 1))
      yield* until("it was sent", () => batches.length === 1)
      append(claims[0]!, "a2", one("a2", 2))
      append(claims[1]!, "b2", one("b2", 2))
      yield* gate.open
      yield* until("the other run goes on", () => told.includes("b2 committed"))
      assert.deepStrictEqual(told, ["b1 committed", "b2 committed"])
      const again = batches.at(-1)!.find((write) => write.workflowRunId === id(0))
      assert.deepStrictEqual(
        again?.records.map(({ stepKey }) => stepKey),
        ["a1", "a2"],
      )
      busy.clear()
      yield* TestClock.adjust(10)
      yield* until("the busy one is committed", () => told.length === 4)
      assert.deepStrictEqual(told.slice(2), ["a1 committed", "a2 committed"])
    }),
  )

  it.effect("while everything is busy, the lane waits a moment between sendings", () =>
    Effect.gen(function* () {
      const { claims, append, batches } = yield* withBusy(new Set([id(0)]))
      append(claims[0]!, "a", one("a", 1))
      yield* quiet
      assert.strictEqual(batches.length, 1)
      yield* TestClock.adjust(30)
      yield* quiet
      assert.isAtMost(batches.length, 4)
      assert.isAtLeast(batches.length, 2)
    }),
  )

  it.effect("a lost claim is told to each of its fragments", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [claim, other] = yield* bench.hold(2)
      yield* bench.memory.store.releaseClaims([claim!])
      const latch = yield* holdFirst(bench)
      bench.append(other!, "x", one("x", 1))
      yield* until("the first is under way", () => bench.commits().length === 1)
      bench.append(claim!, "a", one("a", 1))
      bench.append(claim!, "b", { transition: settle("completed") })
      yield* latch.open
      yield* until("all are answered", () => bench.told.length === 3)
      assert.deepStrictEqual(bench.told, ["x committed", "a lost", "b lost"])
      assert.deepStrictEqual(yield* stepsOf(bench, 0), [])
    }),
  )

  it.effect("a newer claim of a run supersedes what the older one still has to say", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [claim, other] = yield* bench.hold(2)
      const latch = yield* holdFirst(bench)
      bench.append(other!, "x", one("x", 1))
      yield* until("the first is under way", () => bench.commits().length === 1)
      bench.append(claim!, "old", one("a", 1))
      bench.append({ ...claim!, token: 2 }, "new", one("a", 1))
      assert.deepStrictEqual(bench.told, ["old lost"])
      // … whichever speaks last
      bench.append(claim!, "late", one("b", 2))
      assert.deepStrictEqual(bench.told, ["old lost", "late lost"])
      yield* latch.open
      yield* until("the second batch was sent", () => bench.commits().length === 2)
      assert.deepStrictEqual(
        bench.commits()[1]!.map(({ token, records }) => [token, records.length]),
        [[2, 1]],
      )
    }),
  )

  it.effect("a busy row of an older claim does not come back before a newer claim", () =>
    Effect.gen(function* () {
      const busy = new Set([id(0)])
      const { claims, gates, append, told, batches } = yield* withBusy(busy)
      const gate = yield* Latch.make()
      gates.push(gate)
      append(claims[0]!, "old", one("a", 1))
      yield* until("it was sent", () => batches.length === 1)
      append({ ...claims[0]!, token: 2 }, "new", one("a", 1))
      yield* gate.open
      yield* until("the older is over", () => told.length === 1)
      yield* TestClock.adjust(10)
      yield* until("the next was sent", () => batches.length === 2)
      assert.deepStrictEqual(told, ["old lost"])
      assert.strictEqual(batches.at(-1)!.find((w) => w.workflowRunId === id(0))?.token, 2)
    }),
  )

  it.effect("a busy row of a newer claim is not pushed out by an older one", () =>
    Effect.gen(function* () {
      const busy = new Set([id(0)])
      const { claims, gates, append, told, batches } = yield* withBusy(busy)
      const gate = yield* Latch.make()
      gates.push(gate)
      append({ ...claims[0]!, token: 2 }, "new", one("a", 1))
      yield* until("it was sent", () => batches.length === 1)
      append(claims[0]!, "old", one("a", 1))
      yield* gate.open
      yield* until("the older is over", () => told.length === 1)
      assert.deepStrictEqual(told, ["old lost"])
      assert.strictEqual(batches.at(-1)!.find((w) => w.workflowRunId === id(0))?.token, 2)
    }),
  )

  it.effect("rows that are refused together and busy alone keep their order", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const memory = MemoryStore.makeUnsafe()
      const scripted = makeScripted(memory.store)
      const fixture = new Fixture(memory.store)
      const claim = yield* Effect.flatMap(fixture.worker(1, 3_600_000), (w) => fixture.hold(w, 0))
      // together they are refused (say, for their size); then the row is locked for a while
      let locked = 3
      const sent: Array<ReadonlyArray<string>> = []
      const store: WorkflowStore["Service"] = {
        ...scripted.store,
        commit: (writes) => {
          const keys = writes[0]!.records.map(({ stepKey }) => stepKey)
          sent.push(keys)
          if (keys.length > 1) return scripted.store.commit(writes)
          if (locked-- > 0) {
            return Effect.succeed([{ _tag: "busy", workflowRunId: writes[0]!.workflowRunId }])
          }
          return memory.store.commit(writes)
        },
      }
      scripted.script("commit", () => "reject")
      const journal = yield* Journal.make.pipe(Effect.provideService(WorkflowStore, store))
      const told: Array<string> = []
      const append = (name: string, fragment: Partial<Fragment>) =>
        journal.append(claim, { onCommitted: () => told.push(name), ...fragment })
      append("a", one("a", 1))
      append("b", one("b", 2))
      append("c", one("c", 3))
      append("end", { transition: settle("completed") })
      for (let i = 0; i < 50 && told.length < 4; i++) {
        yield* Effect.andThen(TestClock.adjust(10), quiet)
      }
      assert.deepStrictEqual(told, ["a", "b", "c", "end"])
    }),
  )
})

describe("what the database refuses", () => {
  it.effect("one bad row among a hundred: the others are committed, it alone is told", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const claims = yield* bench.hold(100)
      bench.script("commit", (_, writes) => (writes.some(isBad) ? "reject" : undefined))
      const errors: Array<StoredError> = []
      claims.forEach((claim, n) => {
        bench.append(claim, `${n}`, {
          ...one(n === 37 ? "bad" : "good", 1),
          ...(n === 37 ? { onRejected: (error: StoredError) => errors.push(error) } : {}),
        })
      })
      yield* until("all are answered", () => bench.told.length + errors.length === 100)
      assert.strictEqual(bench.told.filter((told) => told.endsWith("committed")).length, 99)
      assert.deepStrictEqual(
        errors.map(({ tag }) => tag),
        ["StoreRejected"],
      )
      assert.isBelow(bench.commits().length, 20)
    }),
  )

  it.effect("of a run with several fragments, only the bad one is told", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [claim] = yield* bench.hold(1)
      bench.script("commit", (_, writes) => (writes.some(isBad) ? "reject" : undefined))
      bench.append(claim!, "a", one("a", 1))
      bench.append(claim!, "bad", one("bad", 2))
      bench.append(claim!, "c", one("c", 3))
      bench.append(claim!, "end", { transition: handBack })
      yield* until("all are answered", () => bench.told.length === 4)
      assert.deepStrictEqual(bench.told, [
        "a committed",
        "bad rejected",
        "c committed",
        "end committed",
      ])
      assert.deepStrictEqual(yield* stepsOf(bench, 0), ["a completed 1", "c completed 3"])
    }),
  )

  it.effect("what is handed over instead of a refused row is committed", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [claim] = yield* bench.hold(1)
      bench.script("commit", (_, writes) => (writes.some(isBad) ? "reject" : undefined))
      bench.append(claim!, "bad", {
        ...one("bad", 1),
        onRejected: () => bench.append(claim!, "instead", { records: [failed("x", 2)] }),
      })
      yield* until("it is committed", () => bench.told.length === 1)
      assert.deepStrictEqual(yield* stepsOf(bench, 0), ["x failed 2"])
    }),
  )
})

describe("defects", () => {
  it.effect("a callback that throws neither kills the lane nor robs the others", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [claim, other] = yield* bench.hold(2)
      bench.append(claim!, "a", {
        ...one("a", 1),
        onCommitted: () => {
          throw new Error("a callback's defect")
        },
      })
      bench.append(claim!, "b", one("b", 2))
      bench.append(other!, "c", one("c", 1))
      yield* until("the others are told", () => bench.told.length >= 3)
      // the run whose machine broke is not left hanging: it is over, here
      assert.deepStrictEqual(bench.told, ["a lost", "b committed", "c committed"])
      bench.append(other!, "d", one("d", 2))
      yield* until("the lane lives", () => bench.told.includes("d committed"))
    }),
  )

  it.effect("callbacks for lost and refused fragments may throw as well", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [claim, other] = yield* bench.hold(2)
      bench.script("commit", (nth) => (nth === 1 ? "reject" : undefined))
      bench.append(claim!, "a", {
        onLost: () => {
          throw new Error("lost")
        },
        onRejected: () => {
          throw new Error("rejected")
        },
      })
      yield* quiet
      yield* bench.memory.store.releaseClaims([claim!])
      bench.append(claim!, "b", {
        onLost: () => {
          throw new Error("lost")
        },
      })
      yield* quiet
      bench.append(other!, "c", one("c", 1))
      yield* until("the lane lives", () => bench.told.includes("c committed"))
    }),
  )

  it.effect("a store that dies once is asked again", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [claim] = yield* bench.hold(1)
      bench.script("commit", (nth) => (nth === 1 ? "die" : undefined))
      bench.append(claim!, "a", one("a", 1))
      for (let i = 0; i < 3; i++) yield* Effect.andThen(TestClock.adjust(2000), quiet)
      assert.deepStrictEqual(bench.told, ["a committed"])
    }),
  )

  it.effect("a store call that ends in an interrupt of its own is asked again", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [claim] = yield* bench.hold(1)
      bench.script("commit", (nth) => (nth === 1 ? "interrupt" : undefined))
      bench.append(claim!, "a", one("a", 1))
      for (let i = 0; i < 3; i++) yield* Effect.andThen(TestClock.adjust(2000), quiet)
      assert.deepStrictEqual(bench.told, ["a committed"])
    }),
  )

  it.effect("a row on which the store dies each time pauses its run; the others pass", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const claims = yield* bench.hold(20)
      bench.script("commit", (_, writes) => (writes.some(isBad) ? "die" : undefined))
      claims.forEach((claim, n) => bench.append(claim, `${n}`, one(n === 7 ? "bad" : "good", 1)))
      for (let i = 0; i < 20; i++) yield* Effect.andThen(TestClock.adjust(2000), quiet)
      assert.strictEqual(bench.told.length, 20)
      assert.include(bench.told, "7 lost")
      assert.strictEqual(bench.told.filter((told) => told.endsWith("committed")).length, 19)
      assert.strictEqual(statusOf(bench, 7), "paused")
    }),
  )

  it.effect("a store that dies once while it takes a refused batch apart pauses nobody", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const claims = yield* bench.hold(2)
      bench.script("commit", (nth, writes) =>
        nth === 2 ? "die" : writes.some(isBad) ? "reject" : undefined,
      )
      const refused: Array<string> = []
      claims.forEach((claim, n) => {
        bench.append(claim, `${n}`, {
          ...one(n === 1 ? "bad" : "good", 1),
          ...(n === 1 ? { onRejected: () => refused.push(`${n}`) } : {}),
        })
      })
      for (let i = 0; i < 5; i++) yield* Effect.andThen(TestClock.adjust(2000), quiet)
      assert.deepStrictEqual(bench.told, ["0 committed"])
      assert.deepStrictEqual(refused, ["1"])
    }),
  )
})
