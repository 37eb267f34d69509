/**
 * A run that takes its process with it is bounded: it is dead-lettered, and those that happened to
 * execute beside it are not.
 */
import { expect, it } from "vitest"
import { Place, quick } from "./harness.ts"

const maxCrashes = 3
const worker = { ...quick, leaseMs: 1500, maxCrashes }

/** What an init system does: a process that dies is replaced, until the end. Counts the deaths. */
const supervise = async (place: Place, end: Promise<"settled">): Promise<number> => {
  for (let deaths = 0; ; deaths++) {
    const process = await place.spawn({ worker })
    await process.call("start").catch(() => undefined)
    const outcome = await Promise.race([process.exited, end])
    if (outcome === "settled") return deaths
    expect(outcome).toEqual({ code: null, signal: "SIGABRT" })
  }
}

it(
  "dead-letters a run that aborts its process; bystanders end well",
  {
    timeout: 120_000,
  },
  async () => {
    await using place = await Place.create()
    const { poison, slow } = place.workflows
    const { workflowRunId: run } = await place.engine.trigger(poison, { priority: -1 })
    const bystanders = await Promise.all(
      Array.from({ length: 30 }, () => place.engine.trigger(slow, { input: { ms: 300 } })),
    )
    const settled = Promise.all([
      place.reaches(run, "dead_letter"),
      ...bystanders.map((handle) => handle.result()),
    ]).then(() => "settled" as const)
    expect(await supervise(place, settled)).toBe(maxCrashes)

    expect(await place.did(run)).toEqual(["drink", "drink", "drink"])
    expect(await place.engine.getStatus(run)).toMatchObject({
      status: "dead_letter",
      error: { name: "PoisonRun", message: expect.stringContaining("3 claims") },
    })
    expect(await place.engine.getDeadLetterRuns()).toMatchObject([{ workflowRunId: run }])
    const states = await place.query(
      `select status, count(*)::int as n from durable_workflow.workflow_runs
      where workflow = 'slow' group by status`,
    )
    expect(states).toEqual([{ status: "completed", n: bystanders.length }])
  },
)
