/**
 * The journal between runs and store: batches, order, hints.
 */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import type { Fragment } from "../../src/engine/Execution.ts"
import * as Journal from "../../src/Journal.ts"
import * as MemoryStore from "../../src/MemoryStore.ts"
import { type Claim, WorkflowStore } from "../../src/WorkflowStore.ts"
import {
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
import { it, makeScripted, quiet, until } from "../worker/scripted.ts"
import { holdFirst, keysOf, one, setUp, sized, statusOf } from "./rig.ts"

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

  it.effect("what answers set off in two turns of the event loop is one commit", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [first, second] = yield* bench.hold(2)
      const then = (claim: Claim, name: string) => () => bench.append(claim, name, one(name, 2))
      bench.append(first!, "a", { ...one("a", 1), onCommitted: then(first!, "soon") })
      const later = () => setImmediate(() => setImmediate(then(second!, "later")))
      bench.append(second!, "b", { ...one("b", 1), onCommitted: later })
      yield* until("all are committed", () => bench.told.length === 2)
      assert.deepStrictEqual(bench.commits().map(keysOf), [
        [["a"], ["b"]],
        [["soon"], ["later"]],
      ])
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
      bench.append(claim!, "e", { attributes: { tier: "iron", at: "begin" } })
      bench.append(claim!, "f", { attributes: { tier: "gold" } })
      bench.append(claim!, "g", { transition: settle("completed") })
      yield* latch.open
      yield* until("all are committed", () => bench.told.length === 8)
      assert.deepStrictEqual(
        bench.told.slice(1),
        [..."abcdefg"].map((name) => `${name} committed`),
      )
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
      assert.deepStrictEqual(write!.attributes, { tier: "gold", at: "begin" })
      assert.strictEqual(write!.transition?._tag, "Settle")
      assert.strictEqual(statusOf(bench, 0), "completed")
    }),
  )

  it.effect("every answer of a large batch is told, though no other batch follows", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const claims = yield* bench.hold(200)
      const latch = yield* holdFirst(bench)
      for (const claim of claims) bench.append(claim, "x", one("a", 1))
      yield* until("they are under way", () => bench.open("commit") === 1)
      yield* latch.open
      yield* until("all are told", () => bench.told.length === 200)
      assert.strictEqual(bench.commits().length, 1)
    }),
  )

  it.effect("of several fragments of a run that carry the same all is written", () =>
    Effect.gen(function* () {
      const bench = yield* setUp
      const [claim, other] = yield* bench.hold(2)
      const latch = yield* holdFirst(bench)
      bench.append(other!, "other", one("x", 1))
      yield* until("the first is under way", () => bench.commits().length === 1)
      const { workflowRunId } = claim!
      for (const n of [1, 2]) {
        bench.append(claim!, `${n}`, {
          timers: [{ stepKey: `timer ${n}`, delayMs: 5 }],
          children: [
            newRun(100 + n, { parent: { workflowRunId, stepKey: `child ${n}`, attempt: 1 } }),
          ],
          emitted: [{ stepKey: `emit ${n}`, name: "e", payload: json(n) }],
          compensations: [{ stepKey: `undo ${n}`, status: "completed", attempts: 1, error: null }],
        })
      }
      yield* latch.open
      yield* until("they are sent", () => bench.commits().length === 2)
      const [write] = bench.commits()[1]!
      const { timers, children, emitted, compensations } = write!
      assert.deepStrictEqual(
        [timers, emitted, compensations].flat().map(({ stepKey }) => stepKey),
        ["timer 1", "timer 2", "emit 1", "emit 2", "undo 1", "undo 2"],
      )
      assert.deepStrictEqual(
        children.map(({ parent }) => parent?.stepKey),
        ["child 1", "child 2"],
      )
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

  it.effect("inputs of children and emitted events count among the values of a batch", () =>
    Effect.gen(function* () {
      const large = json("x".repeat(3 * 1_048_576))
      const fragments: ReadonlyArray<(workflowRunId: string, n: number) => Partial<Fragment>> = [
        (workflowRunId, n) => {
          const parent = { workflowRunId, stepKey: "c", attempt: 1 }
          return { children: [newRun(100 + n, { input: large, parent })] }
        },
        () => ({
          records: [record("e", 1, { kind: "emit" })],
          emitted: [{ stepKey: "e", name: "e", payload: large }],
        }),
      ]
      for (const fragment of fragments) {
        const bench = yield* setUp
        const claims = yield* bench.hold(3)
        const latch = yield* holdFirst(bench)
        bench.append(claims[0]!, "x", one("a", 1))
        yield* until("the first is under way", () => bench.commits().length === 1)
        claims.slice(1).forEach((claim, n) => {
          bench.append(claim, "x", fragment(claim.workflowRunId, n))
        })
        yield* latch.open
        yield* until("all are committed", () => bench.told.length === 3)
        assert.strictEqual(bench.commits().length, 3)
      }
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

  it.effect("are heard until the subscription ends", () =>
    Effect.gen(function* () {
      const { journal } = yield* setUp
      const heard: Array<string> = []
      const end = journal.hints.subscribe((hint) => heard.push(hint))
      journal.hints.local("work")
      end()
      journal.hints.local("signal")
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
