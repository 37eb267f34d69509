/**
 * What happens in the midst of a statement. The audit's triggers are gates: whoever holds the gate of a
 * process holds up its commits, or its claims, behind all that they wrote, and before it stands. There
 * their sessions are ended, their answers lost, their processes frozen; on purpose, where chance would
 * need hours.
 */
import pg from "pg"
import type { Dice } from "../../support/dice.ts"
import { type Gated, gateKey } from "../audit.ts"
import type { Fleet } from "../fleet.ts"
import type { Observer } from "../observer.ts"
import type { Harm } from "./nemesis.ts"
import type { Freeze } from "./processes.ts"

interface Given {
  readonly url: string
  readonly fleet: Fleet
  readonly observer: Observer
  readonly dice: Dice
  readonly leaseMs: number
  readonly times: number
  readonly everyMs: number
  readonly tell: (who: string, what: string) => void
}

/** Claims that were committed, and whose holder was never told. */
export interface Lost {
  readonly name: string
  readonly role: string
  /** Of the sessions that claimed. */
  readonly pids: ReadonlyArray<number>
  readonly from: number
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

interface Gate {
  /** Sessions that stand before it. */
  readonly waiting: () => Promise<ReadonlyArray<number>>
  /** Somebody, or this session, stands before it; none, if nobody comes in time. */
  readonly someone: (withinMs: number, pid?: number) => Promise<ReadonlyArray<number>>
  readonly open: () => Promise<void>
}

const closeGate = async (
  { url, observer }: Given,
  role: string,
  gated: Gated,
): Promise<Gate | null> => {
  const client = new pg.Client({
    connectionString: url,
    application_name: "torture-gate",
    connectionTimeoutMillis: 3000,
  })
  client.on("error", () => undefined)
  try {
    await client.connect()
    // those who are passing it are through in no time
    await client.query("set lock_timeout = 2000")
    await client.query(`select pg_advisory_lock(${gateKey(role, gated)})`)
  } catch {
    await client.end().catch(() => undefined)
    return null
  }
  let opening: Promise<void> | null = null
  const waiting = async () => {
    const rows = await observer.query<{ pid: number }>(
      `select pid from pg_stat_activity
      where usename = $1 and wait_event_type = 'Lock' and wait_event = 'advisory'`,
      [role],
    )
    return rows.map(({ pid }) => pid)
  }
  return {
    waiting,
    someone: async (withinMs, pid) => {
      const deadline = performance.now() + withinMs
      while (performance.now() < deadline) {
        const pids = await waiting()
        if (pid === undefined ? pids.length > 0 : pids.includes(pid)) return pids
        await pause(5)
      }
      return []
    },
    open: () => (opening ??= client.end()),
  }
}

/**
 * Each session of a process that is about to commit records is ended, for up to a lease: what becomes of
 * a commit is unknown again and again, of the journal's and of transactional steps'.
 */
export const endingCommits = (given: Given): Harm => ({
  name: "ended commits",
  times: given.times,
  everyMs: given.everyMs,
  act: async () => {
    const { fleet, dice, leaseMs, observer, tell } = given
    const working = fleet.working()
    if (working.length === 0) return false
    const { name, role } = dice.pick(working)
    const ms = Math.round(leaseMs * (0.1 + 0.9 * dice.roll()))
    const gate = await closeGate(given, role, "records")
    if (gate === null) return false
    let ended = 0
    try {
      const deadline = performance.now() + ms
      while (performance.now() < deadline) {
        const pids = await gate.waiting()
        if (pids.length > 0) {
          await observer.query("select pg_terminate_backend(pid) from unnest($1::int[]) pid", [
            pids,
          ])
        }
        ended += pids.length
        await pause(10)
      }
    } finally {
      await gate.open()
    }
    tell("nemesis", `has ended ${ended} commits of ${name} in ${ms} ms`)
    return ended > 0
  },
})

/**
 * The session of a transactional step is ended behind the last statement of its code, or in that which
 * writes its record: the transaction is gone, and cannot even be rolled back.
 */
export const endingTransactions = (given: Given): Harm => ({
  name: "ended transactions",
  times: given.times,
  everyMs: given.everyMs,
  act: async () => {
    const { fleet, dice, leaseMs, observer, tell } = given
    const deadline = performance.now() + 2 * leaseMs
    const inside = `state = 'idle in transaction' and datname = current_database()`
    while (performance.now() < deadline) {
      await pause(10)
      const open = await observer.query<{ pid: number; role: string }>(
        `select pid, usename as role from pg_stat_activity where ${inside}`,
      )
      const working = fleet.working()
      const found = open.find(({ role }) => working.some((one) => one.role === role))
      if (found === undefined) continue
      const { pid, role } = found
      const gate = dice.chance(0.5) ? await closeGate(given, role, "records") : null
      const writes = gate !== null && (await gate.someone(leaseMs / 3, pid)).length > 0
      const where = gate === null ? inside : "wait_event = 'advisory'"
      const ended = await observer
        .query(
          `select pg_terminate_backend(pid) from pg_stat_activity where pid = $1 and ${where}`,
          [pid],
        )
        .finally(() => gate?.open())
      if (ended.length === 0) continue
      tell("nemesis", `ends the transaction ${pid} of ${role}${writes ? ", in its record" : ""}`)
      return true
    }
    return false
  },
})

/** A process claims, and never hears of it: answers are lost, and then all its connections end. */
export const losingClaims = (given: Given, lost: Array<Lost>): Harm => ({
  name: "lost claims",
  times: given.times,
  everyMs: given.everyMs,
  act: async () => {
    const { fleet, dice, leaseMs, tell } = given
    const free = fleet.working().filter(({ proxy }) => !proxy.suffers())
    if (free.length === 0) return false
    const { name, role, proxy } = dice.pick(free)
    const gate = await closeGate(given, role, "claims")
    if (gate === null) return false
    let over: Promise<void> = Promise.resolve()
    let pids: ReadonlyArray<number> = []
    let from = 0
    try {
      // longer, and what waits is given up
      pids = await gate.someone(leaseMs / 2)
      if (pids.length > 0) over = proxy.suffer("half-open", 100)
      from = Date.now()
    } finally {
      await gate.open()
    }
    if (pids.length === 0) return false
    tell("nemesis", `lets ${name} claim, and not hear of it`)
    lost.push({ name, role, pids, from })
    await over
    return true
  },
})

/**
 * A process is frozen while its commit waits at the server, until its lease has lapsed and others have
 * taken its runs: all but those that the commit writes. Then the commit goes on; then the process.
 */
export const overtaking = (given: Given, freezes: Array<Freeze>): Harm => ({
  name: "overtaken commits",
  times: given.times,
  everyMs: given.everyMs,
  act: async () => {
    const { fleet, dice, leaseMs, tell } = given
    const working = fleet.working()
    if (working.length < 2) return false
    const victim = dice.pick(working)
    const gate = await closeGate(given, victim.role, "records")
    if (gate === null) return false
    try {
      if ((await gate.someone(leaseMs / 2)).length === 0) return false
      if (victim.state() !== "working") return false
      const ms = Math.round(leaseMs * (1.5 + dice.roll()))
      tell("nemesis", `freezes ${victim.name} in its commit, for ${ms} ms`)
      const freeze: Freeze = { name: victim.name, from: Date.now(), to: Infinity }
      victim.freeze()
      freezes.push(freeze)
      await pause(ms)
      await gate.open()
      await pause(dice.whole(0, 200))
      freeze.to = Date.now()
      tell("nemesis", `thaws ${victim.name}`)
      victim.thaw()
      return true
    } finally {
      await gate.open()
    }
  },
})
