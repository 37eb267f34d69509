/**
 * All pairs of verbs on Postgres: one after the other, and really at once, on connections of their
 * own. At once, they leave what one of their orders leaves on the memory store.
 */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { afterAll, beforeAll, it } from "vitest"
import * as MemoryStore from "../../src/MemoryStore.ts"
import { Fixture, start } from "./conformanceFixture.ts"
import { createDatabase, makeRig, onStore, type Rig } from "./postgresFixture.ts"
import { allVerbs, ordersOf, playPairs, playTogether, states, verbs as core } from "./verbPairs.ts"

/** S2: the common verbs in each test run; FLOWLY_PAIRS=all is tier T1, all of the contract's. */
const isWhole = process.env["FLOWLY_PAIRS"] === "all"
const verbs = isWhole ? allVerbs : core

let database: Awaited<ReturnType<typeof createDatabase>>
const rigs: Array<Rig> = []

const newRig = async () => {
  const rig = await makeRig(database)
  rigs.push(rig)
  return rig
}

beforeAll(async () => {
  database = await createDatabase()
})
afterAll(async () => {
  for (const rig of rigs) await rig.other.end()
  await database.drop()
})

describe("two verbs, one after the other, leave a legal state that leads to an end:", () => {
  for (const state of Object.keys(states)) {
    it(`from ${state}`, { timeout: 280_000 }, async () => {
      const rig = await newRig()
      const played = await onStore(rig, function* (s) {
        return yield* playPairs(s, state, 6, verbs)
      })
      assert.strictEqual(played, Object.keys(verbs).length ** 2)
    })
  }
})

/** With a settled history there is nothing to race for: these states are where verbs meet. */
const contested = [
  "pending",
  "running",
  "asked to cancel",
  "asked to pause",
  "sleeping",
  "paused",
  "undoing",
  "failed",
  ...(isWhole ? ["crashed", "crashed, asked to pause", "undone in vain"] : []),
]

const pairs = Object.keys(verbs).flatMap((first, index, names) =>
  names
    .slice(index)
    // a holder sends its own writes one after the other
    .filter((second) => !(first.startsWith("commit") && second.startsWith("commit")))
    .map((second) => [first, second] as const),
)

const onMemory = (state: string) =>
  Effect.runPromise(
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const s = new Fixture(MemoryStore.makeUnsafe({ client: {} }).store)
      return yield* Effect.forEach(pairs, (pair, index) => ordersOf(s, state, pair, index + 1))
    }).pipe(Effect.provide(TestClock.layer())),
  )

describe("two verbs at once leave what one of their orders leaves:", () => {
  for (const state of contested) {
    it(`from ${state}`, { timeout: 280_000 }, async () => {
      const ends = await onMemory(state)
      const rig = await newRig()
      await onStore(rig, function* (s) {
        yield* Effect.forEach(
          pairs,
          (pair, index) => playTogether(s, state, pair, index + 1, ends[index] ?? []),
          // one at a time: a sweep is of all lapsed workers, also of another pair's
          { discard: true },
        )
      })
    })
  }
})
