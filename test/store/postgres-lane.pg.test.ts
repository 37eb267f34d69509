/**
 * The journal's own connection: commits go in line on it, each by itself, and one that is given up does
 * not take the next ones with it.
 */
import { assert } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest"
import { laneTo } from "../../src/postgres/lane.ts"
import {
  type Fixture,
  newRun,
  record,
  registration,
  workerId,
  write,
} from "./conformanceFixture.ts"
import {
  atGate,
  closeGate,
  createDatabase,
  makeRig,
  onStore,
  openGate,
  type Rig,
  startProxy,
} from "./postgresFixture.ts"

let database: Awaited<ReturnType<typeof createDatabase>>
let rig: Rig

beforeAll(async () => {
  database = await createDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  rig = await makeRig(database)
})
afterEach(() => rig.other.end())

/** Two claimed runs, and a commit of a step of each. */
const twoCommits = function* (s: Fixture, first: string) {
  yield* s.store.registerWorker(registration(1))
  yield* s.insert(newRun(1), newRun(2))
  const claims = yield* s.store.claimRuns({
    workerId: workerId(1),
    workflows: [{ name: "w", version: null }],
    limit: 2,
    suspects: false,
  })
  const [one, two] = claims.map((claim, n) =>
    s.store.commit([write(claim, { records: [record(n === 0 ? first : "a", 1)] })]),
  )
  return [one!, two!] as const
}

it("a commit is executed when the one before it has ended", () =>
  onStore(rig, function* (s) {
    const [one, two] = yield* Effect.gen(() => twoCommits(s, "pause"))
    yield* Effect.promise(() => closeGate(rig))
    const first = yield* Effect.forkChild(one)
    yield* Effect.promise(() => atGate(rig, 1))
    const second = yield* Effect.forkChild(two)
    yield* Effect.sleep("200 millis")
    assert.isUndefined(second.pollUnsafe())
    yield* Effect.promise(() => openGate(rig))
    const answers = [...(yield* Fiber.join(first)), ...(yield* Fiber.join(second))]
    assert.deepStrictEqual(
      answers.map(({ _tag }) => _tag),
      ["committed", "committed"],
    )
  }))

it("what the database refuses of one commit does not touch the next", () =>
  onStore(rig, function* (s) {
    const [, two] = yield* Effect.gen(() => twoCommits(s, "a"))
    const claim = { workflowRunId: newRun(1).workflowRunId, token: 1 }
    const bad = record("a", 1, { result: { codec: "json", json: "{not json" } })
    const [refused, answers] = yield* Effect.all(
      [Effect.flip(s.store.commit([write(claim, { records: [bad] })])), two],
      { concurrency: "unbounded" },
    )
    assert.strictEqual(refused._tag, "StoreRejected")
    assert.strictEqual(answers[0]?._tag, "committed")
  }))

it("a connection on which a commit is late is cut, and the next commit opens another", async () => {
  const proxy = await startProxy(database.url)
  try {
    await onStore(
      rig,
      function* (s) {
        const [one, two] = yield* Effect.gen(() => twoCommits(s, "a"))
        yield* one
        proxy.silence()
        const late = yield* Effect.flip(two)
        assert.strictEqual(late._tag === "StoreUnavailable" && late.outcome, "unknown")
        // as the journal does before it sends again
        yield* Effect.sleep("40 millis")
        const [answer] = yield* two
        assert.strictEqual(answer?._tag, "committed")
      },
      { url: proxy.url, statementTimeoutMs: 500 },
    )
    // what was silent is not waited for either
    await expect.poll(() => proxy.open(), { timeout: 5000 }).toBe(0)
  } finally {
    await proxy.close()
  }
})

it("an address that is a list of hosts is left to the driver", () => {
  const alive = Duration.seconds(30)
  assert.isNull(laneTo("postgres://u@h/d?host=a,b", alive))
  assert.isNotNull(laneTo("postgres://u@[::1]:5433/d", alive))
})
