/**
 * A starter over a store in memory whose answers a test scripts.
 */
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { makeStarter } from "../../src/engine/starter.ts"
import * as MemoryStore from "../../src/MemoryStore.ts"
import type { NewRun } from "../../src/WorkflowStore.ts"
import { start } from "../store/conformanceFixture.ts"
import { makeScripted, quiet } from "./scripted.ts"

export const setUp = Effect.gen(function* () {
  yield* TestClock.setTime(start)
  const memory = MemoryStore.makeUnsafe()
  const scripted = makeScripted(memory.store)
  const starter = yield* makeStarter(scripted.store)
  const insert = (
    run: NewRun,
    options: { deadlineMs?: number; claimFor?: string; chosen?: boolean } = {},
  ) => {
    const { claimFor = null, deadlineMs = 30_000, chosen = false } = options
    return starter({ run, claimFor, deadlineMs, chosen })
  }
  return {
    ...scripted,
    memory,
    insert,
    fork: (run: NewRun, options: Parameters<typeof insert>[1] = {}) =>
      Effect.forkChild(insert(run, options), { startImmediately: true }),
    /** The ids of each insert, in order. */
    sent: () =>
      scripted
        .calls("insertRuns")
        .map(([{ runs }]) => runs.map((run) => Number.parseInt(run.workflowRunId.slice(-4), 16))),
    stored: () => memory.inspect().runs.map((run) => run.workflowRunId),
  }
})

/** Lets time pass in small steps, so that what it wakes can run. */
export const pass = (milliseconds: number) =>
  Effect.repeat(Effect.andThen(TestClock.adjust(milliseconds / 20), quiet), { times: 19 })
