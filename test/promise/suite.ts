/** The promise API, item by item: one suite for every store. */
import { describe } from "vitest"
import type { Backend } from "./rig.ts"
import { bodySuite } from "./suiteBody.ts"
import { stepsSuite } from "./suiteSteps.ts"
import { childrenSuite } from "./suiteChildren.ts"
import { controlSuite } from "./suiteControl.ts"
import { determinismSuite } from "./suiteDeterminism.ts"
import { endingsSuite } from "./suiteEndings.ts"
import { compensationSuite } from "./suiteCompensation.ts"
import { errorsSuite } from "./suiteErrors.ts"
import { cronSuite } from "./suiteCron.ts"
import { engineSuite } from "./suiteEngine.ts"
import { eventsSuite } from "./suiteEvents.ts"
import { identitySuite } from "./suiteIdentity.ts"
import { explainSuite } from "./suiteExplain.ts"
import { observeSuite } from "./suiteObserve.ts"
import { stepControlSuite } from "./suiteStepControl.ts"
import { readingSuite } from "./suiteReading.ts"
import { triggerSuite } from "./suiteTrigger.ts"
import { valuesSuite } from "./suiteValues.ts"

export const promiseSuite = (backend: Backend): void => {
  describe(`${backend.name}: steps`, () => stepsSuite(backend))
  describe(`${backend.name}: bodies`, () => bodySuite(backend))
  describe(`${backend.name}: children`, () => childrenSuite(backend))
  describe(`${backend.name}: control`, () => controlSuite(backend))
  describe(`${backend.name}: determinism`, () => determinismSuite(backend))
  describe(`${backend.name}: step control`, () => stepControlSuite(backend))
  describe(`${backend.name}: compensation`, () => compensationSuite(backend))
  describe(`${backend.name}: endings`, () => endingsSuite(backend))
  describe(`${backend.name}: errors`, () => errorsSuite(backend))
  describe(`${backend.name}: starting and asking`, () => triggerSuite(backend))
  describe(`${backend.name}: events`, () => eventsSuite(backend))
  describe(`${backend.name}: identity`, () => identitySuite(backend))
  describe(`${backend.name}: observing`, () => observeSuite(backend))
  describe(`${backend.name}: reading`, () => readingSuite(backend))
  describe(`${backend.name}: explaining`, () => explainSuite(backend))
  describe(`${backend.name}: cron`, () => cronSuite(backend))
  describe(`${backend.name}: engine`, () => engineSuite(backend))
  describe(`${backend.name}: values`, () => valuesSuite(backend))
}
