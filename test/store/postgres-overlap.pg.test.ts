/**
 * Statements that overlap, staged with a second connection that holds a lock, or a gate in which a
 * batch stops with its locks taken. Each test is an interleaving in which a store without the rule
 * would lose something.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from "vitest"
import {
  childOf,
  Fixture,
  handBack,
  id,
  leaseMs,
  newRun,
  park,
  record,
  registration,
  settle,
  workerId,
  write,
} from "./conformanceFixture.ts"
import { withHints } from "./hints.ts"
import {
  atGate,
  closeGate,
  createDatabase,
  lockRuns,
  makeRig,
  onStore,
  openGate,
  type Rig,
  unlock,
  waiting,
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

type Body = (s: Fixture) => Generator<Effect.Effect<any, any, any>, void, any>

/** Each commit on a session of its own, as of two processes: with more, a journal's go in line on one. */
const sessions = { maxConnections: 4 }

const test = (title: string, body: Body) => {
  it(`${title}`, () => onStore(rig, body, sessions))
  it(`${title} (with hints)`, () =>
    onStore(rig, (s) => body(new Fixture(withHints(s.store))), sessions))
}

const promise = (run: () => Promise<unknown>) => Effect.promise(run)

const tags = (answers: ReadonlyArray<{ readonly _tag: string }>) => answers.map((a) => a._tag)

describe("a batch and the sweep", () => {
  test("a batch that is committing keeps its run: the sweep passes it by", function* (s) {
    const claim = yield* s.hold(yield* s.worker(1), 1)
    yield* promise(() => closeGate(rig))
    const commit = yield* Effect.forkChild(
      s.commit(write(claim, { records: [record("pause", 1)] })),
    )
    yield* promise(() => atGate(rig))
    rig.clock.now += leaseMs
    assert.strictEqual(yield* s.store.sweep({ limit: 10 }), 0)
    yield* promise(() => openGate(rig))
    assert.strictEqual((yield* Fiber.join(commit))._tag, "committed")
    assert.deepStrictEqual((yield* s.row(1)).token, claim.token)
    assert.strictEqual(yield* s.store.sweep({ limit: 10 }), 1)
    // the record was progress: no crash
    assert.strictEqual((yield* s.row(1)).crashCount, 0)
  })

  test("a batch that is settling keeps its run: the sweep must not bring it back", function* (s) {
    const claim = yield* s.hold(yield* s.worker(1), 1)
    yield* promise(() => closeGate(rig))
    const done = { records: [record("pause", 1)], transition: settle("completed") }
    const commit = yield* Effect.forkChild(s.commit(write(claim, done)))
    yield* promise(() => atGate(rig))
    rig.clock.now += leaseMs
    assert.strictEqual(yield* s.store.sweep({ limit: 10 }), 0)
    yield* promise(() => openGate(rig))
    assert.strictEqual((yield* Fiber.join(commit))._tag, "committed")
    assert.strictEqual((yield* s.row(1)).status, "completed")
  })

  test("a batch that comes after the sweep is lost, and writes nothing", function* (s) {
    const claim = yield* s.hold(yield* s.worker(1), 1)
    rig.clock.now += leaseMs
    assert.strictEqual(yield* s.store.sweep({ limit: 10 }), 1)
    const before = yield* s.observe(1)
    const late = write(claim, {
      timers: [{ stepKey: "t", delayMs: 1 }],
      records: [record("a", 1)],
      children: [newRun(9, childOf(1))],
      emitted: [{ stepKey: "a", name: "e", payload: { codec: "json", json: "1" } }],
      transition: settle("completed"),
    })
    assert.strictEqual((yield* s.commit(late))._tag, "lost")
    assert.deepStrictEqual(yield* s.observe(1), before)
  })

  test("a release while a batch commits releases nothing", function* (s) {
    const claim = yield* s.hold(yield* s.worker(1), 1)
    yield* promise(() => closeGate(rig))
    const commit = yield* Effect.forkChild(
      s.commit(write(claim, { records: [record("pause", 1)] })),
    )
    yield* promise(() => atGate(rig))
    assert.strictEqual(yield* s.store.releaseClaims([claim]), 0)
    yield* promise(() => openGate(rig))
    assert.strictEqual((yield* Fiber.join(commit))._tag, "committed")
    assert.strictEqual((yield* s.row(1)).workerId, workerId(1))
  })

  test("a heartbeat in flight wins against the sweep", function* (s) {
    yield* s.hold(yield* s.worker(1), 1)
    rig.clock.now += leaseMs
    yield* promise(() => rig.query("begin"))
    yield* promise(() => rig.query("update workflow_workers set heartbeat_at = heartbeat_at"))
    assert.strictEqual(yield* s.store.sweep({ limit: 10 }), 0)
    yield* promise(() => unlock(rig))
    assert.strictEqual(yield* s.store.sweep({ limit: 10 }), 1)
  })
})

describe("a batch and locks of others", () => {
  test("the lane never waits: a locked run is busy, the others are committed", function* (s) {
    const a = yield* s.worker(1)
    const claims = [yield* s.hold(a, 1), yield* s.hold(a, 2), yield* s.hold(a, 3)]
    const writes = claims.map((claim) =>
      write(claim, { records: [record("x", 1)], transition: park(0, { delayMs: 5000 }) }),
    )
    yield* promise(() => lockRuns(rig, id(2)))
    const began = performance.now()
    const answers = yield* s.store.commit(writes)
    assert.isBelow(performance.now() - began, 3000)
    assert.deepStrictEqual(tags(answers), ["committed", "busy", "committed"])
    assert.deepStrictEqual(yield* s.store.getSteps(id(2)), [])
    yield* promise(() => unlock(rig))
    assert.deepStrictEqual(tags(yield* s.store.commit([writes[1]!])), ["committed"])
    assert.strictEqual((yield* s.row(2)).status, "waiting")
  })

  test("busy is not lost: it becomes lost only when the claim is gone", function* (s) {
    const claim = yield* s.hold(yield* s.worker(1), 1)
    const one = write(claim, { records: [record("x", 1)] })
    yield* promise(() => lockRuns(rig, id(1)))
    assert.strictEqual((yield* s.commit(one))._tag, "busy")
    yield* promise(() =>
      rig.query("update workflow_runs set worker_id = null, claim_token = claim_token + 1"),
    )
    // not committed yet: as far as anybody can know, the claim stands
    assert.strictEqual((yield* s.commit(one))._tag, "busy")
    yield* promise(() => rig.query("commit"))
    assert.strictEqual((yield* s.commit(one))._tag, "lost")
    assert.deepStrictEqual(yield* s.store.getSteps(id(1)), [])
  })

  test("a child whose parent is locked does not settle half", function* (s) {
    const a = yield* s.worker(1)
    yield* s.hold(a, 1)
    const child = yield* s.hold(a, 2, childOf(1))
    const end = write(child, { records: [record("x", 1)], transition: settle("completed") })
    yield* promise(() => lockRuns(rig, id(1)))
    assert.strictEqual((yield* s.commit(end))._tag, "busy")
    assert.deepStrictEqual(yield* s.store.getSteps(id(2)), [])
    // without the settlement the parent has no say
    const step = write(child, { records: [record("y", 1)] })
    assert.strictEqual((yield* s.commit(step))._tag, "committed")
    yield* promise(() => unlock(rig))
    assert.strictEqual((yield* s.commit(end))._tag, "committed")
    assert.strictEqual((yield* s.row(1)).wakeCounter, 1)
  })

  test("one batch stops in the middle: another batch of the same lane's runs does not", function* (s) {
    const a = yield* s.worker(1)
    const [first, second] = [yield* s.hold(a, 1), yield* s.hold(a, 2)]
    yield* promise(() => closeGate(rig))
    const stuck = yield* Effect.forkChild(s.commit(write(first, { records: [record("pause", 1)] })))
    yield* promise(() => atGate(rig))
    const answers = yield* s.store.commit([
      write(first, { records: [record("b", 2)] }),
      write(second, { records: [record("b", 2)] }),
    ])
    assert.deepStrictEqual(tags(answers), ["busy", "committed"])
    yield* promise(() => openGate(rig))
    assert.strictEqual((yield* Fiber.join(stuck))._tag, "committed")
  })

  test("the same rows sent twice at once are written once", function* (s) {
    const claim = yield* s.hold(yield* s.worker(1), 1)
    const rows = write(claim, {
      records: [record("pause", 1, { kind: "emit" })],
      children: [newRun(7, childOf(1))],
      timers: [{ stepKey: "t", delayMs: 10 }],
      emitted: [{ stepKey: "pause", name: "e", payload: { codec: "json", json: "1" } }],
      transition: park(0),
    })
    yield* promise(() => closeGate(rig))
    const first = yield* Effect.forkChild(s.commit(rows))
    yield* promise(() => atGate(rig))
    assert.strictEqual((yield* s.commit(rows))._tag, "busy")
    yield* promise(() => openGate(rig))
    const original = yield* Fiber.join(first)
    const before = yield* s.observe(1)
    rig.clock.now += 500
    const again = yield* s.commit(rows)
    assert.deepStrictEqual(again, original)
    assert.deepStrictEqual(yield* s.observe(1), before)
    assert.strictEqual((yield* s.store.getEvents(id(1))).length, 1)
  })
})

describe("claims", () => {
  test("skip what is locked, and take what comes behind it", function* (s) {
    const a = yield* s.worker(1)
    yield* s.insert(newRun(1), newRun(2), newRun(3))
    yield* promise(() => lockRuns(rig, id(1)))
    const claims = yield* s.claim(a, { limit: 2 })
    assert.deepStrictEqual(
      claims.map((c) => c.workflowRunId),
      [id(2), id(3)],
    )
    yield* promise(() => unlock(rig))
    yield* s.claimOnly(a, 1)
  })

  test("come back short only when nothing is left, however many of the first are locked", function* (s) {
    const a = yield* s.worker(1)
    const numbers = Array.from({ length: 40 }, (_, n) => n + 1)
    yield* s.insert(...numbers.map((n) => newRun(n)))
    // all but five of the candidates that a claim of eight reads at first
    yield* promise(() => lockRuns(rig, ...numbers.slice(0, 20).map(id)))
    assert.strictEqual((yield* s.claim(a, { limit: 8 })).length, 8)
    yield* promise(() => unlock(rig))
  })

  test("do not take what changed between the reading and the lock", function* (s) {
    const [a, b] = [yield* s.worker(1), yield* s.worker(2)]
    yield* s.insert(newRun(1), newRun(2))
    // The claim of a stops before it locks run 2, which it has read as ready.
    yield* promise(() => stopClaimsOf(rig, id(1)))
    const slow = yield* Effect.forkChild(s.claim(a))
    yield* promise(() => atGate(rig))
    yield* s.claimOnly(b, 2)
    yield* promise(() => openGate(rig))
    assert.deepStrictEqual(
      (yield* Fiber.join(slow)).map((c) => c.workflowRunId),
      [id(1)],
    )
    assert.strictEqual((yield* s.row(2)).workerId, b)
  })

  test("with a snapshot older than a hand-back find its last record in the history", function* (s) {
    const [a, b] = [yield* s.worker(1), yield* s.worker(2)]
    yield* s.insert(newRun(1), newRun(2))
    yield* promise(() => stopClaimsOf(rig, id(1)))
    const slow = yield* Effect.forkChild(s.claim(a))
    yield* promise(() => atGate(rig))
    const between = yield* s.claimOnly(b, 2)
    yield* s.committed(between, { records: [record("last", 1)], transition: handBack })
    yield* promise(() => openGate(rig))
    const claims = yield* Fiber.join(slow)
    const second = claims.find((c) => c.workflowRunId === id(2))!
    assert.strictEqual(second.token, between.token + 1)
    assert.isTrue(second.hasHistory)
    const { records } = yield* s.history(2)
    assert.deepStrictEqual(
      records.map((r) => r.stepKey),
      ["last"],
    )
  })

  test("an event between the claim and the park makes the run due now", function* (s) {
    const a = yield* s.worker(1)
    const claim = yield* s.hold(a, 1)
    const { wakeCounter } = yield* s.history(1)
    yield* s.sendEvent(1)
    yield* s.committed(claim, { transition: park(wakeCounter) })
    yield* s.claimOnly(a, 1)
  })
})

describe("waiting verbs", () => {
  test("a cancel that waited for a park acts on the parked run", function* (s) {
    const a = yield* s.worker(1)
    yield* s.hold(a, 1)
    yield* promise(() => lockRuns(rig, id(1)))
    const cancel = yield* Effect.forkChild(s.cancel(1))
    yield* promise(() => waiting(rig))
    yield* promise(() => rig.query("update workflow_runs set worker_id = null, status = 'waiting'"))
    yield* promise(() => rig.query("commit"))
    assert.strictEqual(yield* Fiber.join(cancel), "requested")
    assert.isNotNull((yield* s.claimOnly(a, 1)).cancelRequest)
  })

  test("a cancel that waited for a settlement is refused", function* (s) {
    const claim = yield* s.hold(yield* s.worker(1), 1)
    yield* promise(() => closeGate(rig))
    const done = { records: [record("pause", 1)], transition: settle("completed") }
    const commit = yield* Effect.forkChild(s.commit(write(claim, done)))
    yield* promise(() => atGate(rig))
    const cancel = yield* Effect.forkChild(s.cancel(1))
    yield* promise(() => waiting(rig, 2))
    yield* promise(() => openGate(rig))
    assert.strictEqual((yield* Fiber.join(commit))._tag, "committed")
    assert.strictEqual(yield* Fiber.join(cancel), "terminal")
    assert.isNull((yield* s.row(1)).cancelRequest)
  })

  test("an insert that waited for the same key gives the winner's run", function* (s) {
    yield* s.insert()
    yield* promise(() => rig.query("begin"))
    yield* promise(() =>
      rig.query(
        `insert into workflow_runs (workflow_run_id, workflow, status, ready, due_at, input_codec,
          input, created_at, idempotency_key)
        values ($1, 'w', 'pending', true, now(), 'json', '1', now(), 'k')`,
        [id(1)],
      ),
    )
    const insert = yield* Effect.forkChild(s.insert(newRun(2, { idempotencyKey: "k" })))
    yield* promise(() => waiting(rig))
    yield* promise(() => rig.query("commit"))
    const [answer] = yield* Fiber.join(insert)
    assert.strictEqual(answer!._tag, "Existing")
  })

  test("an insert that waited for a key that was rolled back inserts", function* (s) {
    yield* s.insert()
    yield* promise(() => rig.query("begin"))
    yield* promise(() =>
      rig.query(
        `insert into workflow_runs (workflow_run_id, workflow, status, ready, due_at, input_codec,
          input, created_at, idempotency_key)
        values ($1, 'w', 'pending', true, now(), 'json', '1', now(), 'k')`,
        [id(1)],
      ),
    )
    const insert = yield* Effect.forkChild(s.insert(newRun(2, { idempotencyKey: "k" })))
    yield* promise(() => waiting(rig))
    yield* promise(() => unlock(rig))
    const [answer] = yield* Fiber.join(insert)
    assert.strictEqual(answer!._tag, "Inserted")
  })

  test("a heartbeat that waited is granted nothing once its lease has lapsed", function* (s) {
    yield* s.worker(1)
    yield* promise(() => rig.query("begin"))
    yield* promise(() => rig.query("select 1 from workflow_workers for update"))
    rig.clock.now += leaseMs - 1
    const beat = yield* Effect.forkChild(s.store.renewLease(registration(1)))
    yield* promise(() => waiting(rig))
    yield* promise(() =>
      rig.query(
        "update workflow_workers set lease_expires_at = lease_expires_at - interval '1 second'",
      ),
    )
    yield* promise(() => rig.query("commit"))
    assert.isFalse((yield* Fiber.join(beat)).renewed)
  })

  test("an orphan that is locked elsewhere is not waited for, but found again", function* (s) {
    const parent = yield* s.hold(yield* s.worker(1), 1)
    const child = newRun(2, childOf(1))
    yield* s.committed(parent, { children: [child], transition: settle("completed") })
    yield* promise(() => lockRuns(rig, id(2)))
    yield* s.store.cancelOrphans({ limit: 10 })
    assert.strictEqual((yield* s.row(2)).status, "pending")
    yield* promise(() => unlock(rig))
    assert.strictEqual(yield* s.store.cancelOrphans({ limit: 10 }), 1)
    assert.strictEqual((yield* s.row(2)).status, "cancelled")
  })

  test("a long user transaction on one run does not stop the events of another", function* (s) {
    yield* s.insert(newRun(1), newRun(2))
    yield* promise(() => lockRuns(rig, id(1)))
    assert.strictEqual(yield* s.sendEvent(2), "sent")
    const slow = yield* Effect.forkChild(s.sendEvent(1))
    yield* promise(() => waiting(rig))
    yield* promise(() => unlock(rig))
    assert.strictEqual(yield* Fiber.join(slow), "sent")
  })
})

describe("the tail of events", () => {
  test("skips nothing of a transaction that is open for longer", function* (s) {
    const claim = yield* s.hold(yield* s.worker(1), 1)
    let { cursor } = yield* s.store.tailEvents({ cursor: null, limit: 1 })
    yield* promise(() => rig.query("begin"))
    yield* promise(() => rig.query("select pg_current_xact_id()"))
    const late = { stepKey: "e", name: "late", payload: { codec: "json" as const, json: "1" } }
    yield* s.committed(claim, { records: [record("e", 1, { kind: "emit" })], emitted: [late] })
    const { events } = yield* s.store.tailEvents({ cursor, limit: 1 })
    assert.deepStrictEqual(events, [])
    yield* promise(() =>
      rig.query(
        `insert into workflow_events (workflow_run_id, direction, name, payload_codec, payload,
          created_at) values ($1, 'emitted', 'early', 'json', '1', now())`,
        [id(1)],
      ),
    )
    yield* promise(() => rig.query("commit"))
    const heard: Array<string> = []
    // whatever else the server does may delay them
    for (let i = 0; heard.length < 2 && i < 1000; i++) {
      const page = yield* s.store.tailEvents({ cursor, limit: 1 })
      heard.push(...page.events.map((event) => event.name))
      cursor = page.cursor
    }
    assert.deepStrictEqual(heard, ["early", "late"])
  })
})

/** From now on a claim stops when it has locked and is about to change this run. */
const stopClaimsOf = async (r: Rig, run: string): Promise<void> => {
  await closeGate(r)
  await r.query(`create trigger stop before update on workflow_runs
    for each row when (new.workflow_run_id = '${run}') execute function stop_here()`)
}
