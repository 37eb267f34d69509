/**
 * All interleavings of short scripts on one memory store: the explorer and what must hold at every
 * step. A world is a store, a clock, what each actor remembers, and ghosts: what really happened,
 * which the store is not asked for.
 *
 * Checked after each step: I3 (one holder, a live lease at the claim, tokens only grow), I8 (legal
 * transitions, terminal is final), a lost or late write changes nothing, no wake-up is lost, and
 * every run that is not over can be reached (I13). At each end: all that is left can be ended.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as MemoryStore from "../../src/MemoryStore.ts"
import { canTransition, isTerminal } from "../../src/Run.ts"
import type {
  Claim,
  RunRow,
  RunWrite,
  WorkflowStore,
  WriteAnswer,
} from "../../src/WorkflowStore.ts"
import { id, leaseMs, registration, settle, workerId, write } from "./conformanceFixture.ts"

/** What a worker remembers. */
export interface Memory {
  readonly claim: Claim | null
  readonly wakeCounter: number
  /** Ghost: how many wakes of its run had happened when it last read. */
  readonly seen: number
  readonly sent: RunWrite | null
}

const blank: Memory = { claim: null, wakeCounter: 0, seen: 0, sent: null }

export class Violation extends Error {}

const demand = (holds: boolean, what: string): void => {
  if (!holds) throw new Violation(what)
}

export class World {
  readonly handle: MemoryStore.Handle
  /** The world before the current step. */
  readonly previous: World | undefined
  now: number
  rows: ReadonlyMap<string, RunRow>
  readonly memories: Map<string, Memory>
  /** Ghost: wakes of each run. */
  readonly wakes: Map<string, number>
  /** Ghost: the wakes that the parked run had seen. */
  readonly parkedWith: Map<string, number>
  /** Ghost: until when each worker's lease holds. */
  readonly leases: Map<number, number>
  /** The verb of the current step may revive a terminal run. */
  mayRevive = false

  constructor(handle: MemoryStore.Handle, now: number, from?: World) {
    this.handle = handle
    this.previous = from
    this.now = now
    this.memories = new Map(from?.memories)
    this.wakes = new Map(from?.wakes)
    this.parkedWith = new Map(from?.parkedWith)
    this.leases = new Map(from?.leases)
    this.rows = from?.rows ?? new Map()
  }

  copy(): World {
    return new World(this.handle.copy(), this.now, this)
  }

  run<A>(verb: (store: WorkflowStore["Service"]) => Effect.Effect<A, unknown>): A {
    const clock = fixedClock(this.now)
    return Effect.runSync(Effect.provideService(verb(this.handle.store), Clock.Clock, clock))
  }

  memory(actor: string): Memory {
    return this.memories.get(actor) ?? blank
  }

  remember(actor: string, memory: Partial<Memory>): void {
    this.memories.set(actor, { ...this.memory(actor), ...memory })
  }

  woken(workflowRunId: string): void {
    this.wakes.set(workflowRunId, (this.wakes.get(workflowRunId) ?? 0) + 1)
  }

  /** Everything that is stored about the runs. */
  picture(): string {
    const ids = [...this.rows.keys()]
    return JSON.stringify([this.handle.inspect(), this.run((store) => store.loadHistory(ids))])
  }

  register(n: number, lease = leaseMs): void {
    this.run((store) => store.registerWorker(registration(n, lease)))
    this.leases.set(n, this.now + lease)
  }

  isLive(n: number): boolean {
    return this.leases.get(n)! > this.now
  }

  /** A heartbeat of worker `n`. */
  renew(n: number): void {
    const wasLive = this.isLive(n)
    const { renewed } = this.run((store) => store.renewLease(registration(n)))
    demand(renewed === wasLive, wasLive ? "a live lease was refused" : "a dead lease was renewed")
    if (renewed) this.leases.set(n, this.now + leaseMs)
  }

  /** Hands back the claim that the actor believes to hold. */
  release(actor: string): void {
    const { claim } = this.memory(actor)
    if (claim === null) return
    const { workerId: holder, token } = this.rows.get(claim.workflowRunId)!
    const isOurs = holder !== null && token === claim.token
    const released = this.run((store) => store.releaseClaims([claim]))
    demand(released === (isOurs ? 1 : 0), "a claim was released that was not ours")
  }

  /** Claims one run, as worker `n`. */
  claim(actor: string, n: number, names = ["w"]): void {
    const workflows = names.map((name) => ({ name, version: null }))
    const options = { workerId: workerId(n), workflows, limit: 1, suspects: false }
    const [claim] = this.run((store) => store.claimRuns(options))
    if (claim === undefined) return
    const before = this.rows.get(claim.workflowRunId)!
    demand(this.isLive(n), "a worker without a lease claimed")
    demand(before.workerId === null, `${claim.workflowRunId} was held, and is claimed`)
    demand(claim.token > before.token, "a token was minted twice")
    const seen = this.wakes.get(claim.workflowRunId) ?? 0
    this.remember(actor, { claim, wakeCounter: claim.wakeCounter, seen, sent: null })
  }

  /** Reads what the actor's run may wait for. */
  read(actor: string): void {
    const { claim } = this.memory(actor)
    if (claim === null) return
    const [sources] = this.run((store) => store.loadSources([claim.workflowRunId]))
    const seen = this.wakes.get(claim.workflowRunId) ?? 0
    this.remember(actor, { wakeCounter: sources!.wakeCounter, seen })
  }

  /** Sends a write of the actor for the claim that it believes to hold. */
  write(actor: string, parts: (memory: Memory) => Partial<RunWrite>): void {
    const memory = this.memory(actor)
    if (memory.claim === null) return
    const sent = write(memory.claim, parts(memory))
    this.remember(actor, { sent })
    this.send(actor, sent, false)
  }

  /** The actor's last write arrives once more. */
  resend(actor: string): void {
    const { sent } = this.memory(actor)
    if (sent !== null) this.send(actor, sent, true)
  }

  private send(actor: string, sent: RunWrite, again: boolean): void {
    const before = this.rows.get(sent.workflowRunId)!
    const [answer] = this.run((store) => store.commit([sent])) as [WriteAnswer]
    const isOurs = before.workerId !== null && before.token === sent.token
    if (answer._tag !== "committed" || again) {
      const isSame = this.picture() === this.previous!.picture()
      demand(isSame, `a write that was ${answer._tag} changed something`)
    }
    if (!again) demand((answer._tag === "committed") === isOurs, `answered ${answer._tag}`)
    if (answer._tag !== "committed" || again) return
    const { transition } = sent
    // It has released its claim, and knows.
    if (transition !== null) this.remember(actor, { claim: null })
    if (transition?._tag === "Park") {
      this.parkedWith.set(sent.workflowRunId, this.memory(actor).seen)
    }
    if (transition?._tag === "Settle" && before.parent !== null) {
      this.woken(before.parent.workflowRunId)
    }
  }

  check(): void {
    const { runs, workers } = this.handle.inspect()
    const holders = new Map(workers.flatMap((w) => w.claims.map((run) => [run, w.workerId])))
    demand(
      holders.size === workers.reduce((sum, worker) => sum + worker.claims.length, 0),
      "a run is in two workers' lists",
    )
    for (const row of runs) {
      const before = this.rows.get(row.workflowRunId)
      if (before !== undefined) this.checkChange(before, row)
      demand((holders.get(row.workflowRunId) ?? null) === row.workerId, "the lists tell lies")
      this.checkReachable(row)
    }
    this.rows = new Map(runs.map((row) => [row.workflowRunId, row]))
  }

  private checkChange(before: RunRow, after: RunRow): void {
    const { status, workflowRunId } = after
    demand(after.token >= before.token, "a token shrank")
    demand(after.wakeCounter >= before.wakeCounter, "a wake counter shrank")
    if (after.workerId !== null && after.workerId !== before.workerId) {
      demand(before.workerId === null && after.token > before.token, "a claim was taken over")
    }
    if (isTerminal(before.status) && !this.mayRevive) {
      demand(JSON.stringify(before) === JSON.stringify(after), `${workflowRunId} was over`)
    } else {
      const isLegal = before.status === status || canTransition(before.status, status)
      demand(isLegal, `${before.status} became ${status}`)
    }
  }

  /** Held by a known worker, due some time, or waiting for what has not come yet. */
  private checkReachable(row: RunRow): void {
    if (isTerminal(row.status) || row.workerId !== null || row.dueAt !== null) return
    demand(row.status === "waiting", `${row.status}, held by nobody, never due`)
    const wakes = this.wakes.get(row.workflowRunId) ?? 0
    demand(this.parkedWith.get(row.workflowRunId) === wakes, "a wake-up was lost")
  }

  /** Faults are over: fresh workers bring everything to its end. */
  finish(): void {
    for (let round = 0; round < 4; round++) {
      const left = this.handle.inspect().runs.filter((row) => !isTerminal(row.status))
      if (left.length === 0) return
      this.now += 100 * leaseMs
      this.run((store) => store.sweep({ limit: 10 }))
      this.register(100 + round)
      const payload = { codec: "json", json: "1" }
      const events = left.map(({ workflowRunId }) => ({
        workflowRunId,
        name: "",
        payload,
        id: null,
      }))
      this.run((store) => store.sendEvents(events))
      for (const suspects of [false, true]) {
        const workflows = ["w", "x"].map((name) => ({ name, version: null }))
        const options = { workerId: workerId(100 + round), workflows, limit: 10 }
        const claims = this.run((store) => store.claimRuns({ ...options, suspects }))
        const end = { transition: settle("completed") }
        this.run((store) => store.commit(claims.map((claim) => write(claim, end))))
      }
    }
    throw new Violation("a run never ended")
  }
}

const fixedClock = (now: number): Clock.Clock =>
  ({ currentTimeMillisUnsafe: () => now }) as unknown as Clock.Clock

export interface Step {
  readonly name: string
  readonly act: (world: World) => void
}

export const step = (name: string, act: (world: World) => void): Step => ({ name, act })

/** An event for run `n` of the outside. */
export const send = (n: number): Step =>
  step(`event for ${n}`, (world) => {
    const event = { workflowRunId: id(n), name: "go", payload: { codec: "json", json: "1" } }
    const [answer] = world.run((store) => store.sendEvents([{ ...event, id: null }]))
    if (answer === "sent") world.woken(id(n))
  })

/** Runs every interleaving of the scripts from the world; answers how many there are. */
export const explore = (world: World, scripts: ReadonlyArray<ReadonlyArray<Step>>): number => {
  const path: Array<string> = []
  const visit = (at: World, places: ReadonlyArray<number>): number => {
    let ends = 0
    for (const [actor, script] of scripts.entries()) {
      const next = script[places[actor]!]
      if (next === undefined) continue
      const after = at.copy()
      path.push(next.name)
      next.act(after)
      after.check()
      ends += visit(
        after,
        places.map((place, n) => (n === actor ? place + 1 : place)),
      )
      path.pop()
    }
    if (ends > 0) return ends
    at.finish()
    return 1
  }
  try {
    return visit(
      world,
      scripts.map(() => 0),
    )
  } catch (cause) {
    throw new Error(`after ${path.join(" → ")}: ${String(cause)}`, { cause })
  }
}
