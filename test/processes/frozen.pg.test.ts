/**
 * A worker that stands still past its lease (SIGSTOP: a paused machine, a long garbage collection)
 * and comes back changes nothing that another worker now owns.
 */
import { describe, expect, it } from "vitest"
import { Place, until } from "./harness.ts"

const workersOf = (place: Place) =>
  place.query<{ id: string; lapsed: boolean }>(
    `select worker_id as id, lease_expires_at <= clock_timestamp() as lapsed
      from durable_workflow.workflow_workers order by started_at`,
  )

describe.concurrent("a worker that was frozen past its lease", { timeout: 90_000 }, () => {
  it("records nothing for a run that another has finished, and works on under a new id", async () => {
    await using place = await Place.create()
    const [first, second] = await Promise.all([place.spawn(), place.spawn()])
    await first.call("start")
    const { workflowRunId: run } = await place.engine.trigger(place.workflows.slow, {
      input: { ms: 1500 },
    })
    await first.passed("start slow")
    first.signal("SIGSTOP")
    await second.call("start")
    await place.reaches(run, "completed")
    const before = await place.query(
      `select r.*, s.* from durable_workflow.workflow_runs r
        join durable_workflow.workflow_steps s using (workflow_run_id) where workflow_run_id = $1`,
      [run],
    )

    // its body ends now: much too late
    first.signal("SIGCONT")
    await first.passed("end slow")
    await until("a new registration", async () => (await workersOf(place)).length === 3)
    await second.call("stop")

    const again = await place.engine.trigger(place.workflows.three, { input: { ms: 0 } })
    await place.reaches(again.workflowRunId, "completed")
    const pids = (await place.ledger(again.workflowRunId)).map(({ pid }) => pid)
    expect(pids).toEqual([first.pid, first.pid, first.pid])
    const after = await place.query(
      `select r.*, s.* from durable_workflow.workflow_runs r
        join durable_workflow.workflow_steps s using (workflow_run_id) where workflow_run_id = $1`,
      [run],
    )
    expect(after).toEqual(before)
    const [row] = await place.query<{ result: number }>(
      "select result::text::int as result from durable_workflow.workflow_steps where workflow_run_id = $1",
      [run],
    )
    const bySecond = (await place.ledger(run)).filter(({ pid }) => pid === second.pid)
    expect(bySecond.map(({ seq }) => seq)).toEqual([row?.result])
  })

  it("does not go on with a run that another is executing", async () => {
    await using place = await Place.create()
    const [first, second] = await Promise.all([
      place.spawn(),
      place.spawn({ haltAt: "start pack" }),
    ])
    await first.call("start")
    const { workflowRunId: run } = await place.engine.trigger(place.workflows.order, {
      input: { sleepMs: 800 },
    })
    await first.passed("end charge")
    first.signal("SIGSTOP")
    await second.call("start")
    await second.passed("start pack")
    first.signal("SIGCONT")
    await until("a new registration", async () => (await workersOf(place)).length === 3)
    // it works, on something else
    const other = await place.engine.trigger(place.workflows.three, { input: { ms: 300 } })
    await place.reaches(other.workflowRunId, "completed")
    const packs = (await place.ledger(run)).filter(({ step }) => step === "pack")
    expect(packs).toEqual([])
    expect(await place.engine.getStatus(run)).toMatchObject({ status: "running" })
    const [holder] = await place.query<{ mine: boolean }>(
      `select w.lease_expires_at > clock_timestamp() as mine
        from durable_workflow.workflow_runs r
        join durable_workflow.workflow_workers w using (worker_id) where workflow_run_id = $1`,
      [run],
    )
    expect(holder).toEqual({ mine: true })
  })

  it("gives back the crashes that were counted against its runs", async () => {
    await using place = await Place.create()
    const first = await place.spawn({ haltAt: "start wait" })
    await first.call("start")
    const { workflowRunId: run } = await place.engine.trigger(place.workflows.endless)
    await first.passed("start wait")
    const crashes = async () => {
      const [row] = await place.query<{ n: number }>(
        "select crash_count as n from durable_workflow.workflow_runs where workflow_run_id = $1",
        [run],
      )
      return row?.n
    }
    first.signal("SIGSTOP")
    // a worker that sweeps, but does not know the workflow
    const sweeper = await place.spawn({ workflows: ["three"] })
    await sweeper.call("start")
    await until("the sweep", async () => (await crashes()) === 1)
    first.signal("SIGCONT")
    await until("the refund", async () => (await crashes()) === 0)
    expect(await place.engine.getStatus(run)).not.toMatchObject({ status: "dead_letter" })
  })
})
