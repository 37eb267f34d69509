/**
 * What an execution makes of answers, readings and histories, in whatever order they come: nothing takes
 * back what is newer.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { expect, it, vi } from "vitest"
import { bodyEnded, cancelled, timedOut } from "../../src/engine/endings.ts"
import type { BodyEnd, Execution, ExecutionEnv, Fragment } from "../../src/engine/Execution.ts"
import { startExecution } from "../../src/engine/machine.ts"
import { due, sourcesChanged, start } from "../../src/engine/steps.ts"
import { replayed } from "../../src/engine/undoing.ts"
import { encodeError } from "../../src/ErrorPayload.ts"
import { none, spaced } from "../../src/RetryPolicy.ts"
import { markRetryAfter } from "../../src/StepError.ts"
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
  body: (execution: Execution, onEnd: (end: BodyEnd) => void) => void = (execution) =>
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
    compensateOn: { failure: true, cancel: true, timeout: true },
    leaseTrusted: () => true,
    monotonicMs: () => monotonicMs,
    random: () => 0,
    redact: (error: unknown) => error,
    hook: () => {},
  } as unknown as ExecutionEnv
  const run = {
    ...signals(0),
    workflowRunId: "run",
    attempt: 1,
    maxAttempts: null,
    compensating: false,
    startedAt: 0,
  }
  const handle = startExecution({
    run: run as unknown as ClaimedRun,
    history,
    env,
    parts: { start, due, sourcesChanged, bodyEnded, replayed, cancelled, timedOut },
    startBody: (execution, onEnd) => {
      body(execution, onEnd)
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

/** As of a worker before this one. */
const historyOf = (given: object): RunHistory =>
  ({ ...sources(0), records: [], timers: [], ...given }) as unknown as RunHistory

const cancelRequest = { compensate: false, reason: null } as RunSignals["cancelRequest"]

it("a cancel that came with the history is heard before the body begins", () => {
  let begun = false
  const { written, stop } = executing(() => {
    begun = true
  }, historyOf({ cancelRequest }))
  expect(begun).toBe(false)
  expect(written.map(({ transition }) => transition)).toMatchObject([
    { _tag: "Settle", status: "cancelled" },
  ])
  stop()
})

it("a cancel that is read with the sources is heard", () => {
  const { written, onSources, stop } = executing()
  onSources({ ...sources(1), cancelRequest })
  expect(written.map(({ transition }) => transition)).toMatchObject([
    { _tag: "Settle", status: "cancelled" },
  ])
  stop()
})

it("a backoff that others move, beside a step that executes, is over when it is now", async () => {
  const note = { ...record("flaky", null, { status: "retrying" }), retryAt: 9000 }
  const run = () => Effect.never
  const { execution, onSources, stop } = executing(
    (on) => {
      on.issue({ ...step, run }, () => {})
      on.issue({ ...step, name: "flaky", run }, () => {})
    },
    historyOf({ records: [note] }),
  )
  const flaky = () => execution.issued.get("flaky")
  await vi.waitFor(() => expect([flaky()?.phase, flaky()?.wakeAt]).toEqual(["waiting", 9000]))
  onSources({ ...sources(1), now: 0, dueTimes: [{ stepKey: "flaky", wakeAt: 5000 }] })
  expect(flaky()?.wakeAt).toBe(5000)
  stop()
})

it("a step whose deadline has passed while nobody executed the run is not tried again", async () => {
  let tried = false
  const run = () => {
    tried = true
    return Effect.never
  }
  const { written, stop } = executing(
    (on) => void on.issue({ ...step, deadlineMs: 50, run }, () => {}),
    historyOf({
      now: 100,
      records: [{ ...record("step", null, { status: "retrying" }), retryAt: 20 }],
      timers: [{ stepKey: "step", wakeAt: 50 }],
    }),
  )
  await vi.waitFor(() => expect(written.length).toBe(1))
  expect(written[0]!.records).toMatchObject([
    { status: "failed", error: { tag: "StepDeadlineExceeded" } },
  ])
  expect(tried).toBe(false)
  stop()
})

it("a step stays unknown whose process died in a try, though the next try fails by itself", async () => {
  const undo = { retry: none, timeoutMs: null, onUnknown: true, run: () => Effect.void }
  const run = () => Effect.fail({ error: encodeError(new Error("no")), retryable: false })
  const { written, stop } = executing(
    (on) => void on.issue({ ...step, undo, run }, () => {}),
    historyOf({
      records: [record("step", null, { status: "retrying", attempts: 0, hasCompensate: true })],
    }),
  )
  await vi.waitFor(() => expect(written.length).toBe(1))
  expect(written[0]!.records).toMatchObject([{ status: "failed", hasCompensate: true }])
  stop()
})

it("a record tells how long the last try of its step took", async () => {
  const { written, pass, stop } = executing((on) => {
    const run = () =>
      Effect.sync(() => {
        pass(50)
        return json(null)
      })
    on.issue({ ...step, run }, () => {})
  })
  pass(7)
  await vi.waitFor(() => expect(written.length).toBe(1))
  expect(written[0]!.records).toMatchObject([{ status: "completed", elapsedMs: 50 }])
  stop()
})

it("a step of an interrupted branch is not open any more when its try has ended", async () => {
  const run = () => Effect.interruptible(Effect.never)
  const { execution, stop } = executing((on) => void on.issue({ ...step, run }, () => {}))
  await vi.waitFor(() => expect(execution.executing).toBe(1))
  const [issued] = execution.open
  execution.abandon(issued!)
  await vi.waitFor(() => expect([execution.executing, execution.open.size]).toEqual([0, 0]))
  stop()
})

it("a step that failed by itself is no longer unknown: a run of nothing else undoes nothing", async () => {
  const error = encodeError(new Error("no"))
  const undo = { retry: none, timeoutMs: null, onUnknown: true, run: () => Effect.void }
  const run = () => Effect.fail({ error, retryable: false })
  const { written, stop } = executing((on, onEnd) => {
    on.issue({ ...step, undo, run }, () => onEnd({ _tag: "Failure", error, raw: null }))
  })
  for (const n of [0, 1]) {
    await vi.waitFor(() => expect(written.length).toBe(n + 1))
    written[n]!.onCommitted(committed({}))
  }
  await vi.waitFor(() => expect(written.length).toBe(3))
  expect(written[2]!.transition).toMatchObject({ _tag: "Settle", status: "failed" })
  stop()
})

it("a defect that says when to try again is tried again then", async () => {
  const run = () => Effect.die(markRetryAfter(new Error("busy"), 5000))
  const retry = spaced(0, { maxAttempts: 2 })
  const { execution, stop } = executing((on) => void on.issue({ ...step, retry, run }, () => {}))
  const { issued } = execution
  await vi.waitFor(() => expect(issued.get("step")?.phase).toBe("waiting"))
  expect(issued.get("step")?.wakeAt).toBe(5000)
  stop()
})
