/** Answers cross each other on their ways: what comes late takes nothing back of what is newer. */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { expect, it, vi } from "vitest"
import { bodyEnded, cancelled, timedOut } from "../../src/engine/endings.ts"
import type { Execution, ExecutionEnv, Fragment } from "../../src/engine/Execution.ts"
import { startExecution } from "../../src/engine/machine.ts"
import { due, sourcesChanged, start } from "../../src/engine/steps.ts"
import { replayed } from "../../src/engine/undoing.ts"
import { none } from "../../src/RetryPolicy.ts"
import type {
  ChildRow,
  ClaimedRun,
  EventRow,
  RunHistory,
  RunSignals,
  RunSources,
  WriteAnswer,
} from "../../src/WorkflowStore.ts"
import { json, record } from "../store/conformanceFixture.ts"

const signals = (wakeCounter: number): RunSignals => ({
  wakeCounter,
  cancelRequest: null,
  pauseRequest: null,
  deadlinePassed: false,
})

const sources = (wakeCounter: number, ...names: ReadonlyArray<string>): RunSources => ({
  ...signals(wakeCounter),
  workflowRunId: "run",
  now: wakeCounter,
  children: [],
  events: names.map((name, i) => ({ eventId: i, name }) as unknown as EventRow),
  dueTimes: [],
})

const step = { kind: "step", name: "step", retry: none, timeoutMs: null, undo: null } as const

/** A run whose one step never ends, or that asks for something else. */
const executing = (
  body: (execution: Execution) => void = (execution) =>
    execution.issue({ ...step, run: () => Effect.as(Effect.never, json(null)) }, () => {}),
  history: RunHistory | null = null,
) => {
  const fibers: Array<Fiber.Fiber<void>> = []
  const written: Array<Fragment> = []
  let refreshed = 0
  let monotonicMs = 0
  const env = {
    limits: { shortWaitMs: 0, parkGraceMs: 0, divergenceGraceMs: 0, drainMs: 0 },
    fork: (effect: Effect.Effect<void>) => {
      const fiber = Effect.runFork(effect)
      fibers.push(fiber)
      return fiber
    },
    append: (fragment: Fragment) => written.push(fragment),
    newRunId: () => "child",
    refreshSources: () => refreshed++,
    leaseTrusted: () => true,
    monotonicMs: () => monotonicMs,
    random: () => 0,
    hook: () => {},
  } as unknown as ExecutionEnv
  const run = { ...signals(0), workflowRunId: "run", attempt: 1, compensating: false, startedAt: 0 }
  const handle = startExecution({
    run: run as unknown as ClaimedRun,
    history,
    env,
    parts: { start, due, sourcesChanged, bodyEnded, replayed, cancelled, timedOut },
    startBody: (execution) => {
      body(execution)
      return () => {}
    },
    onEnd: () => {},
  })
  return {
    execution: handle.execution,
    written,
    onSources: (given: RunSources) => handle.onSources(given),
    onSignals: (given: RunSignals) => handle.onSignals(given),
    refreshed: () => refreshed,
    pass: (milliseconds: number) => {
      monotonicMs += milliseconds
    },
    stop: () => {
      handle.stopLost()
      for (const fiber of fibers) fiber.interruptUnsafe()
    },
  }
}

it("a reading of the sources that comes late takes back nothing of a newer one", () => {
  const { execution, onSources, stop } = executing()
  onSources(sources(3, "go"))
  onSources(sources(2))
  expect([execution.sourcesCounter, execution.events.length]).toEqual([3, 1])
  onSources(sources(4))
  expect([execution.sourcesCounter, execution.events.length]).toEqual([4, 0])
  stop()
})

it("an answer that comes late takes back nothing of what a newer one told", () => {
  const { execution, onSignals, refreshed, stop } = executing()
  onSignals(signals(3))
  onSignals(signals(2))
  expect(execution.signals.wakeCounter).toBe(3)
  // each that shows something unread asks for the sources, again
  expect(refreshed()).toBe(1)
  stop()
})

it("a reading from before a child was started takes nothing back: it shows that of an earlier attempt", () => {
  const { execution, onSources, stop } = executing()
  const child = (parentAttempt: number) =>
    ({ stepKey: "child", parentAttempt }) as unknown as RunSources["children"][number]
  const seen = [1, 2, 1, 3].map((parentAttempt) => {
    onSources({ ...sources(0), children: [child(parentAttempt)] })
    return execution.children.get("child")?.parentAttempt
  })
  expect(seen).toEqual([1, 2, 2, 3])
  stop()
})

const committed = (given: object): Extract<WriteAnswer, { readonly _tag: "committed" }> => ({
  _tag: "committed",
  workflowRunId: "run",
  ...signals(0),
  now: 0,
  timers: [],
  children: [],
  refusedSleeps: [],
  ...given,
})

it("the end of a child that is read before its insert is answered is not forgotten", async () => {
  const child = {
    kind: "child",
    name: "child",
    startedAs: null,
    workflow: "w",
    version: null,
    input: json(null),
    timeoutMs: null,
    maxAttempts: null,
    onParentClose: "cancel",
  } as const
  const { written, onSources, stop } = executing((execution) => execution.issue(child, () => {}))
  await vi.waitFor(() => expect(written.length).toBe(1))
  const ended = {
    stepKey: "child",
    workflowRunId: "child",
    parentAttempt: 1,
    status: "completed",
    result: json("done"),
  } as unknown as ChildRow
  onSources({ ...sources(1), children: [ended] })
  written[0]!.onCommitted(committed({ wakeCounter: 1 }))
  expect(written[1]?.records?.map(({ stepKey, status }) => [stepKey, status])).toEqual([
    ["child", "completed"],
  ])
  stop()
})

it("a sleep that others move before the body has asked for it ends when it does now", async () => {
  const history = {
    ...sources(0),
    records: [{ ...record("step", 1), completedAt: 0 }],
    timers: [{ stepKey: "nap", wakeAt: 9000 }],
  } as unknown as RunHistory
  const nap = { kind: "sleep", name: "nap", until: { delayMs: 9000 } } as const
  const { written, onSources, stop } = executing((execution) => {
    execution.issue({ ...step, run: () => Effect.never }, () => execution.issue(nap, () => {}))
  }, history)
  onSources({ ...sources(1), now: 0, dueTimes: [{ stepKey: "nap", wakeAt: 5000 }] })
  await vi.waitFor(() => expect(written.length).toBe(1))
  expect(written[0]!.transition).toMatchObject({ _tag: "Park", dueAt: 5000 })
  stop()
})

it("a cancel that comes with the answer of a step's own transaction is heard", () => {
  const { execution, written, stop } = executing()
  const [issued] = execution.open
  const cancelRequest = { compensate: false, reason: null } as RunSignals["cancelRequest"]
  execution.reserve(issued!, json(1)).committed(committed({ cancelRequest }))
  expect(written.map(({ transition }) => transition)).toMatchObject([
    { _tag: "Settle", status: "cancelled" },
  ])
  stop()
})

it("each answer tells the store's time anew, which goes on from there by the clock of the process", () => {
  const { execution, pass, stop } = executing()
  const seen = [100, 500, 2500].map((now) => {
    pass(300)
    execution.noteAnswer({ ...signals(0), now })
    pass(7)
    return execution.storeNow()
  })
  expect(seen).toEqual([107, 507, 2507])
  stop()
})
