/** Whoever cannot hold its runs lets go of them, and of those that it never heard of: what is judged. */
import { assert, describe, it } from "vitest"
import type { RunChange } from "./audit.ts"
import type { Evidence, LedgerRow } from "./evidence.ts"
import { I26 } from "./invariants/I26-lets-go.ts"
import { judgeLostClaims } from "./lostClaims.ts"
import type { Lost } from "./nemesis/gates.ts"
import type { RowLock } from "./nemesis/sessions.ts"
import type { Freeze } from "./nemesis/processes.ts"

const change = (at: number, more: Partial<RunChange>): RunChange => ({
  seq: at,
  at: new Date(at),
  xid: "1",
  who: "role1",
  pid: 7,
  verb: "claim",
  run: "r",
  was: "pending",
  status: "running",
  old_token: 0,
  token: 1,
  old_worker: null,
  worker: "i1",
  attempt: 1,
  crashes: 0,
  due_at: null,
  old_lease_ms: null,
  lease_ms: 1500,
  ...more,
})

const claimed = change(1000, {})
const taken = (at: number, verb: string) =>
  change(at, { verb, who: "role2", pid: 8, old_worker: "i1", worker: null, token: 2 })

describe("a body that heeds its signal", () => {
  const found = (
    endedAt: number,
    options: { readonly verb?: string; readonly freezes?: ReadonlyArray<Freeze> } = {},
    waitedMs = 0,
  ): ReadonlyArray<string> => {
    const told: Array<string> = []
    const heeds = { is: "step", name: "s", ms: 9, heeds: true, undoFails: null, undoMs: 1 } as const
    const line = { what: "step", run: "r", step: "s#2", worker: "w1", began_at: new Date(1100) }
    I26.check({
      program: { starts: [], workflows: [{ name: "a", block: [heeds] }] },
      audit: { runs: [claimed, taken(2500, options.verb ?? "sweep")], steps: [], workers: [] },
      lines: [{ ...line, ended_at: new Date(endedAt) } as LedgerRow],
      freezes: options.freezes ?? [],
      roleOf: new Map([["i1", "role1"]]),
      nameOf: () => "w1",
      waited: () => waitedMs,
      violate: (_: string, __: unknown, message: string) => told.push(message),
    } as unknown as Evidence)
    return told
  }

  it("ends before its run is swept, or soon after", () => {
    assert.deepStrictEqual(found(2750), [])
    assert.match(found(2751)[0] ?? "", /s#2 went on on w1 for 251 ms/)
  })

  it("may go on where others ended the claim, and where it had no processor or stood still", () => {
    assert.deepStrictEqual(found(3500, { verb: "commit" }), [])
    assert.deepStrictEqual(found(3500, {}, 750), [])
    assert.strictEqual(found(3500, {}, 749).length, 1)
    const still = (from: number, to: number) => ({ freezes: [{ name: "w1", from, to }] })
    assert.deepStrictEqual(found(3500, still(1200, 3400)), [])
    assert.strictEqual(found(3500, still(3600, 9999)).length, 1)
  })
})

it("a claim that its holder never heard of must end within two leases", () => {
  const told = (endedAt: number, more: Partial<Lost> = {}, locks: ReadonlyArray<RowLock> = []) => {
    const messages: Array<string> = []
    judgeLostClaims(
      [claimed, taken(endedAt, "release")],
      {
        lost: [{ name: "w1", role: "role1", pids: [7], from: 900, ...more }],
        locks,
        leaseMs: 1500,
      },
      {
        count: () => undefined,
        measure: () => undefined,
        violate: ({ message }) => messages.push(message),
      },
    )
    return messages
  }
  assert.deepStrictEqual(told(4000), [])
  assert.match(told(4001)[0] ?? "", /held it for 3001 ms \(release\)/)
  // claims that were answered
  assert.deepStrictEqual(told(9000, { pids: [9] }), [])
  assert.deepStrictEqual(told(9000, { from: 1001 }), [])
  // and those of later sessions to which the server's machine gave the same number
  assert.deepStrictEqual(told(9000, { role: "role2" }), [])
  assert.deepStrictEqual(told(9000, { from: -501 }), [])
  // a run that somebody else has locked cannot be given back
  const locked = (run: string, from: number, to: number) => [{ runs: [run], from, to }]
  assert.deepStrictEqual(told(5000, {}, locked("r", 3000, 4000)), [])
  assert.lengthOf(told(5001, {}, locked("r", 3000, 4000)), 1)
  assert.lengthOf(told(5000, {}, locked("r", 500, 1900)), 1)
  assert.lengthOf(told(5000, {}, locked("another", 3000, 4000)), 1)
})
