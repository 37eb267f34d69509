/**
 * The journal between runs and store: batches, order, unknown outcomes, refusals, defects.
 */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import type { Fragment } from "../../src/engine/Execution.ts"
import type { StoredError } from "../../src/ErrorPayload.ts"
import * as Journal from "../../src/Journal.ts"
import * as MemoryStore from "../../src/MemoryStore.ts"
import { type Claim, type RunWrite, WorkflowStore } from "../../src/WorkflowStore.ts"
import {
  failed,
  Fixture,
  handBack,
  id,
  json,
  newRun,
  park,
  record,
  retrying,
  settle,
  start,
} from "../store/conformanceFixture.ts"
import { it, makeScripted, quiet, type Scripted, until } from "../worker/scripted.ts"

interface Bench extends Scripted {
  readonly journal: Journal.Journal["Service"]
  readonly memory: MemoryStore.Handle
  /** What the callbacks were told, in order. */
  readonly told: Array<string>
  /** Claims `count` runs. */
  readonly hold: (count: number) => Effect.Effect<ReadonlyArray<Claim>>
  /** Hands a fragment over whose answer is noted under `name`. */
  readonly append: (claim: Claim, name: string, fragment?: Partial<Fragment>) => void
  readonly commits: () => ReadonlyArray<ReadonlyArray<RunWrite>>
}

const setUp = Effect.gen(function* () {
  yield* TestClock.setTime(start)
  const memory = MemoryStore.makeUnsafe()
  const fixture = new Fixture(memory.store)
  const scripted = makeScripted(memory.store)
  const journal = yield* Journal.make.pipe(Effect.provideService(WorkflowStore, scripted.store))
  const told: Array<string> = []
  const worker = yield* Effect.orDie(fixture.worker(1, 3_600_000))
  const bench: Bench = {
    ...scripted,
    journal,
    memory,
    told,
    hold: (count) =>
      Effect.orDie(
        Effect.forEach(
          Array.from({ length: count }, (_, n) => n),
          (n) => fixture.hold(worker, n),
        ),
      ),
    append: (claim, name, fragment = {}) => {
      journal.append(claim, {
        onCommitted: () => told.push(`${name} committed`),
        onLost: () => told.push(`${name} lost`),
        onRejected: () => told.push(`${name} rejected`),
        ...fragment,
      })
    },
    commits: () => scripted.calls("commit").map(([writes]) => writes),
  }
  return bench
})

/** The keys of the records of each write, in order. */
const keysOf = (writes: ReadonlyArray<RunWrite>) =>
  writes.map((write) => write.records.map((one) => one.stepKey))

const one = (stepKey: string, position: number): Partial<Fragment> => ({
  records: [record(stepKey, position)],
})

/** A record whose value has that size. */
const sized = (mebibytes: number): Partial<Fragment> => ({
  records: [record("a", 1, { result: json("x".repeat(mebibytes * 1_048_576)) })],
})

const isBad = (write: RunWrite) => write.records.some(({ stepKey }) => stepKey === "bad")

/** Holds back the answer of the first commit until the latch opens. */
const holdFirst = Effect.fnUntraced(function* (bench: Bench) {
  const latch = yield* Latch.make()
  bench.script("commit", (nth) => (nth === 1 ? { before: latch } : undefined))
  return latch
})

const statusOf = (bench: Bench, n: number) =>
  bench.memory.inspect().runs.find((run) => run.workflowRunId === id(n))?.status

const stepsOf = (bench: Bench, n: number) =>
  Effect.map(Effect.orDie(bench.memory.store.getSteps(id(n))), (steps) =>
    steps.map((step) => `${step.stepKey} ${step.status} ${step.position}`),
  )

describe("batches", () => {
  it.effect("a lone fragment is committed at once", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [claim] = yield* bench.hold(1)
      bench.append(claim!, "a", one("a", 1))
      yield* until("it is committed", () => bench.told.length === 1)
      assert.deepStrictEqual(bench.told, ["a committed"])
      assert.deepStrictEqual(bench.journal.stats(), { commits: 1, runs: 1 })
    }),
  )

  it.effect("what a hundred runs produce during a commit is one commit", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const claims = yield* bench.hold(101)
      const latch = yield* holdFirst(bench)
      bench.append(claims[0]!, "first", one("a", 1))
      yield* until("the first is under way", () => bench.commits().length === 1)
      for (const claim of claims.slice(1)) bench.append(claim, "x", one("a", 1))
      yield* quiet
      assert.strictEqual(bench.commits().length, 1)
      yield* latch.open
      yield* until("all are committed", () => bench.told.length === 101)
      assert.deepStrictEqual(
        bench.commits().map((writes) => writes.length),
        [1, 100],
      )
    }),
  )

  it.effect("fragments of one run are folded, in order, into one row", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [claim, other] = yield* bench.hold(2)
      const latch = yield* holdFirst(bench)
      bench.append(other!, "other", one("x", 1))
      yield* until("the first is under way", () => bench.commits().length === 1)
      bench.append(claim!, "a", one("a", 1))
      bench.append(claim!, "b", { timers: [{ stepKey: "s", delayMs: 5 }] })
      bench.append(claim!, "c", { records: [retrying("c", 1)] })
      bench.append(claim!, "d", { records: [record("c", 2, { attempts: 2 })] })
      bench.append(claim!, "e", { transition: settle("completed") })
      yield* latch.open
      yield* until("all are committed", () => bench.told.length === 6)
      assert.deepStrictEqual(bench.told.slice(1), [
        "a committed",
        "b committed",
        "c committed",
        "d committed",
        "e committed",
      ])
      const [write, ...more] = bench.commits()[1]!
      assert.strictEqual(more.length, 0)
      assert.deepStrictEqual(
        write!.records.map(({ stepKey, status }) => [stepKey, status]),
        [
          ["a", "completed"],
          ["c", "completed"],
        ],
      )
      assert.deepStrictEqual(write!.timers, [{ stepKey: "s", delayMs: 5 }])
      assert.strictEqual(write!.transition?._tag, "Settle")
      assert.strictEqual(statusOf(bench, 0), "completed")
    }),
  )

  it.effect("a batch holds at most 500 runs", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const claims = yield* bench.hold(1201)
      const latch = yield* holdFirst(bench)
      bench.append(claims[0]!, "x", one("a", 1))
      yield* until("the first is under way", () => bench.commits().length === 1)
      for (const claim of claims.slice(1)) bench.append(claim, "x", one("a", 1))
      yield* latch.open
      yield* until("all are committed", () => bench.told.length === 1201)
      assert.deepStrictEqual(
        bench.commits().map((writes) => writes.length),
        [1, 500, 500, 200],
      )
    }),
  )

  it.effect("a batch holds at most 4 MiB of values, but always something", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const claims = yield* bench.hold(6)
      const latch = yield* holdFirst(bench)
      bench.append(claims[0]!, "x", one("a", 1))
      yield* until("the first is under way", () => bench.commits().length === 1)
      bench.append(claims[1]!, "x", sized(1))
      bench.append(claims[2]!, "x", sized(2))
      bench.append(claims[3]!, "x", sized(2))
      bench.append(claims[4]!, "x", sized(6))
      bench.append(claims[5]!, "x", sized(1))
      yield* latch.open
      yield* until("all are committed", () => bench.told.length === 6)
      assert.deepStrictEqual(
        bench.commits().map((writes) => writes.length),
        [1, 2, 1, 1, 1],
      )
    }),
  )

  it.effect("what one run alone produced is bounded too, and stays in order", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [claim, other] = yield* bench.hold(2)
      const latch = yield* holdFirst(bench)
      bench.append(other!, "x", one("a", 1))
      yield* until("the first is under way", () => bench.commits().length === 1)
      const mebibyte = json("x".repeat(1_048_576))
      for (let n = 1; n <= 10; n++) {
        bench.append(claim!, `${n}`, { records: [record(`s${n}`, n, { result: mebibyte })] })
      }
      bench.append(claim!, "end", { transition: settle("completed") })
      yield* latch.open
      yield* until("all are committed", () => bench.told.length === 12)
      assert.isTrue(bench.commits().every(([write]) => write!.records.length <= 4))
      assert.deepStrictEqual(
        bench.commits().slice(1).flatMap(keysOf).flat(),
        Array.from({ length: 10 }, (_, n) => `s${n + 1}`),
      )
      assert.strictEqual(bench.told.at(-1), "end committed")
      assert.strictEqual(statusOf(bench, 0), "completed")
    }),
  )

  it.effect("a batch holds at most 2000 fragments", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [claim, other] = yield* bench.hold(2)
      const latch = yield* holdFirst(bench)
      bench.append(other!, "x", one("a", 1))
      yield* until("the first is under way", () => bench.commits().length === 1)
      for (let n = 1; n <= 4500; n++) bench.append(claim!, `${n}`, one(`s${n}`, n))
      yield* latch.open
      yield* until("all are committed", () => bench.told.length === 4501)
      assert.deepStrictEqual(
        bench.commits().map((writes) => writes[0]!.records.length),
        [1, 2000, 2000, 500],
      )
    }),
  )

  it.effect("drained waits for what is queued and in flight", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [claim, other] = yield* bench.hold(2)
      yield* bench.journal.drained
      const latch = yield* holdFirst(bench)
      bench.append(claim!, "a", one("a", 1))
      const fiber = yield* Effect.forkChild(bench.journal.drained)
      yield* until("the first is under way", () => bench.commits().length === 1)
      bench.append(other!, "b", one("a", 1))
      yield* quiet
      assert.isUndefined(fiber.pollUnsafe())
      yield* latch.open
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(bench.told, ["a committed", "b committed"])
    }),
  )
})

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
})

describe("hints", () => {
  it.effect("are sent after the commit, never before, and not for what was lost", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const claims = yield* bench.hold(5)
      const latch = yield* Latch.make()
      bench.script("commit", () => ({ before: latch }))
      const heard: Array<string> = []
      bench.journal.hints.subscribe((hint) => heard.push(hint))
      const child = newRun(100, {
        parent: { workflowRunId: claims[0]!.workflowRunId, stepKey: "c", attempt: 1 },
      })
      bench.append(claims[0]!, "child", { children: [child] })
      bench.append(claims[1]!, "emit", {
        records: [record("e", 1, { kind: "emit" })],
        emitted: [{ stepKey: "e", name: "e", payload: json(1) }],
      })
      bench.append(claims[2]!, "back", { transition: handBack })
      bench.append(claims[3]!, "done", { transition: settle("completed") })
      bench.append({ ...claims[4]!, token: 9 }, "lost", { transition: handBack })
      yield* quiet
      assert.deepStrictEqual(heard, [])
      assert.deepStrictEqual(bench.calls("notify"), [])
      yield* latch.open
      yield* until("all are answered", () => bench.told.length === 5)
      yield* quiet
      // a settlement is told here by the worker that settled it
      assert.deepStrictEqual(heard, ["work", "signal", "work"])
      const sent = bench.calls("notify").flatMap(([hints]) => hints)
      assert.deepStrictEqual([...new Set(sent)].toSorted(), ["settled", "signal", "work"])
    }),
  )

  it.effect("a park tells of work only where it was woken meanwhile", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [asleep, woken] = yield* bench.hold(2)
      const heard: Array<string> = []
      bench.journal.hints.subscribe((hint) => heard.push(hint))
      bench.append(asleep!, "a", { transition: park(0, { delayMs: 1000 }) })
      yield* until("it is committed", () => bench.told.length === 1)
      assert.deepStrictEqual(heard, [])
      yield* bench.memory.store.sendEvents([
        { workflowRunId: woken!.workflowRunId, name: "e", payload: json(1), id: null },
      ])
      bench.append(woken!, "b", { transition: park(0, { delayMs: 1000 }) })
      yield* until("it is committed", () => bench.told.length === 2)
      assert.deepStrictEqual(heard, ["work"])
    }),
  )

  for (const fault of ["fail", "die", "interrupt", "hang"] as const) {
    it.effect(`a notify that answers with "${fault}" is not the last`, () =>
      Effect.gen(function* () {
        const bench = yield* setUp
        bench.script("notify", (nth) => (nth === 1 ? fault : undefined))
        bench.journal.hints.send("work")
        yield* until("it was sent", () => bench.calls("notify").length === 1)
        bench.journal.hints.send("settled")
        bench.journal.hints.send("settled")
        bench.journal.hints.send("work")
        for (let i = 0; i < 10; i++) yield* Effect.andThen(TestClock.adjust(10_000), quiet)
        assert.deepStrictEqual(bench.calls("notify").at(-1), [["settled", "work"]])
        assert.strictEqual(bench.calls("notify").length, 2)
      }),
    )
  }
})

it.effect("nothing is left behind when the journal's scope closes", () =>
  Effect.gen(function* () {
    yield* TestClock.setTime(start)
    const memory = MemoryStore.makeUnsafe()
    const scripted = makeScripted(memory.store)
    const scope = yield* Scope.make()
    const journal = yield* Journal.make.pipe(
      Effect.provideService(WorkflowStore, scripted.store),
      Scope.provide(scope),
    )
    scripted.script("commit", () => "hang")
    journal.append({ workflowRunId: id(0), token: 1 }, { onCommitted: () => undefined })
    yield* until("it was sent", () => scripted.open("commit") === 1)
    yield* Scope.close(scope, Exit.void)
    assert.strictEqual(scripted.open("commit"), 0)
  }),
)
