/**
 * A parent that waits for its child holds no slot: with one slot, three generations finish.
 */
import { describe, expect, it } from "vitest"
import { Place, quick } from "./harness.ts"

const worker = { ...quick, maxConcurrent: 1 }

describe.concurrent("maxConcurrent: 1", { timeout: 90_000 }, () => {
  it.for([1, 2])("parent, child and grandchild finish in %i process(es)", async (count) => {
    await using place = await Place.create()
    for (let i = 0; i < count; i++) await (await place.spawn({ worker })).call("start")
    const handles = await Promise.all(
      Array.from({ length: 4 }, () =>
        place.engine.trigger(place.workflows.parent, { input: { deeper: true } }),
      ),
    )
    for (const handle of handles) {
      expect((await handle.result()).length).toBe(4)
      expect(await place.did(handle.workflowRunId)).toEqual(["before", "after"])
    }
  })
})
