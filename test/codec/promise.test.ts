/** Behind a payload codec the promise API is what it was, wherever it has to do with values or errors. */
import { beforeEach, describe } from "vitest"
import { MemoryWorkflowStore } from "../../src/index.ts"
import type { Backend } from "../promise/rig.ts"
import { childrenSuite } from "../promise/suiteChildren.ts"
import { compensationSuite } from "../promise/suiteCompensation.ts"
import { controlSuite } from "../promise/suiteControl.ts"
import { errorsSuite } from "../promise/suiteErrors.ts"
import { eventsSuite } from "../promise/suiteEvents.ts"
import { identitySuite } from "../promise/suiteIdentity.ts"
import { readingSuite } from "../promise/suiteReading.ts"
import { stepControlSuite } from "../promise/suiteStepControl.ts"
import { valuesSuite } from "../promise/suiteValues.ts"
import { aes } from "./aes.ts"

let store = new MemoryWorkflowStore()
beforeEach(() => {
  store = new MemoryWorkflowStore()
})

const backend: Backend = {
  name: "memory behind a payload codec",
  options: () => ({ payloadCodecs: { write: aes("k1") } }),
  attach: (engine) => engine.setStore(store),
}

describe("children", () => childrenSuite(backend))
describe("control", () => controlSuite(backend))
describe("step control", () => stepControlSuite(backend))
describe("compensation", () => compensationSuite(backend))
describe("errors", () => errorsSuite(backend))
describe("events", () => eventsSuite(backend))
describe("identity", () => identitySuite(backend))
describe("reading", () => readingSuite(backend))
describe("values", () => valuesSuite(backend))
