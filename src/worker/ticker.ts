/**
 * Fires the ticks of schedules.
 *
 * Every worker tries; the tick's unique row decides, not leadership. After downtime only the newest
 * due tick fires, one catch-up run, however many were missed. The tick, its run and the schedule's
 * next tick are one commit.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { v7 as uuidv7 } from "uuid"
import * as Cron from "../Cron.ts"
import type { NewRun, ScheduleRow, StoreError, WorkflowStore } from "../WorkflowStore.ts"

/**
 * Fires what is due; answers how many runs were started, and in how many milliseconds the next tick
 * is due (`null`: there is no schedule).
 */
export const fireDueTicks = Effect.fnUntraced(function* (
  store: WorkflowStore["Service"],
): Effect.fn.Return<{ readonly fired: number; readonly nextInMs: number | null }, StoreError> {
  const { now, nextTick: soonest, schedules } = yield* store.dueSchedules({ limit: 100 })
  let fired = 0
  for (const schedule of schedules) {
    const rule = Cron.parse(schedule.cron, schedule.timeZone)
    if (Result.isFailure(rule)) {
      yield* Effect.logError(`flowly: schedule "${schedule.key}": ${rule.failure.message}`)
      continue
    }
    const since = new Date(schedule.nextTick - 1)
    const newest = Cron.latestAtOrBefore(rule.success, new Date(now), since)
    const tick = newest?.getTime() ?? schedule.nextTick
    const nextTick = Cron.next(rule.success, new Date(Math.max(now, tick))).getTime()
    const done = yield* store
      .fireTick({
        key: schedule.key,
        expectedNextTick: schedule.nextTick,
        tick,
        nextTick,
        run: runOf(schedule, tick),
      })
      .pipe(
        // one schedule that the database refuses must not stop those behind it
        Effect.catchTag("StoreRejected", (error) =>
          Effect.as(Effect.logError(`flowly: schedule "${schedule.key}": ${error.message}`), false),
        ),
      )
    if (done) fired++
  }
  return { fired, nextInMs: soonest === null ? null : soonest - now }
})

const runOf = (schedule: ScheduleRow, tick: number): NewRun => ({
  workflowRunId: uuidv7(),
  workflow: schedule.workflow,
  version: schedule.version,
  input: schedule.input,
  priority: 0,
  // the nominal instant, however late it fires
  scheduledFor: tick,
  timeoutMs: null,
  maxAttempts: null,
  idempotencyKey: null,
  concurrencyKey: null,
  parent: null,
})
