/**
 * Schedules and their ticks. What makes a tick fire once is its unique row, not who fires it: any
 * number of workers may try.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { DueSchedules, NewRun, ScheduleRow, StoreError } from "../WorkflowStore.ts"
import type { Database, Row } from "./database.ts"
import { newRunColumns, newRuns, newRunValues } from "./newRuns.ts"
import {
  at,
  bool,
  clock,
  encoded,
  int,
  intOrNull,
  ms,
  msUp,
  steady,
  text,
  textOrNull,
} from "./rows.ts"

const columns = (s: string): string =>
  `${s}.schedule_key, ${s}.workflow, ${s}.version, ${s}.cron, ${s}.time_zone, ${s}.input_codec,
    ${s}.input::text as input, ${s}.enabled, ${ms(`${s}.next_tick`)} as next_tick,
    ${ms(`${s}.last_tick`)} as last_tick`

const toSchedule = (row: Row): ScheduleRow => ({
  key: text(row["schedule_key"]),
  workflow: text(row["workflow"]),
  version: textOrNull(row["version"]),
  cron: text(row["cron"]),
  timeZone: text(row["time_zone"]),
  input: encoded(row["input_codec"], row["input"]),
  enabled: bool(row["enabled"]),
  nextTick: int(row["next_tick"]),
  lastTick: intOrNull(row["last_tick"]),
})

export const upsertSchedule = (
  database: Database,
): ((schedule: Omit<ScheduleRow, "lastTick">) => Effect.Effect<ScheduleRow, StoreError>) => {
  const n = database.names
  const statement = `
    insert into ${n.schedules} as s (schedule_key, workflow, cron, time_zone, input_codec, input,
      enabled, next_tick, created_at, updated_at, version)
    select $2::text, $3::text, $4::text, $5::text, $6::text, $7::jsonb, $8::boolean, ${at("$9")},
      c.at, c.at, $10::text
    from (select ${clock("$1")} as at) c
    on conflict (schedule_key) do update set
      workflow = excluded.workflow, version = excluded.version, cron = excluded.cron, time_zone = excluded.time_zone,
      input_codec = excluded.input_codec, input = excluded.input, enabled = excluded.enabled,
      -- A process that merely starts again must not move a tick that is due.
      next_tick = case
        when s.enabled and s.cron = excluded.cron and s.time_zone = excluded.time_zone
        then s.next_tick
        else excluded.next_tick
      end,
      updated_at = excluded.updated_at
    returning ${columns("s")}`
  return Effect.fnUntraced(function* (schedule) {
    const rows = yield* database.write("upsertSchedule", statement, [
      yield* database.now,
      schedule.key,
      schedule.workflow,
      schedule.cron,
      schedule.timeZone,
      schedule.input.codec,
      schedule.input.json,
      String(schedule.enabled),
      String(schedule.nextTick),
      schedule.version,
    ])
    return toSchedule(rows[0]!)
  })
}

export const removeSchedule = (
  database: Database,
): ((key: string) => Effect.Effect<boolean, StoreError>) => {
  const statement = `delete from ${database.names.schedules} where schedule_key = $1::text returning 1`
  return Effect.fnUntraced(function* (key) {
    return (yield* database.write("removeSchedule", statement, [key])).length > 0
  })
}

export const listSchedules = (
  database: Database,
): Effect.Effect<ReadonlyArray<ScheduleRow>, StoreError> =>
  Effect.map(
    database.read(
      "listSchedules",
      `select ${columns("s")} from ${database.names.schedules} s order by s.schedule_key`,
      [],
    ),
    (rows) => rows.map(toSchedule),
  )

export const dueSchedules = (
  database: Database,
): ((options: { readonly limit: number }) => Effect.Effect<DueSchedules, StoreError>) => {
  // One row even when nothing is due, for the store's now.
  const statement = `
    select ${ms("c.at")} as now,
      (select ${msUp("min(e.next_tick)")} from ${database.names.schedules} e where e.enabled) as soonest, s.*
    from (select ${steady("$1")} as at) c
    left join lateral (
      select ${columns("s")}
      from ${database.names.schedules} s
      where s.enabled and s.next_tick <= c.at
      order by s.next_tick, s.schedule_key
      limit $2::int
    ) s on true`
  return Effect.fnUntraced(function* ({ limit }) {
    const now = yield* database.now
    const rows = yield* database.read("dueSchedules", statement, [now, String(limit)])
    return {
      now: int(rows[0]?.["now"]),
      nextTick: intOrNull(rows[0]?.["soonest"]),
      schedules: rows.flatMap((row) => (row["schedule_key"] == null ? [] : [toSchedule(row)])),
    }
  })
}

/** The tick's row, its run and the advanced schedule, in one commit. */
export const fireTick = (
  database: Database,
): ((options: {
  readonly key: string
  readonly expectedNextTick: number
  readonly tick: number
  readonly nextTick: number
  readonly run: NewRun
}) => Effect.Effect<boolean, StoreError>) => {
  const n = database.names
  const statement = `
    with clock as materialized (
      select ${clock("$1")} as at
    ),
    schedule as materialized (
      select s.schedule_key
      from ${n.schedules} s
      where s.schedule_key = $2::text and s.enabled and s.next_tick = ${at("$3")}
      -- Whoever holds the row is firing this very tick, or changing the schedule.
      for no key update of s skip locked
    ),
    x as materialized (
      select * from ${newRuns.rows("x", 6)}
    ),
    fired as (
      insert into ${n.ticks} (schedule_key, tick, workflow_run_id, fired_at)
      select s.schedule_key, ${at("$4")}, x.id, c.at
      from schedule s cross join x cross join clock c
      -- a tick that fired before its schedule was removed, and made anew
      on conflict (schedule_key, tick) do nothing
      returning schedule_key
    ),
    started as (
      insert into ${n.runs} (${newRunColumns})
      select ${newRunValues("x", "c.at", "null::uuid")}
      from fired f cross join x cross join clock c
      -- the run's own keys may refuse it (the previous tick's run is active): the tick has fired
      on conflict do nothing
    ),
    advanced as (
      update ${n.schedules} s
      set next_tick = ${at("$5")},
        last_tick = greatest(s.last_tick, ${at("$4")})
      from schedule l
      where s.schedule_key = l.schedule_key
    )
    select exists (select 1 from fired) as fired`
  return Effect.fnUntraced(function* (options) {
    const rows = yield* database.write("fireTick", statement, [
      yield* database.now,
      options.key,
      String(options.expectedNextTick),
      String(options.tick),
      String(options.nextTick),
      ...newRuns.parameters([{ run: options.run, owner: 0 }]),
    ])
    return bool(rows[0]?.["fired"])
  })
}
