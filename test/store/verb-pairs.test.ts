/** All ordered pairs of verbs, from every state, on the memory store. */
import { assert, describe } from "@effect/vitest"
import * as MemoryStore from "../../src/MemoryStore.ts"
import { testOn } from "./conformanceFixture.ts"
import { playPairs, states, verbs } from "./verbPairs.ts"

const test = testOn(() => MemoryStore.layer)

describe("two verbs, one after the other, leave a legal state that leads to an end:", () => {
  for (const state of Object.keys(states)) {
    test(`from ${state}`, function* (s) {
      assert.strictEqual(yield* playPairs(s, state, 1), Object.keys(verbs).length ** 2)
    })
  }
})
