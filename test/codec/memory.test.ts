import * as Effect from "effect/Effect"
import { beforeEach } from "vitest"
import { MemoryWorkflowStore } from "../../src/index.ts"
import { handleOf, memoryLayer } from "../../src/promise/MemoryWorkflowStore.ts"
import { toldBy } from "./place.ts"
import { codecSuite } from "./suite.ts"

let store = new MemoryWorkflowStore()

beforeEach(() => {
  store = new MemoryWorkflowStore()
})

codecSuite({
  name: "in memory",
  options: () => ({}),
  attach: (engine) => engine.setStore(store),
  layer: () => memoryLayer(store),
  stored: () => Effect.runPromise(toldBy(handleOf(store).store)),
})
