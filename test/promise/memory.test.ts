import { beforeEach } from "vitest"
import { MemoryWorkflowStore } from "../../src/index.ts"
import { promiseSuite } from "./suite.ts"

let store = new MemoryWorkflowStore()

beforeEach(() => {
  store = new MemoryWorkflowStore()
})

promiseSuite({
  name: "memory",
  options: () => ({}),
  attach: (engine) => engine.setStore(store),
})
