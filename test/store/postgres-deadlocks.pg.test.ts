/**
 * Every verb at random, from eight workers, on five runs, for a while (`FLOWLY_DEADLOCK_SECONDS`):
 * the server counts no deadlock (I16), no verb fails, and a run has one holder at most (I3).
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { afterAll, beforeAll, it } from "vitest"
import type { Claim } from "../../src/WorkflowStore.ts"
import {
  childOf,
  type Fixture,
  handBack,
  id,
  newRun,
  park,
  pause,
  record,
  registration,
  retryRun,
  settle,
  workerId,
  write,
} from "./conformanceFixture.ts"
import { createDatabase, makeRig, onStore, type Rig } from "./postgresFixture.ts"

const seconds = Number(process.env["FLOWLY_DEADLOCK_SECONDS"] ?? 4)

let database: Awaited<ReturnType<typeof createDatabase>>
let rig: Rig

beforeAll(async () => {
  database = await createDatabase()
  rig = await makeRig(database)
})
afterAll(async () => {
  await rig.other.end()
  await database.drop()
})

const pick = <A>(from: ReadonlyArray<A>): A => from[Math.floor(Math.random() * from.length)]!

const runs = [1, 2, 3, 4, 5]

it(`no deadlock in ${seconds} s of all verbs at once`, { timeout: (seconds + 60) * 1000 }, () =>
  onStore(
    rig,
    function* (s) {
      // 1 is the parent of 2 and 3, 2 of 4: cancels and settlements reach across rows
      const parents: Record<number, number> = { 2: 1, 3: 1, 4: 2 }
      yield* s.insert(...runs.map((n) => newRun(n, n in parents ? childOf(parents[n]!) : {})))
      const until = performance.now() + seconds * 1000
      let verbs = 0
      const worker = (n: number) =>
        Effect.gen(function* () {
          yield* s.worker(n, 3_600_000)
          let held: Array<Claim> = []
          while (performance.now() < until) {
            verbs++
            held = yield* step(s, n, held)
          }
        })
      yield* Effect.all([1, 2, 3, 4, 5, 6, 7, 8].map(worker), { concurrency: "unbounded" })
      const [row] = yield* Effect.promise(() =>
        rig.query("select deadlocks::int from pg_stat_database where datname = current_database()"),
      )
      assert.strictEqual(row.deadlocks, 0)
      assert.isAbove(verbs, 100)
    },
    { maxConnections: 8 },
  ),
)

let position = 0

const transitions = [
  park(0),
  park(3, { delayMs: 5 }),
  handBack,
  settle("completed"),
  settle("failed"),
  pause,
  retryRun(null),
  null,
]

/** One verb of a worker; answers what it may hold afterwards. */
const step = (s: Fixture, n: number, held: Array<Claim>) =>
  Effect.gen(function* () {
    const some = () => runs.toSorted(() => Math.random() - 0.5).slice(0, 1 + Math.random() * 4)
    switch (Math.floor(Math.random() * 12)) {
      case 0:
      case 1:
        return [...held, ...(yield* s.claim(workerId(n), { limit: 3 }))]
      case 2:
      case 3:
      case 4:
      case 5: {
        const newest = [...new Map(held.map((claim) => [claim.workflowRunId, claim])).values()]
        const writes = newest.map((claim) =>
          write(claim, {
            records: [record(`s${++position}`, position)],
            transition: pick(transitions),
          }),
        )
        const answers = yield* s.store.commit(writes)
        return newest.filter(
          (_, i) => answers[i]!._tag !== "lost" && writes[i]!.transition === null,
        )
      }
      case 6:
        yield* s.store.sendEvents(
          some().map((run) => ({
            workflowRunId: id(run),
            name: "e",
            payload: { codec: "json", json: "1" },
            id: String(Math.floor(Math.random() * 50)),
          })),
        )
        return held
      case 7:
        yield* s.cancel(pick(runs))
        return held
      case 8:
        yield* s.store.retryRun(id(pick(runs)))
        yield* s.store.resumeRun(id(pick(runs)))
        return held
      case 9: {
        yield* s.store.releaseClaims(held)
        return []
      }
      case 10: {
        const { claims } = yield* s.store.renewLease(registration(n, 3_600_000))
        return [...claims]
      }
      default:
        yield* s.store.sweep({ limit: 3 })
        yield* s.store.deadLetterPoison({ maxCrashes: 3, limit: 3 })
        return held
    }
  })
