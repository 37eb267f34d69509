/**
 * Time is the database's. A worker whose own clocks are wrong by an hour, or jump, changes no due
 * time, wakes nothing early, loses no lease, and plans ticks from the store's now.
 */
import { describe, expect, it } from "vitest"
import { Place, quick, until } from "./harness.ts"

const hour = 3_600_000
const lateMs = 8000

const clocks = [
  { name: "an hour ahead", env: { FLOWLY_SHIFT_MS: String(hour) } },
  { name: "an hour behind", env: { FLOWLY_SHIFT_MS: String(-hour) } },
  { name: "that jumps by two hours", env: { FLOWLY_SHIFT_MS: String(hour), FLOWLY_SWING: "1" } },
]

const nowOf = async (place: Place): Promise<number> => {
  const [row] = await place.query<{ now: Date }>("select clock_timestamp() as now")
  return row?.now.getTime() ?? Number.NaN
}

const millisBetween = async (place: Place, text: string, run: string): Promise<number> => {
  const [row] = await place.query<{ ms: number }>(
    `select (extract(epoch from (${text})) * 1000)::float8 as ms`,
    [run],
  )
  return row?.ms ?? Number.NaN
}

describe.concurrent("a worker with a clock", { timeout: 90_000 }, () => {
  it.for(clocks)("$name", async ({ env }) => {
    await using place = await Place.create()
    const [wrong, sweeper] = await Promise.all([
      place.spawn({}, { preload: "shifted.ts", env }),
      // its clock is right, and it would sweep; it knows none of the workflows below
      place.spawn({ workflows: ["three"] }),
    ])
    await Promise.all([wrong.call("start"), sweeper.call("start")])
    const began = await nowOf(place)

    // in the process with the wrong clock: the eager start, too
    const order = String(await wrong.call("trigger order", { sleepMs: 2000 }))
    const flaky = String(await wrong.call("trigger flaky"))
    const scheduledFor = new Date((await nowOf(place)) + 2500)
    const { slow } = place.workflows
    const later = await place.engine.trigger(slow, { input: { ms: 0 }, scheduledFor })
    const nextRun = Number(await wrong.call("schedule", "* * * * *"))
    const planned = nextRun - (await nowOf(place))
    expect(planned).toBeGreaterThan(-5000)
    expect(planned).toBeLessThanOrEqual(60_000)

    // sleep: no shorter than asked, by the database's clock, and not ended early
    await place.reaches(order, "completed")
    const slept = await millisBetween(
      place,
      `(select wake_at from durable_workflow.sleep_timers where workflow_run_id = $1)
        - (select completed_at from durable_workflow.workflow_steps
          where workflow_run_id = $1 and step_key = 'charge')`,
      order,
    )
    expect(slept).toBeGreaterThanOrEqual(2000)
    expect(slept).toBeLessThan(2000 + lateMs)
    const afterWake = await millisBetween(
      place,
      `(select at from ledger where run = $1 and step = 'pack')
        - (select wake_at from durable_workflow.sleep_timers where workflow_run_id = $1)`,
      order,
    )
    expect(afterWake).toBeGreaterThanOrEqual(0)
    expect(afterWake).toBeLessThan(lateMs)

    // backoff
    await place.reaches(flaky, "completed")
    const backoff = await millisBetween(
      place,
      "(select max(at) - min(at) from ledger where run = $1 and step = 'try')",
      flaky,
    )
    expect(backoff).toBeGreaterThanOrEqual(1500)
    expect(backoff).toBeLessThan(1500 + lateMs)

    // scheduled start
    await place.reaches(later.workflowRunId, "completed")
    const startDelay = await millisBetween(
      place,
      `(select started_at - scheduled_for from durable_workflow.workflow_runs
        where workflow_run_id = $1)`,
      later.workflowRunId,
    )
    expect(startDelay).toBeGreaterThanOrEqual(0)
    expect(startDelay).toBeLessThan(lateMs)

    // a tick: brought near, as waiting for the full minute would take too long
    const [schedule] = await place.query<{ tick: Date }>(
      `update durable_workflow.cron_schedules
        set next_tick = date_trunc('milliseconds', clock_timestamp()) + interval '1 second'
        returning next_tick as tick`,
    )
    const ticks = () =>
      place.query<{ early: boolean; next: Date }>(
        `select t.fired_at < $1 as early, s.next_tick as next
          from durable_workflow.schedule_ticks t
          join durable_workflow.cron_schedules s using (schedule_key)`,
        [schedule?.tick],
      )
    await until("the tick", async () => (await ticks()).length > 0)
    const [tick] = await ticks()
    expect(tick?.early).toBe(false)
    const toNext = (tick?.next.getTime() ?? 0) - (schedule?.tick.getTime() ?? 0)
    expect(toNext).toBeGreaterThan(0)
    expect(toNext).toBeLessThanOrEqual(60_000 + lateMs)

    // no lease lost in more than two of them
    await until("two leases", async () => (await nowOf(place)) > began + 2 * quick.leaseMs + 1000)
    const [counts] = await place.query<{ workers: number; crashes: number }>(
      `select (select count(*)::int from durable_workflow.workflow_workers) as workers,
        (select sum(crash_count)::int from durable_workflow.workflow_runs) as crashes`,
    )
    expect(counts).toEqual({ workers: 2, crashes: 0 })
    const pids = new Set((await place.ledger(order)).map(({ pid }) => pid))
    expect(pids).toEqual(new Set([wrong.pid]))
    expect(await place.did(order)).toEqual(["reserve", "charge", "pack", "ship"])
  })
})
