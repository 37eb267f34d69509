/**
 * The suite that every store passes: one sentence of the contract, one test.
 *
 * `makeLayer` gives an empty store each time; its time must be Effect's clock.
 */
import { describe } from "@effect/vitest"
import type * as Layer from "effect/Layer"
import type { WorkflowStore } from "../../src/WorkflowStore.ts"
import { claimTests } from "./conformanceClaims.ts"
import { controlTests } from "./conformanceControl.ts"
import { forkTests } from "./conformanceForks.ts"
import { pauseTests } from "./conformancePauses.ts"
import { fenceTests } from "./conformanceFence.ts"
import { testOn } from "./conformanceFixture.ts"
import { insertTests } from "./conformanceInserts.ts"
import { journalTests } from "./conformanceJournal.ts"
import { transitionTests } from "./conformanceTransitions.ts"
import { recordTests } from "./conformanceRecords.ts"
import { compensationTests } from "./conformanceCompensation.ts"
import { orphanTests } from "./conformanceOrphans.ts"
import { requestTests } from "./conformanceRequests.ts"
import { scheduleTests } from "./conformanceSchedules.ts"
import { readTests } from "./conformanceReads.ts"
import { situationTests } from "./conformanceSituations.ts"
import { selectionTests } from "./conformanceSelection.ts"
import { parkingTests } from "./conformanceParking.ts"
import { transactTests } from "./conformanceTransact.ts"
import { workerTests } from "./conformanceWorkers.ts"

export const storeConformance = (
  name: string,
  makeLayer: () => Layer.Layer<WorkflowStore, unknown>,
): void => {
  const test = testOn(makeLayer)
  describe(`${name} keeps the contract:`, () => {
    workerTests(test)
    claimTests(test)
    insertTests(test)
    fenceTests(test)
    parkingTests(test)
    recordTests(test)
    journalTests(test)
    transitionTests(test)
    transactTests(test)
    requestTests(test)
    controlTests(test)
    pauseTests(test)
    forkTests(test)
    compensationTests(test)
    orphanTests(test)
    scheduleTests(test)
    readTests(test)
    selectionTests(test)
    situationTests(test)
  })
}
