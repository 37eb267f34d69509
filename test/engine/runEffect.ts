/**
 * Runs one body of the Effect API on a store of its own, which may take its time.
 */
import { setTimeout as delay } from "node:timers/promises"
import * as Effect from "effect/Effect"
import { anyValue } from "../../src/engine/values.ts"
import * as MemoryStore from "../../src/MemoryStore.ts"
import * as WorkflowBody from "../../src/WorkflowBody.ts"
import type { WorkflowRun } from "../../src/WorkflowRun.ts"
import type { RunWrite, WorkflowStore } from "../../src/WorkflowStore.ts"
import { recordsOf, settled, start, startEngine } from "./replay.ts"

const effectLayer = (name: string, body: Effect.Effect<unknown, unknown, WorkflowRun>) =>
  WorkflowBody.register({
    name,
    version: null,
    payload: anyValue,
    success: anyValue,
    error: null,
    body: () => body,
  })

/** Runs one body of the Effect API to its end. */
export const runEffect = async (
  body: Effect.Effect<unknown, unknown, WorkflowRun>,
  around: (store: WorkflowStore["Service"]) => WorkflowStore["Service"] = (store) => store,
  meanwhile: (handle: MemoryStore.Handle, workflowRunId: string) => unknown = () => undefined,
) => {
  const handle = MemoryStore.makeUnsafe()
  const engine = await startEngine(around(handle.store), [effectLayer("main", body)])
  try {
    const given = { main: "main", input: undefined, maxAttempts: undefined }
    const workflowRunId = await start(engine, given)
    await meanwhile(handle, workflowRunId)
    return { end: await settled(handle, workflowRunId, 10_000), handle, workflowRunId }
  } finally {
    await engine.stop()
  }
}

/** A store whose commits take a while, where `slow` says so. */
export const slowly =
  (slow: (write: RunWrite) => boolean, ms = 40) =>
  (store: WorkflowStore["Service"]): WorkflowStore["Service"] => ({
    ...store,
    commit: (writes) =>
      writes.some(slow)
        ? Effect.andThen(
            Effect.promise(() => delay(ms)),
            store.commit(writes),
          )
        : store.commit(writes),
  })

export const statusesOf = (handle: MemoryStore.Handle, workflowRunId: string) =>
  recordsOf(handle, workflowRunId).map(({ stepKey, status }) => `${stepKey} ${status}`)
