/** Of starts, requests, waits for outcomes, and schedules. */
import { type Mutant, mutant } from "./mutant.ts"

export const requestsMutants: ReadonlyArray<Mutant> = [
  mutant(
    "key-ignored",
    "an idempotency key does not find its run",
    "memory/inserts.ts",
    "  run.idempotencyKey === null\n    ? undefined",
    "  run.idempotencyKey !== null\n    ? undefined",
  ),
  {
    ...mutant(
      "event-sent-twice",
      "an event that is sent again under its id is another event",
      "memory/requests.ts",
      'if (wasSent(run, event.id)) return "duplicate"',
      "",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  mutant(
    "cancel-waits",
    "a run that waits hears of its cancel only when something else wakes it",
    "memory/requests.ts",
    "  wake(state, run, now)\n  // Also from a backoff",
    '  if (run.workerId === null && run.status !== "paused") return "requested"\n  // Also from a backoff',
  ),
  mutant(
    "begins-early",
    "a run that is scheduled for later begins at once",
    "memory/inserts.ts",
    "row.dueAt = Math.max(run.scheduledFor ?? now, now)",
    "row.dueAt = now",
  ),
  {
    ...mutant(
      "keyed-chunks-at-once",
      "two inserts of one call wait for each other's keys",
      "engine/startMany.ts",
      "again && items.every(isFree)",
      "again",
    ),
    tests: { project: "unit", files: ["test/worker/startMany.test.ts"] },
  },
  mutant(
    "answers-out-of-order",
    "the answers of a start of many are not aligned with its items",
    "engine/startMany.ts",
    "const answer = answers[i] as (typeof answers)[number]",
    "const answer = answers[answers.length - 1 - i] as (typeof answers)[number]",
  ),
  mutant(
    "fork-forgets",
    "a fork does again what its origin had done last before the point",
    "memory/control.ts",
    "if (position === null || position >= before) continue",
    "if (position === null || position >= before - 1) continue",
  ),
  {
    ...mutant(
      "fork-undone",
      "a fork takes what its origin has undone for undone",
      "memory/control.ts",
      "record: Object.freeze({ ...entry.record, compensation: null }),",
      "record: Object.freeze({ ...entry.record }),",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  mutant(
    "waits-for-hints",
    "who waits for an outcome looks once, and then trusts hints",
    "engine/outcomes.ts",
    "for (const waiter of waiters) waiter.nextLook = now + pauseAfter(now - waiter.since)",
    "for (const waiter of waiters) waiter.nextLook = now + 1e9 + pauseAfter(now - waiter.since)",
  ),
  {
    ...mutant(
      "outcome-of-another",
      "who waits hears an outcome before the run has ended",
      "engine/outcomes.ts",
      "} else if (isTerminal(row.status)) {\n          reply(id, Effect.succeed(outcomeOf(row, row.status)))",
      "} else if (isTerminal(row.status) || row.compensating) {\n" +
        "          reply(id, Effect.succeed(outcomeOf(row, row.status as TerminalStatus)))",
    ),
    tests: { project: "unit", files: ["test/worker/outcomes.test.ts"] },
  },
  {
    name: "tick-without-row",
    breaks: "a tick that two workers fire starts two runs",
    edits: [
      {
        file: "memory/schedules.ts",
        find: "if (!schedule?.enabled || schedule.nextTick !== options.expectedNextTick) return false",
        replace: "if (!schedule?.enabled) return false",
      },
      {
        file: "memory/schedules.ts",
        find: "const isFirst = !state.ticks.has(fired)",
        replace: "const isFirst = !state.ticks.has(`${fired}${options.run.workflowRunId}`)",
      },
    ],
  },
  mutant(
    "tick-early",
    "a tick fires before its time",
    "memory/schedules.ts",
    "enabled.filter((row) => row.nextTick <= now)",
    "enabled.filter((row) => row.nextTick <= now + 5000)",
  ),
  {
    ...mutant(
      "tick-passed-over",
      "the tick that has fired is followed by the next but one",
      "worker/ticker.ts",
      "const nextTick = Cron.next(rule.success, new Date(Math.max(now, tick))).getTime()",
      "const nextTick = Cron.next(rule.success, new Date(Math.max(now, tick) + 60_000)).getTime()",
    ),
    tests: { project: "unit", files: ["test/promise/cronTicks.test.ts"] },
  },
  {
    ...mutant(
      "ticks-caught-up",
      "each of the ticks that were missed is fired",
      "worker/ticker.ts",
      "const tick = newest?.getTime() ?? schedule.nextTick\n    const nextTick = Cron.next(rule.success, new Date(Math.max(now, tick))).getTime()",
      "const tick = newest === null ? schedule.nextTick : schedule.nextTick\n    const nextTick = Cron.next(rule.success, new Date(tick)).getTime()",
    ),
    tests: { project: "unit", files: ["test/promise/cronTicks.test.ts"] },
  },
  {
    ...mutant(
      "tick-forgets-its-run",
      "a tick that fires advances its schedule, and starts nothing",
      "memory/schedules.ts",
      "  insertIfFree(state, now, options.run)\n",
      "",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  {
    ...mutant(
      "new-id-each-sending",
      "a start whose answer was lost is sent again under another id",
      "engine/starter.ts",
      "const runs = items.map((item) => item.run)",
      "const runs = items.map((item) => (item.sent && patience < 0 ? item.run : { ...item.run, workflowRunId: item.run.workflowRunId.replace(/.$/, () => Math.floor(Math.random() * 16).toString(16)) }))",
    ),
    tests: { project: "unit", files: ["test/worker/starter.test.ts"] },
  },
  {
    ...mutant(
      "expired-start-sent",
      "who waits no more is told that nothing was sent, though it was",
      "engine/starter.ts",
      "for (const item of items) item.sent = true",
      "for (const item of items) item.sent = item.expired",
    ),
    tests: { project: "unit", files: ["test/worker/starter.test.ts"] },
  },
  {
    ...mutant(
      "pause-not-let-go",
      "a run that was asked to pause is handed back as if it was not",
      "memory/lifecycle.ts",
      "if (run.pauseRequest === null) return release(state, run, to, dueAt)",
      "if (run.pauseRequest !== null || run.pauseRequest === null) return release(state, run, to, dueAt)",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  {
    ...mutant(
      "retry-keeps-cancel",
      "a run that is retried is still to be cancelled",
      "memory/requests.ts",
      "  run.failedPosition = null\n  run.cancelRequest = null\n",
      "  run.failedPosition = null\n",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  {
    ...mutant(
      "event-of-the-ended",
      "an event is sent to a run that has ended",
      "memory/requests.ts",
      '    if (isTerminal(run.status)) return "terminal"\n    if (run.events',
      "    if (run.events",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
]
