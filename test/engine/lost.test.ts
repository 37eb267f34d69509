/**
 * A worker that loses its runs at its k-th commit, for every k: the commit was applied but its
 * answer was not seen, or it was not applied. It stays alive, and changes nothing any more, while
 * another finishes the run.
 */
import * as Effect from "effect/Effect"
import { describe, expect, it } from "vitest"
import * as MemoryStore from "../../src/MemoryStore.ts"
import type { RunWrite, WorkflowStore } from "../../src/WorkflowStore.ts"
import { bodies } from "./bodies.ts"
import { effectBodies } from "./effectBodies.ts"
import { type Program, record, releaseAll, settled, start, startEngine } from "./replay.ts"
import { inParallel } from "./prefixes.ts"
import { World } from "./world.ts"

const lost = (writes: ReadonlyArray<RunWrite>) =>
  writes.map(({ workflowRunId }) => ({ _tag: "lost" as const, workflowRunId }))

/** The store, until the k-th commit; then it knows this worker no more. */
const until = (
  store: WorkflowStore["Service"],
  k: number,
  applied: boolean,
  onLost: () => void,
): WorkflowStore["Service"] => {
  let commits = 0
  return {
    ...store,
    commit: (writes) =>
      Effect.suspend(() => {
        commits++
        if (commits < k) return store.commit(writes)
        if (commits > k) return Effect.succeed(lost(writes))
        const cut = Effect.sync(() => {
          onLost()
          return lost(writes)
        })
        return applied ? Effect.andThen(store.commit(writes), cut) : cut
      }),
    claimRuns: (options) =>
      Effect.suspend(() => (commits < k ? store.claimRuns(options) : Effect.succeed([]))),
  }
}

const play = async (
  given: Program,
  k: number,
  applied: boolean,
): Promise<ReadonlyArray<string>> => {
  const handle = MemoryStore.makeUnsafe({ client: "client" })
  const world = new World(handle)
  const { promise: wasLost, resolve: onLost } = Promise.withResolvers<void>()
  let seenByThen = 0
  const seen = () => world.executions.reduce((sum, one) => sum + one.seen.length, 0)
  const store = until(handle.store, k, applied, () => {
    seenByThen = seen()
    onLost()
  })
  const first = await startEngine(store, given.code(world))
  const workflowRunId = await start(first, given)
  // how many commits there are may differ a little from run to run
  const cut = await Promise.race([
    wasLost.then(() => true),
    settled(handle, workflowRunId).then(() => false),
  ])
  if (!cut) {
    await first.stop()
    return []
  }
  // no body of the first worker may go on: not with a delivery, nor with a catch or a finally
  await new Promise((resolve) => setTimeout(resolve, 5))
  const faults: Array<string> = []
  if (seen() > seenByThen && handle.inspect().runs.length === 1) faults.push("a body went on")
  releaseAll(handle)
  const again = world.copy(handle)
  const second = await startEngine(handle.store, given.code(again))
  const end = await settled(handle, workflowRunId).finally(async () => {
    await Promise.all([first.stop(), second.stop()])
  })
  if (!given.anyEnd && end.status !== given.ends) faults.push(`ended as ${end.status}`)
  if (end.status === "paused") faults.push(`paused: ${end.row.pauseReason?.message}`)
  if (end.row.attempt === 1 && given.result !== undefined && !given.anyEnd) {
    expect(end.result).toEqual(given.result)
  }
  return [...faults, ...again.violations].map((one) => `commit ${k}, ${applied}: ${one}`)
}

describe("a worker that loses its runs at a commit", { timeout: 120_000 }, () => {
  it.each([...bodies, ...effectBodies])("$name", async (given) => {
    const { moments } = await record(given)
    const faults: Array<string> = []
    // the first moment is the insert
    const tasks = moments.slice(1).flatMap((_, index) =>
      [true, false].map((applied) => async () => {
        faults.push(...(await play(given, index + 1, applied)))
      }),
    )
    await inParallel(tasks, 6)
    expect(faults).toEqual([])
  })
})
