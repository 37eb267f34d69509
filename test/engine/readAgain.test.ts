/** Which reads are made again, and for how long. */
import * as Effect from "effect/Effect"
import { describe, expect, it } from "vitest"
import { readAgain } from "../../src/engine/readAgain.ts"
import { StoreRejected, StoreUnavailable } from "../../src/FlowlyError.ts"
import * as MemoryStore from "../../src/MemoryStore.ts"

const unavailable = new StoreUnavailable({
  operation: "getRuns",
  outcome: "not-applied",
  reason: "cut",
})
const rejected = new StoreRejected({ operation: "getRuns", sqlState: "22000", reason: "no" })
const { store } = MemoryStore.makeUnsafe()
const inTransaction = {
  ...store,
  callersTransaction: Effect.succeed({ afterCommit: () => Effect.void }),
}

/** Fails so often, then answers. */
const failing = (times: number, error: StoreUnavailable | StoreRejected) => {
  const read = { calls: 0 }
  const effect = Effect.suspend(() =>
    ++read.calls <= times ? Effect.fail(error) : Effect.succeed("read"),
  )
  return { read, effect }
}

describe("a read", () => {
  it("that meets a cut connection is made again", async () => {
    const { read, effect } = failing(3, unavailable)
    expect(await Effect.runPromise(readAgain(store, effect))).toBe("read")
    expect(read.calls).toBe(4)
  })

  it("that meets nothing else for some seconds tells so", async () => {
    const { read, effect } = failing(Infinity, unavailable)
    const before = performance.now()
    expect(await Effect.runPromise(Effect.flip(readAgain(store, effect)))).toBe(unavailable)
    expect(performance.now() - before).toBeGreaterThan(2000)
    expect(read.calls).toBeGreaterThan(5)
  })

  it("that the database refuses is refused at once", async () => {
    const { read, effect } = failing(Infinity, rejected)
    expect(await Effect.runPromise(Effect.flip(readAgain(store, effect)))).toBe(rejected)
    expect(read.calls).toBe(1)
  })

  it("in a caller's transaction is not made again: the transaction is gone", async () => {
    const { read, effect } = failing(Infinity, unavailable)
    const error = await Effect.runPromise(Effect.flip(readAgain(inTransaction, effect)))
    expect([error, read.calls]).toEqual([unavailable, 1])
  })
})
