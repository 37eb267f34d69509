/**
 * Cut connections (promise 2, S8): every verb that writes, cut once before the server sees it and
 * once after the server committed, before the answer. Sent again, it must converge: the same answer,
 * and everything written once.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type pg from "pg"
import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from "vitest"
import type { StoreUnavailable } from "../../src/FlowlyError.ts"
import type { StoreError } from "../../src/WorkflowStore.ts"
import {
  childOf,
  type Fixture,
  handBack,
  id,
  json,
  leaseMs,
  newRun,
  park,
  pause,
  record,
  registration,
  retrying,
  retryRun,
  schedule,
  settle,
  start,
  workerId,
  write,
} from "./conformanceFixture.ts"
import {
  createDatabase,
  makeRig,
  onStore,
  type Proxy,
  type Rig,
  startProxy,
} from "./postgresFixture.ts"
import { cutKinds, startWireProxy } from "../torture/wireProxy.ts"

let database: Awaited<ReturnType<typeof createDatabase>>
let rig: Rig
let proxy: Proxy

beforeAll(async () => {
  database = await createDatabase()
  proxy = await startProxy(database.url)
})
afterAll(async () => {
  await proxy.close()
  await database.drop()
})
beforeEach(async () => {
  rig = await makeRig(database)
})
afterEach(() => rig.other.end())

type Verb = (s: Fixture) => Effect.Effect<unknown, StoreError>

/** A verb, what comes before it, and what its second sending answers. */
interface Case {
  readonly before: (s: Fixture) => Effect.Effect<unknown, any>
  readonly verb: Verb
  /** Where the answer of a second sending tells that the first had arrived. */
  readonly answersTwice?: "differently"
  readonly wakesTwice?: boolean
}

const claim = { workflowRunId: id(1), token: 1 }

const held = (s: Fixture) => Effect.andThen(s.worker(1), s.hold(workerId(1), 1))

const commits = (parts: Parameters<typeof write>[1]): Case => ({
  before: held,
  verb: (s) => s.store.commit([write(claim, parts)]),
})

const cases: Record<string, Case> = {
  insertRuns: {
    before: () => Effect.void,
    verb: (s) => s.insert(newRun(1, { idempotencyKey: "k" }), newRun(2)),
  },
  "insertRuns, claimed": {
    before: (s) => s.worker(1),
    verb: (s) => s.insertFor(workerId(1), newRun(1, { concurrencyKey: "k" })),
  },
  "commit: records": commits({ records: [record("a", 1), retrying("b", 1)] }),
  "commit: everything, and a park": commits({
    timers: [{ stepKey: "t", delayMs: 100 }],
    records: [record("a", 1), record("e", 2, { kind: "emit" })],
    children: [newRun(5, childOf(1))],
    emitted: [{ stepKey: "e", name: "e", payload: json(1) }],
    compensations: [{ stepKey: "a", status: "completed", attempts: 1, error: null }],
    transition: park(0, { delayMs: 1000 }),
  }),
  "commit: everything, and the claim stays": commits({
    timers: [{ stepKey: "t", delayMs: 100 }],
    records: [record("a", 1), record("e", 2, { kind: "emit" })],
    children: [newRun(5, childOf(1))],
    emitted: [{ stepKey: "e", name: "e", payload: json(1) }],
    compensations: [{ stepKey: "a", status: "completed", attempts: 1, error: null }],
  }),
  "commit: a bare park": commits({ transition: park(0) }),
  "commit: a hand-back": commits({ records: [record("a", 1)], transition: handBack }),
  "commit: a settlement": commits({ records: [record("a", 1)], transition: settle("completed") }),
  "commit: a pause": commits({ transition: pause }),
  "commit: a retry of the run": commits({
    records: [record("a", 1), record("b", 2, { status: "failed", result: null })],
    transition: retryRun(2),
  }),
  "commit: a child's end": {
    before: (s) => Effect.andThen(held(s), s.hold(workerId(1), 2, childOf(1))),
    verb: (s) =>
      s.store.commit([
        write({ workflowRunId: id(2), token: 1 }, { transition: settle("completed") }),
        write(claim, { transition: park(0) }),
      ]),
  },
  claimRuns: {
    before: (s) => Effect.andThen(s.worker(1), s.insert(newRun(1))),
    verb: (s) => s.claim(workerId(1)),
    answersTwice: "differently",
  },
  releaseClaims: {
    before: held,
    verb: (s) => s.store.releaseClaims([claim]),
    answersTwice: "differently",
  },
  // Asked twice, the run is woken twice, which costs it a look.
  requestCancel: { before: held, verb: (s) => s.cancel(1), wakesTwice: true },
  "requestCancel, of a run that never started": {
    before: (s) => s.insert(newRun(1)),
    verb: (s) => s.cancel(1),
    answersTwice: "differently",
  },
  resumeRun: {
    before: (s) => Effect.andThen(held(s), s.committed(claim, { transition: pause })),
    verb: (s) => s.store.resumeRun(id(1)),
    answersTwice: "differently",
  },
  retryRun: {
    before: (s) => Effect.andThen(held(s), s.committed(claim, { transition: settle("failed") })),
    verb: (s) => s.store.retryRun(id(1)),
    answersTwice: "differently",
  },
  sendEvents: {
    before: (s) => s.insert(newRun(1)),
    verb: (s) => s.sendEvent(1, "go", "e1"),
    answersTwice: "differently",
  },
  renewLease: { before: held, verb: (s) => s.store.renewLease(registration(1)) },
  retireWorker: { before: held, verb: (s) => s.store.retireWorker(workerId(1)) },
  upsertSchedule: { before: () => Effect.void, verb: (s) => s.store.upsertSchedule(schedule("k")) },
  fireTick: {
    before: (s) => s.store.upsertSchedule(schedule("k")),
    verb: (s) =>
      s.store.fireTick({
        key: "k",
        expectedNextTick: start,
        tick: start,
        nextTick: start + 1000,
        run: newRun(1),
      }),
    answersTwice: "differently",
  },
}

/** Every row that the store has, with what may rightly differ between sendings left out. */
const everything = async (r: Rig) => {
  const tables = [
    "workflow_runs",
    "workflow_steps",
    "sleep_timers",
    "workflow_events",
    "cron_schedules",
    "schedule_ticks",
    "workflow_workers",
  ]
  const all: Record<string, unknown> = {}
  for (const table of tables) {
    const rows = await r.query(`select * from ${table}`)
    // drawn anew by each sending, also by one that is not carried out
    const lines = rows.map((row) => JSON.stringify({ ...row, xid: 0, event_id: 0 }))
    all[table] = lines.toSorted()
  }
  return all
}

const run = (scenario: Case, cut: "answer" | "request" | "none") => {
  const { before, verb } = scenario
  return onStore(
    rig,
    function* (s) {
      yield* before(s)
      // the connection that is cut is open already: it is the verb's own request that is lost
      yield* s.store.now
      const cuts = proxy.cuts()
      if (cut === "answer") proxy.loseNextAnswer()
      if (cut === "request") proxy.loseNextRequest()
      const first = yield* Effect.result(verb(s))
      if (cut === "none") {
        assert.strictEqual(first._tag, "Success")
        return [
          first._tag === "Success" && first.success,
          yield* Effect.promise(() => everything(rig)),
        ]
      }
      assert.strictEqual(proxy.cuts(), cuts + 1)
      assert.strictEqual(first._tag, "Failure")
      const failure = (first as Extract<typeof first, { _tag: "Failure" }>).failure
      assert.strictEqual(failure._tag, "StoreUnavailable")
      assert.strictEqual(failure._tag === "StoreUnavailable" && failure.outcome, "unknown")
      // what was forwarded is carried out, perhaps a little later
      yield* Effect.sleep(100)
      const second = yield* verb(s)
      return [second, yield* Effect.promise(() => everything(rig))]
    },
    { url: proxy.url, maxConnections: 2 },
  ) as Promise<[answer: unknown, rows: Record<string, unknown>]>
}

describe("a verb whose connection is cut, and that is sent again", () => {
  for (const [name, scenario] of Object.entries(cases)) {
    it(`${name}: after the commit`, async () => {
      const [expected, rows] = await run(scenario, "none")
      await rig.other.end()
      rig = await makeRig(database)
      const [answer, rowsAfter] = await run(scenario, "answer")
      if (scenario.wakesTwice !== true) assert.deepStrictEqual(rowsAfter, rows)
      if (scenario.answersTwice === undefined) assert.deepStrictEqual(answer, expected)
    })

    it(`${name}: before it arrived`, async () => {
      const [expected, rows] = await run(scenario, "none")
      await rig.other.end()
      rig = await makeRig(database)
      const [answer, rowsAfter] = await run(scenario, "request")
      assert.deepStrictEqual(rowsAfter, rows)
      assert.deepStrictEqual(answer, expected)
    })
  }
})

describe("a claim whose answer is lost", () => {
  it("is listed by the next heartbeat, and can be handed back", () =>
    onStore(
      rig,
      function* (s) {
        yield* s.worker(1)
        yield* s.insert(newRun(1))
        yield* s.store.now
        proxy.loseNextAnswer()
        yield* Effect.flip(s.claim(workerId(1)))
        yield* Effect.sleep(100)
        const { renewed, claims } = yield* s.store.renewLease(registration(1))
        assert.isTrue(renewed)
        assert.deepStrictEqual(claims, [{ workflowRunId: id(1), token: 1 }])
        assert.strictEqual(yield* s.store.releaseClaims(claims), 1)
        assert.strictEqual((yield* s.claimOnly(workerId(1), 1)).token, 3)
      },
      { url: proxy.url, maxConnections: 2 },
    ))

  it("is swept when its worker never comes back", () =>
    onStore(
      rig,
      function* (s) {
        yield* s.worker(1)
        yield* s.insert(newRun(1))
        yield* s.store.now
        proxy.loseNextAnswer()
        yield* Effect.flip(s.claim(workerId(1)))
        yield* Effect.sleep(100)
        rig.clock.now += leaseMs
        assert.strictEqual(yield* s.store.sweep({ limit: 10 }), 1)
      },
      { url: proxy.url, maxConnections: 2 },
    ))
})

describe("a transaction whose connection is cut", () => {
  // savepoint, the record, COMMIT: behind the code's own statement
  for (const [name, statement, outcome] of [
    ["before its record", /^savepoint/, "not-applied"],
    ["at its record", /workflow_steps/, "not-applied"],
    ["at its commit", /^commit/i, "unknown"],
  ] as const) {
    it.for(cutKinds)(`${name} (%s) fails, and says what is known`, async (kind) => {
      const wire = await startWireProxy(database.url)
      await rig.query("create table done (n int)")
      const body = function* (s: Fixture) {
        yield* held(s)
        const order = wire.cut(kind, ({ statements }) =>
          statements.some((text) => statement.test(text.trim())),
        )
        const exit = yield* Effect.exit(
          s.store.transact({
            claim,
            isolation: null,
            use: ({ client }) =>
              Effect.as(
                Effect.promise(() =>
                  (client as pg.PoolClient).query(`insert into ${rig.schema}.done values (1)`),
                ),
                record("tx", 1),
              ),
          }),
        )
        assert.isTrue(order.isTaken())
        const error = Option.getOrUndefined(Exit.findErrorOption(exit)) as StoreUnavailable
        assert.strictEqual(error?._tag, "StoreUnavailable")
        assert.strictEqual(error.outcome, outcome)
        yield* Effect.promise(() => order.done)
        const found = yield* s.store.transactionOutcome({ claim, record: record("tx", 1) })
        const done = yield* Effect.promise(() => rig.query("select from done"))
        assert.strictEqual(done.length, found === null ? 0 : 1)
        assert.strictEqual(
          found?._tag,
          outcome === "unknown" && kind !== "before" ? "committed" : undefined,
        )
      }
      await onStore(rig, body, { url: wire.url, maxConnections: 5 }).finally(wire.close)
    })
  }
})

describe("a verb of several statements whose connection is cut between them", () => {
  it.for(cutKinds)("(%s) fails as every other does", async (kind) => {
    const wire = await startWireProxy(database.url)
    const body = function* (s: Fixture) {
      yield* held(s)
      const runs = [{ workflowRunId: id(1), error: { name: "Error", message: "m" }, reason: null }]
      let units = 0
      const order = wire.cut(kind, () => ++units === 2)
      const exit = yield* Effect.exit(s.store.terminateRuns(runs))
      assert.isTrue(order.isTaken())
      const error = Option.getOrUndefined(Exit.findErrorOption(exit)) as StoreUnavailable
      assert.strictEqual(error?._tag, "StoreUnavailable")
      assert.deepStrictEqual(yield* s.store.terminateRuns(runs), ["terminated"])
    }
    await onStore(rig, body, { url: wire.url, maxConnections: 5 }).finally(wire.close)
  })
})
