/**
 * What comes from another process reaches a run that is executing within two polls, without NOTIFY.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import { describe, expect, it } from "vitest"
import { Engine, layer as engineLayer } from "../../src/Engine.ts"
import { layerStore } from "../../src/EngineClock.ts"
import * as Payload from "../../src/Payload.ts"
import * as PostgresStore from "../../src/PostgresStore.ts"
import * as Workflow from "../../src/Workflow.ts"
import { Place, quick, until } from "./harness.ts"
import { Listening } from "./listening.ts"

const pollIntervalMs = 1000
/** Two polls, and what a busy machine takes for the rest. */
const boundMs = 2 * pollIntervalMs + 1500
const worker = { ...quick, leaseMs: 5000, pollIntervalMs, useNotify: false }

/** From the commit of what happened to the note of what followed, by the database's clock. */
const latency = async (place: Place, since: string, step: string, run: string) => {
  const [row] = await place.query<{ ms: number }>(
    `select (extract(epoch from (select at from ledger where run = $1 and step = $2)
      - (${since})) * 1000)::int as ms`,
    [run, step],
  )
  return row?.ms
}

describe.concurrent(
  "a run that is executing on another process, without NOTIFY",
  { timeout: 90_000 },
  () => {
    it("hears an event within two polls", async () => {
      await using place = await Place.create()
      const executing = await place.spawn({ worker }, { script: "eventWorker.ts" })
      const engine = engineLayer().pipe(
        Layer.provide(PostgresStore.layerUrl({ url: place.url, schema: place.schema })),
        Layer.provide(layerStore),
      )
      const { workflowRunId: run } = await Effect.runPromise(
        Workflow.trigger(Listening, undefined).pipe(Effect.provide(engine)),
      )
      await executing.passed("start held")
      const hello = Result.getOrThrow(Payload.encode("hello", { field: "word" }))
      await Effect.runPromise(
        Effect.flatMap(Engine, ({ sendEvent }) => sendEvent(run, "word", hello)).pipe(
          Effect.provide(engine),
        ),
      )
      await place.reaches(run, "completed")
      expect(await place.engine.getStatus(run)).toMatchObject({ result: "hello" })
      const sent =
        "select created_at from durable_workflow.workflow_events where workflow_run_id = $1"
      expect(await latency(place, sent, "heard", run)).toBeLessThan(boundMs)
    })

    it("hears its child's end within two polls", async () => {
      await using place = await Place.create()
      const [parent, child] = await Promise.all([
        place.spawn({ worker, workflows: ["busy parent"] }),
        place.spawn({ worker, workflows: ["child"] }),
      ])
      await Promise.all([parent.call("start"), child.call("start")])
      const { workflowRunId: run } = await place.engine.trigger(place.workflows.busyParent)
      await place.reaches(run, "completed")
      // executing all the while, in one claim
      expect(await place.did(run)).toEqual(["held", "after child"])
      const [row] = await place.query<{ pid: number }>(
        `select l.pid from ledger l join durable_workflow.workflow_runs r
        on r.workflow_run_id = l.run where r.parent_run_id = $1`,
        [run],
      )
      expect(row?.pid).toBe(child.pid)
      const ended =
        "select completed_at from durable_workflow.workflow_runs where parent_run_id = $1"
      expect(await latency(place, ended, "after child", run)).toBeLessThan(boundMs)
    })

    it("sees its signal abort within two polls of a cancel", async () => {
      await using place = await Place.create()
      const executing = await place.spawn({ worker })
      await executing.call("start")
      const { workflowRunId: run } = await place.engine.trigger(place.workflows.endless)
      await executing.passed("start wait")
      expect(await place.engine.cancel(run, { reason: "enough" })).toBe("requested")
      await place.reaches(run, "cancelled")
      await until("the abort", async () => (await place.did(run)).includes("aborted"))
      const asked =
        "select cancel_requested_at from durable_workflow.workflow_runs where workflow_run_id = $1"
      expect(await latency(place, asked, "aborted", run)).toBeLessThan(boundMs)
      expect(await place.engine.getStatus(run)).toMatchObject({
        error: { message: expect.stringContaining("enough") },
      })
    })

    it("is cancelled with its parent", async () => {
      await using place = await Place.create()
      const [parent, child] = await Promise.all([
        place.spawn({ worker, workflows: ["patient parent"] }),
        place.spawn({ worker, workflows: ["endless"] }),
      ])
      await Promise.all([parent.call("start"), child.call("start")])
      const { workflowRunId: run } = await place.engine.trigger(place.workflows.patientParent)
      await child.passed("start wait")
      await place.engine.cancel(run)
      await place.reaches(run, "cancelled")
      const childRuns = () =>
        place.query<{ id: string; status: string }>(
          `select workflow_run_id as id, status from durable_workflow.workflow_runs
          where parent_run_id = $1`,
          [run],
        )
      await until("the child's cancel", async () => (await childRuns())[0]?.status === "cancelled")
      const [row] = await childRuns()
      await until("the abort", async () => (await place.did(row?.id ?? "")).includes("aborted"))
      expect(await place.did(row?.id ?? "")).toEqual(["wait", "aborted"])
    })
  },
)
