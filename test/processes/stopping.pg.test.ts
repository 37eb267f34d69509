/**
 * A graceful stop hands runs back and fails none; another process continues at once. The lease is
 * half a minute here: what is continued sooner was handed back.
 */
import { spawn } from "node:child_process"
import * as path from "node:path"
import { describe, expect, it } from "vitest"
import { Place, type Process, quick, within } from "./harness.ts"

const worker = { ...quick, leaseMs: 30_000 }
const soonMs = 15_000

/** Two processes; the second is to continue. */
const two = async (place: Place, config: Parameters<Place["spawn"]>[0] = {}) => {
  const [first, second] = await Promise.all([
    place.spawn({ worker, ...config, outlives: true }),
    place.spawn({ worker }),
  ])
  await first.call("start")
  return { first, second }
}

/** What a supervisor does: SIGTERM, and wait. */
const terminate = async (process: Process) => {
  process.signal("SIGTERM")
  expect(await within("the end after SIGTERM", process.exit(), soonMs)).toEqual({
    code: 0,
    signal: null,
  })
}

const finishes = (place: Place, run: string, status: string) =>
  within(`run ${run} ${status}`, place.reaches(run, status), soonMs)

const crashes = async (place: Place) =>
  (await place.query("select from durable_workflow.workflow_runs where crash_count > 0")).length

describe.concurrent("a worker that is stopped", { timeout: 90_000 }, () => {
  it("in the middle of a step: the step is recorded, the next process goes on after it", async () => {
    await using place = await Place.create()
    const { first, second } = await two(place)
    const { workflowRunId: run } = await place.engine.trigger(place.workflows.three, {
      input: { ms: 700 },
    })
    await first.passed("start two")
    await terminate(first)
    expect(await place.engine.getStatus(run)).toMatchObject({ status: "pending", attempt: 1 })
    expect(await place.did(run)).toEqual(["one", "two"])
    await second.call("start")
    await finishes(place, run, "completed")
    expect(await place.did(run)).toEqual(["one", "two", "three"])
    expect(await crashes(place)).toBe(0)
  })

  it("while runs sleep, in memory and parked: both go on elsewhere, nothing is undone", async () => {
    await using place = await Place.create()
    const { first, second } = await two(place)
    const parked = await place.engine.trigger(place.workflows.order, { input: { sleepMs: 3000 } })
    await place.reaches(parked.workflowRunId, "sleeping")
    const short = await place.engine.trigger(place.workflows.order, { input: { sleepMs: 900 } })
    await first.passed("end charge")
    await terminate(first)
    await second.call("start")
    for (const { workflowRunId: run } of [parked, short]) {
      await finishes(place, run, "completed")
      expect(await place.did(run)).toEqual(["reserve", "charge", "pack", "ship"])
    }
  })

  it("between compensations: the next process goes on undoing", async () => {
    await using place = await Place.create()
    const { first, second } = await two(place)
    const { workflowRunId: run } = await place.engine.trigger(place.workflows.order, {
      input: { fails: true, undoMs: 700 },
    })
    await first.passed("start undo charge")
    await terminate(first)
    expect(await place.engine.getStatus(run)).toMatchObject({ status: "compensating" })
    expect((await place.did(run)).slice(4)).toEqual(["undo pack", "undo charge"])
    await second.call("start")
    await finishes(place, run, "compensated")
    expect((await place.did(run)).slice(4)).toEqual(["undo pack", "undo charge", "undo reserve"])
  })

  it("with a step that does not end: after shutdownTimeoutMs the run is handed back", async () => {
    await using place = await Place.create()
    const { first, second } = await two(place, {
      worker: { ...worker, shutdownTimeoutMs: 300 },
      haltAt: "held",
    })
    const { workflowRunId: run } = await place.engine.trigger(place.workflows.stubborn)
    await first.passed("held")
    await within("the stop", first.call("stop twice"), soonMs)
    expect(await place.engine.getStatus(run)).toMatchObject({ status: "pending", attempt: 1 })
    await second.call("start")
    await finishes(place, run, "completed")
    expect(await place.did(run)).toEqual(["hold", "hold"])
    expect(await crashes(place)).toBe(0)
  })

  it("has retired: no live lease of it is left, and it answers no more calls", async () => {
    await using place = await Place.create()
    const { first } = await two(place)
    await first.call("stop")
    const live = await place.query(
      `select from durable_workflow.workflow_workers
        where lease_expires_at > clock_timestamp() or retired_at is null`,
    )
    expect(live).toEqual([])
    await expect(first.call("schedule", "@daily")).rejects.toMatchObject({ code: "EngineStopped" })
    // idempotent
    await first.call("stop")
  })

  it("before it was started, or while it starts, stops as well", async () => {
    await using place = await Place.create()
    const first = await place.spawn({ worker, outlives: true })
    const starting = first.call("start").catch((error: unknown) => error)
    await first.call("stop")
    const error = (await starting) as { readonly code?: string } | undefined
    expect([undefined, "EngineStopped"]).toContain(error?.code)
    await terminate(first)
  })

  it.for(["url", "pool"] as const)("lets its process end by itself (%s)", async (driver) => {
    await using place = await Place.create()
    const config = JSON.stringify({ url: place.url, schema: "oneshot", driver })
    const child = spawn(process.execPath, [path.join(import.meta.dirname, "oneshot.ts")], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, FLOWLY_PROCESS: config },
    })
    try {
      let stdout = ""
      let stoppedAt = Infinity
      child.stdout.on("data", (chunk: Buffer) => {
        stdout += chunk.toString()
        if (stdout.includes("stopped")) stoppedAt = Math.min(stoppedAt, performance.now())
      })
      const code = await within(
        "the end of the program",
        new Promise((resolve) => child.once("close", resolve)),
        20_000,
      )
      expect(stdout).toBe("Hello Ada\nstopped\n")
      expect(code).toBe(0)
      expect(performance.now() - stoppedAt).toBeLessThan(3000)
    } finally {
      child.kill("SIGKILL")
    }
  })
})
