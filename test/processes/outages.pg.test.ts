/**
 * The database goes away: at start, under a trigger, in the middle of runs. Callers get a typed
 * error that says what to do; runs lose time, and nothing else.
 */
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import * as path from "node:path"
import pg from "pg"
import { describe, expect, it } from "vitest"
import { startEmbeddedPostgres } from "../../src/embedded.ts"
import { DurableEngine, type DurableEngineOptions, FlowlyError } from "../../src/index.ts"
import { withClient } from "../support/database.ts"
import { Place, Proxy, quick, until } from "./harness.ts"
import { pause } from "./workflows.ts"

const failureOf = async (promise: Promise<unknown>): Promise<FlowlyError> => {
  const error = await promise.then(
    () => new Error("it succeeded"),
    (failure: unknown) => failure,
  )
  expect(error).toBeInstanceOf(FlowlyError)
  return error as FlowlyError
}

/** An engine on the proxy, by url or by pool. */
const through = (proxy: Proxy, driver: "url" | "pool", options: Partial<DurableEngineOptions>) => {
  const pool = new pg.Pool({ connectionString: proxy.url, max: 5 })
  const engine = new DurableEngine({
    ...(driver === "pool" ? { pool } : { url: proxy.url }),
    workflows: [],
    worker: quick,
    ...options,
  })
  return {
    engine,
    [Symbol.asyncDispose]: async () => {
      await engine.stop()
      await pool.end()
    },
  }
}

const statusesOf = async (url: string) =>
  withClient(url, async (client) => {
    const { rows } = await client.query<{ status: string; n: number }>(
      "select status, count(*)::int as n from durable_workflow.workflow_runs group by status",
    )
    return rows
  })

/** Each step's recorded outcome is one, and comes from one of the executions of that step. */
const recordsOf = async (url: string) =>
  withClient(url, async (client) => {
    const { rows } = await client.query<{ n: number; same: boolean }>(
      `select count(*)::int as n, bool_and(r.result = s.results) as same
        from durable_workflow.workflow_runs r
        join lateral (
          select jsonb_agg(s.result order by s.position) as results
          from durable_workflow.workflow_steps s where s.workflow_run_id = r.workflow_run_id
        ) s on jsonb_array_length(s.results) = 3`,
    )
    return rows[0]
  })

describe.concurrent("a database that does not answer", { timeout: 120_000 }, () => {
  it.for(["url", "pool"] as const)(
    "at start: StoreUnavailable; the same engine starts once it is back (%s)",
    async (driver) => {
      await using place = await Place.create()
      await using proxy = await Proxy.to(place.url)
      await using opened = through(proxy, driver, { workflows: [place.workflows.slow] })
      proxy.be("closed")
      for (const call of ["start", "migrate", "start"] as const) {
        const error = await failureOf(opened.engine[call]())
        expect(error).toMatchObject({ code: "StoreUnavailable", retryable: true })
        expect(error.message).toMatch(/unavailable/)
      }
      expect(await opened.engine.healthCheck()).toMatchObject({ healthy: false })
      proxy.be("pass")
      await opened.engine.start()
      expect(await opened.engine.healthCheck()).toMatchObject({ healthy: true })
    },
  )

  it.for(["url", "pool"] as const)(
    "under a trigger: it ends at its deadline and says that the outcome is unknown (%s)",
    async (driver) => {
      await using place = await Place.create()
      await using proxy = await Proxy.to(place.url)
      const { slow } = place.workflows
      await using opened = through(proxy, driver, { workflows: [slow] })
      await opened.engine.trigger(slow, { input: { ms: 0 } })
      proxy.be("silent")
      const began = performance.now()
      const error = await failureOf(
        opened.engine.trigger(slow, { input: { ms: 0 }, idempotencyKey: "k", deadline: 700 }),
      )
      expect(performance.now() - began).toBeLessThan(5000)
      expect(error).toMatchObject({
        code: "TriggerTimeout",
        retryable: true,
        details: { outcome: "unknown", workflowRunId: expect.any(String) },
      })
      proxy.be("pass")
      // what it tells to do
      const again = await opened.engine.trigger(slow, { input: { ms: 0 }, idempotencyKey: "k" })
      expect(await again.status()).toMatchObject({ status: "pending" })
      const runs = await place.query("select from durable_workflow.workflow_runs")
      expect(runs.length).toBe(2)
    },
  )

  // pg's pool has taken its listener off a new client before `connect` gives it to us
  it.for(["url", "pool"] as const)(
    "that ends each session as it begins does not end the process (%s)",
    async (driver) => {
      await using place = await Place.create()
      await using proxy = await Proxy.to(place.url)
      const worker = await place.spawn({ url: proxy.url, driver })
      proxy.be("ending")
      await expect(worker.call("start")).rejects.toMatchObject({ code: "StoreUnavailable" })
      expect(worker.hasExited()).toBe(false)
      proxy.be("pass")
      await worker.call("start")
      const handle = await place.engine.trigger(place.workflows.slow, { input: { ms: 0 } })
      await handle.result()
    },
  )

  it("a silent database lets nothing run twice; the worker comes back by itself", async () => {
    await using place = await Place.create()
    await using proxy = await Proxy.to(place.url)
    const worker = await place.spawn({ url: proxy.url, worker: { ...quick, useNotify: true } })
    await worker.call("start")
    const { workflowRunId: run } = await place.engine.trigger(place.workflows.three, {
      input: { ms: 400 },
    })
    await worker.passed("start two")
    proxy.be("silent")
    await until("the lapse", async () => {
      const live = await place.query(
        "select from durable_workflow.workflow_workers where lease_expires_at > clock_timestamp()",
      )
      return live.length === 0
    })
    proxy.be("pass")
    await place.reaches(run, "completed")
    // nothing began again that was recorded
    const again = await place.query(
      `select l.step from ledger l join durable_workflow.workflow_steps s
        on s.workflow_run_id = l.run and s.step_key = l.step
        where l.run = $1 and l.at > s.completed_at`,
      [run],
    )
    expect(again).toEqual([])
    expect(worker.hasExited()).toBe(false)
  })

  it("a server that dies and comes back in the middle of runs: all finish, none fails", async () => {
    const dataDir = await folder()
    const settings = { fsync: "off", full_page_writes: "off" }
    let server = await startEmbeddedPostgres({ dataDir, settings })
    try {
      await using place = await Place.create(server.url)
      const [one, two] = await Promise.all([
        place.spawn({ worker: { ...quick, useNotify: true } }),
        place.spawn({ worker: quick, driver: "pool" }),
      ])
      await Promise.all([one.call("start"), two.call("start")])
      const { three } = place.workflows
      const handles = await Promise.all(
        Array.from({ length: 120 }, () => place.engine.trigger(three, { input: { ms: 60 } })),
      )
      for (let i = 0; i < 2; i++) {
        await pause(700)
        // stop -m immediate
        process.kill(server.pid, "SIGQUIT")
        await server.stop()
        await pause(300)
        server = await startEmbeddedPostgres({ dataDir, settings })
      }
      await Promise.all(handles.map((handle) => handle.result()))
      expect(await statusesOf(server.url)).toEqual([{ status: "completed", n: handles.length }])
      expect(await recordsOf(server.url)).toEqual({ n: handles.length, same: true })
      expect([one.hasExited(), two.hasExited()]).toEqual([false, false])
    } finally {
      await server.stop()
      await fs.rm(path.dirname(dataDir), { recursive: true, force: true })
    }
  })

  it.for(["url", "pool"] as const)(
    "sessions that are ended under load: all runs finish, none fails (%s)",
    async (driver) => {
      await using place = await Place.create()
      const worker = await place.spawn({ driver, worker: { ...quick, useNotify: true } })
      await worker.call("start")
      const { three } = place.workflows
      const handles = await Promise.all(
        Array.from({ length: 100 }, () => place.engine.trigger(three, { input: { ms: 40 } })),
      )
      let ended = 0
      for (let i = 0; i < 6; i++) {
        await pause(300)
        const rows = await place.query(
          `select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and application_name like 'flowly%'`,
        )
        ended += rows.length
      }
      await Promise.all(handles.map((handle) => handle.result()))
      expect(await statusesOf(place.url)).toEqual([{ status: "completed", n: handles.length }])
      expect(await recordsOf(place.url)).toEqual({ n: handles.length, same: true })
      expect(ended).toBeGreaterThan(6)
      expect(worker.hasExited()).toBe(false)
      const health = (await worker.call("health")) as { readonly store: { readonly ok: boolean } }
      expect(health.store.ok).toBe(true)
    },
  )
})

/** For the data of a server of our own, which another account may run. */
const folder = async () => {
  const made = await fs.mkdtemp(path.join(tmpdir(), "flowly-test-outages-"))
  await fs.chmod(made, 0o755)
  return path.join(made, "data")
}
