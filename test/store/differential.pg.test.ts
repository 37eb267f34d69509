/**
 * The memory store and Postgres agree (I17): random sequences of all verbs of the contract, on both,
 * under one clock; the same answers, errors too, and the same to be seen after each.
 *
 * `FLOWLY_SEQUENCES=3000` plays more of them (`FLOWLY_FROM=1001` and `FLOWLY_SECONDS=250`: in pieces), `FLOWLY_SEED=…` others. A difference is made small:
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
/** The first of them: pieces of a long run are played one after the other. */
const from = Number(process.env["FLOWLY_FROM"] ?? 1)
const shrinkMs = Number(process.env["FLOWLY_SHRINK_MS"] ?? 30_000)

/** After this time no further one is begun. */
const budgetMs = 1000 * Number(process.env["FLOWLY_SECONDS"] ?? Infinity)

/** Sequences wait for round trips: several are played at once, each on a stage of its own. */
const stageCount = Number(process.env["FLOWLY_STAGES"] ?? 3)

let database: TestDatabase
let stages: ReadonlyArray<Stage> = []

beforeAll(async () => {
  database = await createDatabase()
  const names = Array.from({ length: stageCount }, (_, i) => `differential_${i + 1}`)
  stages = await Promise.all(names.map((name) => openStage(database.url, name)))
})

afterAll(async () => {
  await Promise.all(stages.map((stage) => stage.close()))
  await database.drop()
})

const failsOn =
  (stage: Stage) =>
  (sequence: ReadonlyArray<Throw>): Promise<Error | null> =>
    stage.play(sequence).then(
      () => null,
      (error: unknown) => (error instanceof Error ? error : new Error(String(error))),
    )

describe("the memory store and Postgres", () => {
  it("have a generator for each verb", () => {
    const verbs = Object.keys(MemoryStore.makeUnsafe().store).filter(
      (verb) => !["name", "sparesConnection", "overlap"].includes(verb),
    )
    assert.deepStrictEqual(Object.keys(generators).toSorted(), verbs.toSorted())
  })

  it(`agree on ${count} sequences`, { timeout: 120_000 + 600 * count }, async () => {
    const began = performance.now()
    let next = from
    let found: { readonly n: number; readonly stage: Stage; readonly failure: Error } | null = null
    const playOn = async (stage: Stage): Promise<void> => {
      while (next < from + count && found === null && performance.now() - began < budgetMs) {
        const n = next++
        const failure = await failsOn(stage)(sequenceOf(seed, n))
        if (failure !== null) found ??= { n, stage, failure }
      }
    }
    await Promise.all(stages.map(playOn))
    const broken = found as {
      readonly n: number
      readonly stage: Stage
      readonly failure: Error
    } | null
    if (broken !== null) {
      const least = await shrink(sequenceOf(seed, broken.n), failsOn(broken.stage), shrinkMs)
      assert.fail(`FLOWLY_SEED=${seed}, sequence ${broken.n}: ${(least ?? broken.failure).message}`)
    }
    const seen = new Map<string, number>()
    for (const stage of stages) {
      for (const [kind, times] of stage.seen) seen.set(kind, (seen.get(kind) ?? 0) + times)
    }
    const seconds = ((performance.now() - began) / 1000).toFixed(1)
    const operations = [...seen.values()].reduce((sum, times) => sum + times, 0)
    console.log(`sequences ${from} to ${next - 1}, ${operations} operations in ${seconds} s`)
    if (process.env["FLOWLY_SEEN"] === undefined) return
    console.log(
      [...seen]
        .map((one) => one.join(" × "))
        .toSorted()
        .join("\n"),
    )
  })
})
