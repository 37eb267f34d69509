/**
 * Two workers, two runs, all interleavings: claim, read, write, park, settle against sweeps, clock,
 * events, cancels, retries and late copies of writes.
 */
import { assert, describe, it } from "vitest"
import * as MemoryStore from "../../src/MemoryStore.ts"
import {
  childOf,
  failed,
  id,
  leaseMs,
  newRun,
  park,
  record,
  settle,
  start,
} from "./conformanceFixture.ts"
import { explore, send, type Step, step, World } from "./smallWorld.ts"

const two = [newRun(1), newRun(2)]
const parentAndChild = [newRun(1), newRun(2, { ...childOf(1), workflow: "x" })]

/** Workers 1 (lease of one length) and 2 (of a hundred), and the runs. */
const worldOf = (runs = two) => {
  const world = new World(MemoryStore.makeUnsafe(), start)
  world.register(1)
  world.register(2, 100 * leaseMs)
  world.run((store) => store.insertRuns({ runs, claimFor: null }))
  world.check()
  return world
}

const worker = (n: number) => {
  const actor = `worker ${n}`
  const named = (what: string, act: Step["act"]) => step(`${actor} ${what}`, act)
  return {
    claims: named("claims", (world) => world.claim(actor, n)),
    claimsChild: named("claims the child", (world) => world.claim(actor, n, ["x"])),
    reads: named("reads", (world) => world.read(actor)),
    records: named("records", (world) =>
      world.write(actor, ({ claim }) => ({
        records: [record(`by ${claim!.token}`, claim!.token)],
      })),
    ),
    parks: named("parks", (world) =>
      world.write(actor, ({ wakeCounter }) => ({ transition: park(wakeCounter) })),
    ),
    recordsAndParks: named("records and parks", (world) =>
      world.write(actor, ({ claim, wakeCounter }) => ({
        records: [record(`by ${claim!.token}`, claim!.token)],
        transition: park(wakeCounter),
      })),
    ),
    settles: named("settles", (world) =>
      world.write(actor, () => ({ transition: settle("completed") })),
    ),
    fails: named("fails", (world) =>
      world.write(actor, ({ claim }) => ({
        records: [failed(`by ${claim!.token}`, claim!.token)],
        transition: settle("failed", { failedPosition: claim!.token }),
      })),
    ),
    resends: named("'s last write arrives again", (world) => world.resend(actor)),
    releases: named("releases", (world) => world.release(actor)),
    renews: named("renews", (world) => world.renew(n)),
  }
}

const lapse = step("worker 1 lapses", (world) => {
  world.now += leaseMs
})
const second = step("a second passes", (world) => {
  world.now += 1000
})
const sweep = step("sweep", (world) => {
  world.run((store) => store.sweep({ limit: 10 }))
})
const request = { workflowRunId: id(1), compensate: null, reason: null }
const cancel = step("cancel of 1", (world) => {
  if (world.run((store) => store.requestCancel(request)) === "requested") world.woken(id(1))
})
const retry = step("retry of 1", (world) => {
  world.mayRevive = true
  world.run((store) => store.retryRun(id(1)))
})

const [a, b] = [worker(1), worker(2)]

describe("two workers, two runs, all interleavings", () => {
  it("3,150 of claims and parks with events", () => {
    const scripts = [
      [a.claims, a.reads, a.parks, a.claims],
      [b.claims, b.reads, b.parks, b.claims],
      [send(1), send(2)],
    ]
    assert.strictEqual(explore(worldOf(), scripts), 3150)
  })

  it("34,650 of a lapsing worker that records and parks, and one that takes over", () => {
    const scripts = [
      [a.claims, a.reads, a.records, a.parks],
      [b.claims, b.settles, b.claims, b.settles],
      [lapse, sweep],
      [send(1)],
    ]
    assert.strictEqual(explore(worldOf(), scripts), 34_650)
  })

  it("1,680 of heartbeats, lapses and reconciles", () => {
    const scripts = [
      [a.claims, a.renews, a.releases],
      [b.claims, b.releases, b.claims],
      [lapse, sweep, second],
    ]
    assert.strictEqual(explore(worldOf([newRun(1)]), scripts), 1680)
  })

  it("5,040 of crashes, backoffs and reconciles", () => {
    const scripts = [
      [a.claims, a.releases, a.settles],
      [b.claims, b.parks],
      [lapse, sweep, second],
      [send(1)],
    ]
    assert.strictEqual(explore(worldOf(), scripts), 5040)
  })

  it("3,780 of a parent that parks, its child's end, and a cancel", () => {
    const scripts = [
      [a.reads, a.parks, a.claims, a.settles],
      [b.claimsChild, b.settles],
      [cancel],
      [lapse, sweep],
    ]
    const world = worldOf(parentAndChild)
    world.claim("worker 1", 1)
    world.check()
    assert.strictEqual(explore(world, scripts), 3780)
  })

  it("22,680 of late copies of a write", () => {
    const scripts = [
      [a.claims, a.recordsAndParks],
      [a.resends, a.resends],
      [b.claims, b.settles],
      [lapse, sweep],
      [send(1)],
    ]
    assert.strictEqual(explore(worldOf(), scripts), 22_680)
  })

  it("7,560 of failures, retries and cancels", () => {
    const scripts = [
      [a.claims, a.fails],
      [b.claims, b.records, b.settles],
      [retry, cancel],
      [lapse, sweep],
    ]
    assert.strictEqual(explore(worldOf(), scripts), 7560)
  })
})
