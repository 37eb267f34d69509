/** The recovery bound is judged, not only counted: by what is late, and by what the machine took. */
import { assert, describe, it } from "vitest"
import type { RunChange } from "./audit.ts"
import { judgeRecovery, recoveries, type Recovery } from "./recovery.ts"

const options = { leaseMs: 1500, pollIntervalMs: 100, holds: true }

const after = (ms: number, more: Partial<Recovery> = {}): Recovery => ({
  run: "r",
  name: "w1",
  ms,
  pausedMs: 0,
  machineMs: 0,
  sweptMs: 1300,
  isSuspect: false,
  ...more,
})

const told = (all: ReadonlyArray<Recovery>): ReadonlyArray<string> => {
  const messages: Array<string> = []
  judgeRecovery(all, options, {
    measure: () => undefined,
    count: () => undefined,
    violate: ({ message }) => messages.push(message),
  })
  return messages
}

const many = (n: number, late: ReadonlyArray<Recovery>) => [
  ...Array.from({ length: n - late.length }, () => after(1600)),
  ...late,
]

describe("the recovery bound", () => {
  it("holds where 5 % are late, and not where more are", () => {
    assert.deepStrictEqual(told(many(40, [after(1601), after(1601)])), [])
    const [message] = told(many(40, [after(1601), after(1601), after(1700)]))
    assert.match(message ?? "", /^3 of 40 runs went on later than a lease and a poll/)
  })

  it("does not hold where one is later than two leases and two polls", () => {
    assert.deepStrictEqual(told(many(40, [after(3200)])), [])
    const [message] = told(many(40, [after(3201)]))
    assert.match(message ?? "", /went on 3201 ms after the kill of w1/)
  })

  it("takes off what every process waited for a processor, and no more", () => {
    const slow = (machineMs: number) => [1, 2, 3].map(() => after(1800, { machineMs }))
    assert.deepStrictEqual(told(many(40, slow(200))), [])
    assert.match(told(many(40, slow(199)))[0] ?? "", /^3 of 40/)
  })
})

const instant = 1_000_000
const change = (at: number, more: Partial<RunChange>): RunChange => ({
  seq: at,
  at: new Date(instant + at),
  xid: "1",
  who: "role2",
  pid: 7,
  verb: "claim",
  run: "r",
  was: "pending",
  status: "running",
  old_token: 1,
  token: 2,
  old_worker: null,
  worker: null,
  attempt: 1,
  crashes: 0,
  due_at: null,
  old_lease_ms: null,
  lease_ms: null,
  ...more,
})
const swept = { verb: "sweep", old_worker: "a", old_lease_ms: -100, status: "pending" } as const
/** w1 held the run, and was killed at 10. */
const killed = (changes: ReadonlyArray<RunChange>) => ({
  audit: { runs: [change(0, { worker: "a" }), ...changes], steps: [], workers: [] },
  deaths: [{ name: "w1", at: instant + 10 }],
  roleOf: new Map([
    ["a", "role1"],
    ["b", "role2"],
  ]),
  nameOf: (role: string) => role.replace("role", "w"),
})

it("the machine's part begins where the lease ends: the least of all, or the session's", () => {
  const asked: Array<string> = []
  const [one, ...rest] = recoveries(
    killed([change(1400, swept), change(1700, { worker: "b", pid: 8 })]),
    {
      watched: () => ["w2", "w3"],
      // of the session that swept, and of the one that claimed
      sessionWaited: (pid, from) => (pid === 8 && from - instant === 1400 ? 55 : 0),
      waited: (name, from, to) => {
        asked.push(`${name} ${from - instant}-${to - instant}`)
        return name === "w2" ? 40 : 70
      },
    },
  )
  assert.deepStrictEqual(rest, [])
  assert.deepStrictEqual(one, {
    run: "r",
    name: "w1",
    ms: 1690,
    pausedMs: 0,
    machineMs: 95,
    sweptMs: 1390,
    isSuspect: false,
  })
  assert.deepStrictEqual(asked, ["w2 1300-1400", "w3 1300-1400", "w2 1400-1700", "w3 1400-1700"])
})

describe("what is no delay of the engine's", () => {
  const idle = { watched: () => ["w2"], sessionWaited: () => 0, waited: () => 0 }
  const msOf = (changes: ReadonlyArray<RunChange>) => recoveries(killed(changes), idle)[0]?.ms
  const paused = (from: number, to: number) => [
    change(from, { verb: "other", status: "paused" }),
    change(to, { verb: "other", status: "pending" }),
  ]

  it("a run that is paused behind its sweep waits to be resumed", () => {
    const claimed = change(3500, { worker: "b" })
    assert.strictEqual(msOf([change(1400, swept), claimed]), 3490)
    assert.strictEqual(msOf([change(1400, swept), ...paused(1450, 3450), claimed]), 1490)
  })

  it("what was held back on purpose, and paused meanwhile, is taken off once", () => {
    const late = change(1400, { ...swept, crashes: 1, due_at: new Date(instant + 2400) })
    const claimed = change(3500, { worker: "b" })
    assert.strictEqual(msOf([late, claimed]), 2490)
    assert.strictEqual(msOf([late, ...paused(2000, 3400), claimed]), 1490)
    assert.strictEqual(msOf([late, ...paused(1500, 2300), claimed]), 2490)
  })
})
