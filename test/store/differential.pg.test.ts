/**
 * The memory store and Postgres agree (I17): random sequences of all verbs of the contract, on both,
 * under one clock; the same answers, errors too, and the same to be seen after each.
 *
 * `FLOWLY_SEQUENCES=3000` plays more of them, `FLOWLY_SEED=…` others. A difference is made small:
 * what is printed is the shortest sequence found that still shows one. `FLOWLY_SEEN=1` prints how often
 * each verb gave which answer.
 */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import * as MemoryStore from "../../src/MemoryStore.ts"
import { createDatabase, type TestDatabase } from "../support/database.ts"
import { sequenceOf, shrink } from "./differential/sequences.ts"
import { openStage, type Stage, type Throw } from "./differential/stage.ts"
import { generators } from "./differential/verbs.ts"

const count = Number(process.env["FLOWLY_SEQUENCES"] ?? 200)
const seed = Number(process.env["FLOWLY_SEED"] ?? 1)
const shrinkMs = Number(process.env["FLOWLY_SHRINK_MS"] ?? 30_000)

let database: TestDatabase
let stage: Stage

beforeAll(async () => {
  database = await createDatabase()
  stage = await openStage(database.url)
})

afterAll(async () => {
  await stage?.close()
  await database.drop()
})

const fails = (sequence: ReadonlyArray<Throw>): Promise<Error | null> =>
  stage.play(sequence).then(
    () => null,
    (error: unknown) => (error instanceof Error ? error : new Error(String(error))),
  )

describe("the memory store and Postgres", () => {
  it("have a generator for each verb", () => {
    const verbs = Object.keys(MemoryStore.makeUnsafe().store).filter((verb) => verb !== "name")
    assert.deepStrictEqual(Object.keys(generators).toSorted(), verbs.toSorted())
  })

  it(`agree on ${count} sequences`, { timeout: 120_000 + 600 * count }, async () => {
    const began = performance.now()
    for (let n = 1; n <= count; n++) {
      const sequence = sequenceOf(seed, n)
      const failure = await fails(sequence)
      if (failure === null) continue
      const least = (await shrink(sequence, fails, shrinkMs)) ?? failure
      assert.fail(`FLOWLY_SEED=${seed}, sequence ${n}: ${least.message}`)
    }
    const seconds = ((performance.now() - began) / 1000).toFixed(1)
    const operations = [...stage.seen.values()].reduce((sum, times) => sum + times, 0)
    console.log(`${count} sequences, ${operations} operations in ${seconds} s`)
    if (process.env["FLOWLY_SEEN"] === undefined) return
    console.log(
      [...stage.seen]
        .map((one) => one.join(" × "))
        .toSorted()
        .join("\n"),
    )
  })
})
