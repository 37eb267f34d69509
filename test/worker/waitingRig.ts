/** What waiting rooms and tails of events work on, without an engine. */
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { type Hints, makeHints } from "../../src/engine/hints.ts"
import * as MemoryStore from "../../src/MemoryStore.ts"
import { Fixture, start } from "../store/conformanceFixture.ts"
import { makeScripted, quiet } from "./scripted.ts"

export const pollMs = 1000

/** A store whose answers a test scripts, its hints, and a worker that claims by hand. */
export const setUp = Effect.gen(function* () {
  yield* TestClock.setTime(start)
  const memory = MemoryStore.makeUnsafe()
  const scripted = makeScripted(memory.store)
  const hints: Hints = yield* makeHints(scripted.store)
  const fixture = new Fixture(memory.store)
  const worker = yield* Effect.orDie(fixture.worker(1, 3_600_000))
  return { ...scripted, memory, hints, fixture, worker }
})

export const aPoll = Effect.andThen(TestClock.adjust(pollMs), quiet)
