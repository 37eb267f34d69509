/**
 * A journal over a store in memory whose answers a test scripts, and what its callbacks were told.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as TestClock from "effect/testing/TestClock"
import type { Fragment } from "../../src/engine/Execution.ts"
import * as Journal from "../../src/Journal.ts"
import * as MemoryStore from "../../src/MemoryStore.ts"
import { type Claim, type RunWrite, WorkflowStore } from "../../src/WorkflowStore.ts"
import { Fixture, id, json, record, start } from "../store/conformanceFixture.ts"
import { makeScripted, type Scripted } from "../worker/scripted.ts"

export interface Bench extends Scripted {
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

/** A store that takes so many commits at once. */
export const setUpWith = Effect.fnUntraced(function* (
  overlap: WorkflowStore["Service"]["overlap"],
) {
  yield* TestClock.setTime(start)
  const memory = MemoryStore.makeUnsafe()
  const fixture = new Fixture(memory.store)
  const scripted = makeScripted({ ...memory.store, overlap })
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

export const setUp = setUpWith({ commits: 1, from: 1 })

/** The keys of the records of each write, in order. */
export const keysOf = (writes: ReadonlyArray<RunWrite>) =>
  writes.map((write) => write.records.map((one) => one.stepKey))

export const one = (stepKey: string, position: number): Partial<Fragment> => ({
  records: [record(stepKey, position)],
})

/** A record whose value has that size. */
export const sized = (mebibytes: number): Partial<Fragment> => ({
  records: [record("a", 1, { result: json("x".repeat(mebibytes * 1_048_576)) })],
})

export const isBad = (write: RunWrite) => write.records.some(({ stepKey }) => stepKey === "bad")

/** Holds back the answer of the first commit until the latch opens. */
export const holdFirst = Effect.fnUntraced(function* (bench: Bench) {
  const latch = yield* Latch.make()
  bench.script("commit", (nth) => (nth === 1 ? { before: latch } : undefined))
  return latch
})

export const statusOf = (bench: Bench, n: number) =>
  bench.memory.inspect().runs.find((run) => run.workflowRunId === id(n))?.status

export const stepsOf = (bench: Bench, n: number) =>
  Effect.map(Effect.orDie(bench.memory.store.getSteps(id(n))), (steps) =>
    steps.map((step) => `${step.stepKey} ${step.status} ${step.position}`),
  )
