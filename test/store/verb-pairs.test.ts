/** All ordered pairs of verbs, from every state, on the memory store. */
import { assert, describe } from "@effect/vitest"
import * as Layer from "effect/Layer"
import * as MemoryStore from "../../src/MemoryStore.ts"
import { WorkflowStore } from "../../src/WorkflowStore.ts"
import { testOn } from "./conformanceFixture.ts"
import { allVerbs, playPairs, states } from "./verbPairs.ts"

const test = testOn(() =>
  Layer.sync(WorkflowStore, () => MemoryStore.makeUnsafe({ client: {} }).store),
)

describe("two verbs, one after the other, leave a legal state that leads to an end:", () => {
  for (const state of Object.keys(states)) {
    test(`from ${state}`, function* (s) {
      const played = yield* playPairs(s, state, 1, allVerbs)
      assert.strictEqual(played, Object.keys(allVerbs).length ** 2)
    })
  }
})
