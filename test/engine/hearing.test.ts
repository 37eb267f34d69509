/** Answers cross each other on their ways: what comes late takes nothing back of what is newer. */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { expect, it } from "vitest"
import { bodyEnded, cancelled, timedOut } from "../../src/engine/endings.ts"
import type { ExecutionEnv } from "../../src/engine/Execution.ts"
import { startExecution } from "../../src/engine/machine.ts"
import { due, sourcesChanged, start } from "../../src/engine/steps.ts"
import { replayed } from "../../src/engine/undoing.ts"
import { none } from "../../src/RetryPolicy.ts"
import type { ClaimedRun, EventRow, RunSignals, RunSources } from "../../src/WorkflowStore.ts"
import { json } from "../store/conformanceFixture.ts"

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

/** A run whose one step never ends. */
const executing = () => {
  const fibers: Array<Fiber.Fiber<void>> = []
  let refreshed = 0
  const env = {
    limits: { shortWaitMs: 0, parkGraceMs: 0, divergenceGraceMs: 0, drainMs: 0 },
    fork: (effect: Effect.Effect<void>) => {
      const fiber = Effect.runFork(effect)
      fibers.push(fiber)
      return fiber
    },
    append: () => {},
    refreshSources: () => refreshed++,
    leaseTrusted: () => true,
    monotonicMs: () => 0,
    random: () => 0,
    hook: () => {},
  } as unknown as ExecutionEnv
  const run = { ...signals(0), workflowRunId: "run", compensating: false, startedAt: 0 }
  const handle = startExecution({
    run: run as unknown as ClaimedRun,
    history: null,
    env,
    parts: { start, due, sourcesChanged, bodyEnded, replayed, cancelled, timedOut },
    startBody: (execution) => {
      const never = () => Effect.as(Effect.never, json(null))
      const step = { kind: "step", name: "step", retry: none, timeoutMs: null, undo: null } as const
      execution.issue({ ...step, run: never }, () => {})
      return () => {}
    },
    onEnd: () => {},
  })
  return {
    execution: handle.execution,
    onSources: (given: RunSources) => handle.onSources(given),
    onSignals: (given: RunSignals) => handle.onSignals(given),
    refreshed: () => refreshed,
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
