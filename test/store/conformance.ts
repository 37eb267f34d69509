/**
 * The suite that every store passes: one sentence of the contract, one test.
 *
 * `makeLayer` gives an empty store each time; its time must be Effect's clock.
 */
import { describe } from "@effect/vitest"
import type * as Layer from "effect/Layer"
import type { WorkflowStore } from "../../src/WorkflowStore.ts"
import { claimTests } from "./conformanceClaims.ts"
import { fenceTests } from "./conformanceFence.ts"
import { testOn } from "./conformanceFixture.ts"
import { insertTests } from "./conformanceInserts.ts"
import { parkingTests } from "./conformanceParking.ts"
import { workerTests } from "./conformanceWorkers.ts"

export const storeConformance = (
  name: string,
  makeLayer: () => Layer.Layer<WorkflowStore, unknown>,
): void => {
  const test = testOn(makeLayer)
  describe(name, () => {
    workerTests(test)
    claimTests(test)
    insertTests(test)
    fenceTests(test)
    parkingTests(test)
  })
}
