/** Why a run does not move: what is made of its situation. */
import { describe, expect, it } from "vitest"
import { explain } from "../../src/engine/explain.ts"
import type { Issued } from "../../src/engine/Execution.ts"
import { parkedWaits } from "../../src/engine/parkedWaits.ts"
import type { ParkedWait, RunRow, Situation } from "../../src/WorkflowStore.ts"

const now = 1_000_000
const workflowRunId = "01990000-0000-7000-8000-000000000001"

const explained = (run: Partial<RunRow>, around: Partial<Situation> = {}) =>
  explain(
    {
      now,
      waits: [],
      children: [],
      dueTimes: [],
      lastStep: null,
      holder: null,
      workers: [],
      ahead: 0,
      keyHolder: null,
      ...around,
      run: {
        workflowRunId,
        workflow: "w",
        version: null,
        status: "sleeping",
        attempt: 1,
        maxAttempts: null,
        crashCount: 0,
        dueAt: null,
        workerId: null,
        startedAt: 1,
        completedAt: null,
        error: null,
        pauseReason: null,
        pauseRequest: null,
        cancelRequest: null,
        ...run,
      } as RunRow,
    },
    null,
  )

const nap: ParkedWait = {
  stepKey: "nap",
  kind: "sleep",
  event: null,
  until: now + 5000,
  attempt: null,
  maxAttempts: null,
}

describe("an explanation", () => {
  it("of a run that has ended names who holds its key, but not the run itself", () => {
    const ended = { status: "failed", completedAt: 7 } as const
    expect(explained(ended, { keyHolder: workflowRunId })).toMatchObject({ keyHolder: null })
    expect(explained(ended, { keyHolder: "another" })).toMatchObject({ keyHolder: "another" })
  })

  it("tells whether a person has paused the run", () => {
    const paused = (tag: string) =>
      explained({ status: "paused", pauseReason: { name: tag, message: "m", tag } })
    expect(paused("RunPaused")).toMatchObject({ byOperator: true })
    expect(paused("StepMismatch")).toMatchObject({ byOperator: false })
  })

  it("of a held run tells the cancel that goes before the pause", () => {
    const cancelRequest = { compensate: null, reason: null } as RunRow["cancelRequest"]
    const pauseRequest = { error: { name: "E", message: "m" } } as unknown as RunRow["pauseRequest"]
    const held = { workerId: "worker", cancelRequest: null, pauseRequest }
    expect(explained(held)).toMatchObject({ asked: "pause" })
    expect(explained({ ...held, cancelRequest })).toMatchObject({ asked: "cancel" })
  })

  it("of a wait that others have moved tells the time that it has now", () => {
    const moved = { dueTimes: [{ stepKey: "nap", wakeAt: now + 9000 }] }
    expect(explained({ dueAt: now + 9000 }, { waits: [nap], ...moved })).toMatchObject({
      for: [{ kind: "sleep", stepKey: "nap", until: now + 9000 }],
    })
  })

  it("of a run between two attempts tells the backoff, not what the last one waited for", () => {
    const retried = { status: "pending", dueAt: now + 9000, attempt: 2, maxAttempts: 3 } as const
    expect(explained(retried, { waits: [nap] })).toMatchObject({
      _tag: "backing-off",
      attempt: 2,
      until: now + 9000,
    })
  })
})

it("of many waits of a run those that end first are kept, and those without an end behind them", () => {
  const waiting = (n: number, wakeAt: number | null) =>
    ({ key: `${n}`, operation: { kind: "sleep" }, wakeAt, attempts: 0 }) as unknown as Issued
  const kept = parkedWaits([
    waiting(0, null),
    ...Array.from({ length: 30 }, (_, n) => waiting(30 - n, 30 - n)),
  ])
  expect(kept.map(({ until }) => until)).toEqual(Array.from({ length: 20 }, (_, n) => n + 1))
})
