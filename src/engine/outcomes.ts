/**
 * Waits for runs to settle: at once when this process settled them or a hint came, else by looking.
 *
 * Where no hint has been heard yet none may ever come. Most runs are short, so who has just come is
 * looked for soon then, and ever more seldom, up to the poll interval: a wait of a second costs twenty
 * looks, and ends late by a third of what it took at most. One query looks for all whose time has come.
 * A run that executes in this process will tell by itself: it is looked for at the poll interval only.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import { encodeError, type StoredError } from "../ErrorPayload.ts"
import { RunCancelled, RunNotFound } from "../FlowlyError.ts"
import type { Encoded } from "../Payload.ts"
import { isTerminal, type TerminalStatus } from "../Run.ts"
import type { RunRow, WorkflowStore } from "../WorkflowStore.ts"
import { bounded } from "./bounded.ts"
import type { Hearing } from "./hearing.ts"
import type { Hints } from "./hints.ts"

/**
 * How a run ended.
 */
export interface RunOutcome {
  readonly status: TerminalStatus
  readonly result: Encoded | null
  readonly error: StoredError | null
}

/**
 * The waiting room.
 */
export interface Outcomes {
  readonly wait: (workflowRunId: string) => Effect.Effect<RunOutcome, RunNotFound>
  /** This process settled the run. */
  readonly settled: (workflowRunId: string, outcome: RunOutcome) => void
  /** This process executed the run, and does no longer, though it has not ended. */
  readonly left: (workflowRunId: string) => void
}

interface Waiter {
  readonly reply: Deferred.Deferred<RunOutcome, RunNotFound>
  readonly since: number
  /** When to look for it next, and when that was done last, by the monotonic clock. */
  nextLook: number
  lastLook: number
  /** The look that was under way when the waiter came: what it did not see proves nothing. */
  readonly during: number
}

/**
 * Starts the polling fiber, which sleeps while nobody waits, in the current scope.
 */
export const makeOutcomes = Effect.fnUntraced(function* (
  store: WorkflowStore["Service"],
  hints: Hints,
  hearing: Hearing,
  pollIntervalMs: number,
  isHere: (workflowRunId: string) => boolean,
): Effect.fn.Return<Outcomes, never, Scope.Scope> {
  const waiting = new Map<string, Set<Waiter>>()
  let looks = 0
  /** A hint came: look for everybody. */
  let hinted = false
  const pauseAfter = (waitedMs: number) =>
    Math.min(
      pollIntervalMs,
      Math.max(hearing.isProven() ? heardPauseMs : firstPauseMs, waitedMs / 3),
    )
  const clock = yield* Clock.Clock
  const monotonicMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const anybody = yield* Latch.make()
  const nudge = yield* Latch.make()

  const unsubscribe = hints.subscribe((hint) => {
    if (hint !== "settled" && hint !== "reconnected") return
    hinted = true
    nudge.openUnsafe()
  })
  yield* Effect.addFinalizer(() => Effect.sync(unsubscribe))

  const reply = (
    id: string,
    effect: Effect.Effect<RunOutcome, RunNotFound>,
    concerns: (waiter: Waiter) => boolean = () => true,
  ) => {
    for (const waiter of waiting.get(id) ?? []) {
      if (!concerns(waiter)) continue
      leave(id, waiter)
      Deferred.doneUnsafe(waiter.reply, effect)
    }
  }

  const leave = (id: string, waiter: Waiter) => {
    const waiters = waiting.get(id)
    waiters?.delete(waiter)
    if (waiters?.size === 0) waiting.delete(id)
  }

  /** What is due, or, behind a hint, all. */
  const look = Effect.fnUntraced(function* (all: boolean) {
    const now = monotonicMs()
    const thisLook = ++looks
    const ids: Array<string> = []
    for (const [id, waiters] of waiting) {
      const here = isHere(id)
      let due = false
      for (const waiter of waiters) {
        if (all && !here) {
          const soonest = waiter.lastLook + gapAfter(now - waiter.since)
          waiter.nextLook = Math.min(waiter.nextLook, soonest)
        }
        due ||= waiter.nextLook <= now
      }
      if (!due) continue
      ids.push(id)
      for (const waiter of waiters) {
        waiter.lastLook = now
        waiter.nextLook = now + (here ? pollIntervalMs : pauseAfter(now - waiter.since))
      }
    }
    for (let at = 0; at < ids.length; at += 1000) {
      const page = ids.slice(at, at + 1000)
      const rows = yield* bounded("getRuns")(store.getRuns(page))
      const found = new Map(rows.map((row) => [row.workflowRunId, row]))
      for (const id of page) {
        const row = found.get(id)
        if (row === undefined) {
          const missing = Effect.fail(new RunNotFound({ workflowRunId: id }))
          reply(id, missing, (waiter) => waiter.during < thisLook)
        } else if (isTerminal(row.status)) {
          reply(id, Effect.succeed(outcomeOf(row, row.status)))
        }
      }
    }
  })

  yield* Effect.forkScoped(
    Effect.forever(
      Effect.gen(function* () {
        yield* anybody.await
        if (waiting.size === 0) {
          anybody.closeUnsafe()
          return
        }
        const all = hinted
        hinted = false
        nudge.closeUnsafe()
        // whatever becomes of it: those who wait are asked for again
        yield* Effect.exit(look(all))
        if (waiting.size === 0) return
        let next = Infinity
        for (const waiters of waiting.values()) {
          for (const { nextLook } of waiters) next = Math.min(next, nextLook)
        }
        // what rounding leaves of a millisecond would be slept in no time, again and again
        const pauseMs = Math.ceil(Math.max(0, next - monotonicMs()))
        yield* Effect.raceFirst(nudge.await, Effect.sleep(pauseMs))
      }),
    ),
  )

  return {
    wait: (id) =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          const now = monotonicMs()
          const here = isHere(id)
          const mine: Waiter = {
            reply: Deferred.makeUnsafe(),
            since: now,
            nextLook: here ? now + pollIntervalMs : now,
            lastLook: -Infinity,
            during: looks,
          }
          const waiters = waiting.get(id)
          if (waiters) waiters.add(mine)
          else waiting.set(id, new Set([mine]))
          anybody.openUnsafe()
          hearing.enter()
          // it may have settled before anybody waited
          if (!here) nudge.openUnsafe()
          return mine
        }),
        (mine) => Deferred.await(mine.reply),
        (mine) =>
          Effect.sync(() => {
            leave(id, mine)
            hearing.leave()
          }),
      ),
    settled: (id, outcome) => reply(id, Effect.succeed(outcome)),
    left: (id) => {
      const waiters = waiting.get(id)
      if (waiters === undefined) return
      const now = monotonicMs()
      for (const waiter of waiters) waiter.nextLook = now + pauseAfter(now - waiter.since)
      nudge.openUnsafe()
    },
  }
})

/** Less than a run of one step takes from its start to its end, in another process. */
const firstPauseMs = 3
/** Where a hint will come: for the one that gets lost. */
const heardPauseMs = 100
/**
 * Between two looks for one who waits, however many hints come: each tells of an end, but not of whose.
 * Where thousands end a second, whoever waits for long would ask all the time, in each process.
 */
const gapAfter = (waitedMs: number): number => Math.min(250, waitedMs / 20)

const outcomeOf = (row: RunRow, status: TerminalStatus): RunOutcome => ({
  status,
  result: row.result,
  error: errorOfRun(row),
})

/**
 * The error of a run; for one that was cancelled before it started, made from the request.
 */
export const errorOfRun = (row: RunRow): StoredError | null => {
  if (row.error !== null || row.status !== "cancelled") return row.error
  const { workflowRunId, cancelRequest } = row
  return encodeError(new RunCancelled({ workflowRunId, reason: cancelRequest?.reason ?? null }))
}
