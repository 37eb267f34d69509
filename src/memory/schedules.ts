/**
 * Schedules and their ticks. A tick fires once: its row, its run and the advanced schedule are one
 * step, and the row outlives the schedule.
 */
import type { DueSchedules, NewRun, ScheduleRow } from "../WorkflowStore.ts"
import { insertIfFree } from "./inserts.ts"
import { byText, compositeKey, freezeEncoded, type State } from "./state.ts"

export const upsertSchedule = (
  state: State,
  schedule: Omit<ScheduleRow, "lastTick">,
): ScheduleRow => {
  const known = state.schedules.get(schedule.key)
  const keepsTick =
    known !== undefined &&
    known.enabled &&
    known.cron === schedule.cron &&
    known.timeZone === schedule.timeZone
  const row: ScheduleRow = Object.freeze({
    key: schedule.key,
    workflow: schedule.workflow,
    version: schedule.version,
    cron: schedule.cron,
    timeZone: schedule.timeZone,
    input: freezeEncoded(schedule.input),
    enabled: schedule.enabled,
    nextTick: keepsTick ? known.nextTick : schedule.nextTick,
    lastTick: known?.lastTick ?? null,
  })
  state.schedules.set(row.key, row)
  return row
}

export const removeSchedule = (state: State, key: string): boolean => state.schedules.delete(key)

export const listSchedules = (state: State): ReadonlyArray<ScheduleRow> =>
  [...state.schedules.values()].toSorted((a, b) => byText(a.key, b.key))

export const dueSchedules = (
  state: State,
  now: number,
  options: { readonly limit: number },
): DueSchedules => {
  const enabled = [...state.schedules.values()].filter((row) => row.enabled)
  enabled.sort((a, b) => a.nextTick - b.nextTick || byText(a.key, b.key))
  const due = enabled.filter((row) => row.nextTick <= now)
  return { now, nextTick: enabled[0]?.nextTick ?? null, schedules: due.slice(0, options.limit) }
}

export const fireTick = (
  state: State,
  now: number,
  options: {
    readonly key: string
    readonly expectedNextTick: number
    readonly tick: number
    readonly nextTick: number
    readonly run: NewRun
  },
): boolean => {
  const { key, tick, nextTick } = options
  const schedule = state.schedules.get(key)
  if (!schedule?.enabled || schedule.nextTick !== options.expectedNextTick) return false
  const fired = compositeKey(key, tick)
  const isFirst = !state.ticks.has(fired)
  const lastTick = Math.max(schedule.lastTick ?? tick, tick)
  state.schedules.set(key, Object.freeze({ ...schedule, nextTick, lastTick }))
  if (!isFirst) return false
  state.ticks.add(fired)
  insertIfFree(state, now, options.run)
  return true
}
