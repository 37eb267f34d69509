/** The promise API, item by item: one suite for every store. */
import { describe } from "vitest"
import type { Backend } from "./rig.ts"
import { bodySuite } from "./suiteBody.ts"
import { childrenSuite } from "./suiteChildren.ts"
import { endingsSuite } from "./suiteEndings.ts"

export const promiseSuite = (backend: Backend): void => {
  describe(`${backend.name}: bodies`, () => bodySuite(backend))
  describe(`${backend.name}: children`, () => childrenSuite(backend))
  describe(`${backend.name}: endings`, () => endingsSuite(backend))
}
