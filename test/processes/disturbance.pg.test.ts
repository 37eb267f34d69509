/**
 * Two workers and 2,000 runs of three steps, while every half second a worker is killed or frozen
 * past its lease. No run may be lost, each step is recorded once, what it did in its transaction is
 * there once, and nothing deadlocks.
 */
import { expect, it } from "vitest"
import { Place, type Process, until } from "./harness.ts"
import { pause } from "./workflows.ts"

const runs = 2000
const leaseMs = 1500
const worker = { leaseMs, pollIntervalMs: 100, maxConcurrent: 15 }

it(
  "2,000 runs end well while their workers are killed and frozen",
  { timeout: 300_000 },
  async () => {
    await using place = await Place.create()
    // loaded, but not started: a replacement takes over at once
    const spares: Array<Promise<Process>> = []
    const spare = () => {
      spares.push(place.spawn({ worker, quiet: true }))
    }
    const alive: Array<Process> = []
    const replace = async () => {
      while (alive.length < 2) {
        spare()
        const process = await (spares.shift() as Promise<Process>)
        await process.call("start")
        alive.push(process)
      }
    }
    for (let i = 0; i < 2; i++) spare()

    const { counting } = place.workflows
    const ids: Array<string> = []
    for (let i = 0; i < runs; i += 500) {
      const batch = Array.from({ length: 500 }, () =>
        place.engine.trigger(counting, { input: { ms: 15 } }),
      )
      for (const { workflowRunId } of await Promise.all(batch)) ids.push(workflowRunId)
    }

    const unfinished = async () => {
      const [row] = await place.query<{ n: number }>(
        "select count(*)::int as n from durable_workflow.workflow_runs where completed_at is null",
      )
      return row?.n ?? 0
    }

    const began = performance.now()
    await replace()
    await place.query("create table thaws (pid int, at timestamptz)")
    const thaws: Array<Promise<void>> = []
    /** It comes back past its lease, and goes on working beside those that took its place. */
    const thaw = async (process: Process) => {
      await pause(leaseMs + 700)
      await place.query("insert into thaws values ($1, clock_timestamp())", [process.pid])
      process.signal("SIGCONT")
      alive.push(process)
    }
    let disruptions = 0
    while ((await unfinished()) > 0 && performance.now() - began < 90_000) {
      await pause(500)
      const victim = alive.shift() as Process
      disruptions++
      if (disruptions % 3 === 0) {
        victim.signal("SIGKILL")
      } else {
        victim.signal("SIGSTOP")
        thaws.push(thaw(victim))
      }
      await replace()
    }
    await Promise.all(thaws)
    await until("all runs ended", async () => (await unfinished()) === 0)
    const elapsed = performance.now() - began
    const report = await place.query(
      `select status, count(*)::int as n, sum(crash_count)::int as crashes
      from durable_workflow.workflow_runs group by status`,
    )
    console.log(
      `${runs} runs in ${Math.round(elapsed)} ms, ${disruptions} disruptions`,
      JSON.stringify(report),
    )

    // no run is lost, none is dead-lettered
    const states = await place.query<{ status: string; n: number }>(
      "select status, count(*)::int as n from durable_workflow.workflow_runs group by status",
    )
    expect(states).toEqual([{ status: "completed", n: runs }])
    expect(disruptions).toBeGreaterThan(9)

    // the run's result is what its records hold
    const differing = await place.query(
      `select r.workflow_run_id
      from durable_workflow.workflow_runs r
      join lateral (
        select jsonb_agg(s.result order by s.position) as results, count(*) as n
        from durable_workflow.workflow_steps s
        where s.workflow_run_id = r.workflow_run_id and s.status = 'completed'
      ) s on true
      where s.n <> 3 or s.results <> r.result`,
    )
    expect(differing).toEqual([])

    // each effect once, and what was recorded is one of the executions of that very step
    const [effects] = await place.query<{ effects: number; unknown: number }>(
      `select (select count(*)::int from effects) as effects,
      (select count(*)::int
        from durable_workflow.workflow_steps s
        where not exists (
          select from ledger l
          where l.seq = (s.result)::text::bigint and l.run = s.workflow_run_id
            and l.step = s.step_key)) as unknown`,
    )
    expect(effects).toEqual({ effects: runs * 3, unknown: 0 })

    // each transaction happened once, and is the one that was recorded
    const [counted] = await place.query(
      `select count(*)::int as rows, count(distinct (c.run, c.step))::int as steps,
        count(*) filter (where (s.result)::text::int = c.result)::int as recorded
      from counted c
      join durable_workflow.workflow_steps s on s.workflow_run_id = c.run and s.step_key = c.step`,
    )
    expect(counted).toEqual({ rows: runs * 3, steps: runs * 3, recorded: runs * 3 })

    // after its record no body began, but what a thawed process had begun before it was frozen
    const late = await place.query(
      `select l.run, l.step, l.pid, l.at, s.completed_at,
        (select json_agg(t.at order by t.at) from thaws t where t.pid = l.pid) as thaws
      from ledger l
      join durable_workflow.workflow_steps s on s.workflow_run_id = l.run and s.step_key = l.step
      where l.at > s.completed_at and not exists (
        select from thaws t
        where t.pid = l.pid and l.at between t.at and t.at + interval '2 seconds')`,
    )
    expect(late).toEqual([])

    const [executions] = await place.query<{ total: number; most: number }>(
      `select sum(n)::int as total, max(n)::int as most
      from (select count(*) as n from ledger group by run, step) x`,
    )
    // each disruption repeats at most what one worker was executing
    expect(executions?.total).toBeLessThanOrEqual(runs * 3 + disruptions * worker.maxConcurrent)
    expect(executions?.most).toBeLessThanOrEqual(1 + disruptions)

    const [server] = await place.query<{ deadlocks: number }>(
      "select deadlocks::int from pg_stat_database where datname = current_database()",
    )
    expect(server).toEqual({ deadlocks: 0 })
  },
)
