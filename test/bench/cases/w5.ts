/**
 * W5: starting. Nobody works; a start has ended when the run is durable.
 *
 * The limits: raw inserts one by one, 16 in flight on 16 connections; and batches of 500 rows.
 */
import pg from "pg"
import { observed, onFreshDatabase } from "../database.ts"
import { type Driver, migrate, openEngine } from "../flowly/worker.ts"
import { threeSteps } from "../flowly/workflows.ts"
import type { Bench, Case, Contender, Sample } from "../model.ts"
import { createRawTables } from "../raw/tables.ts"

const oneByOne = "raw inserts one by one, 16 in flight"
const batches = "raw batches of 500"

/** Starts per second, and what each cost the server. */
const sample = (
  bench: Bench,
  prepare: (url: string) => Promise<unknown>,
  start: (url: string, count: number) => Promise<number>,
): Promise<Sample> =>
  onFreshDatabase(bench.server, async (url) => {
    const { triggers } = bench.sizes
    await prepare(url)
    const { result, commits, walBytes } = await observed(bench.server, url, () =>
      start(url, triggers),
    )
    return {
      value: (triggers / result) * 1000,
      extras: { "commits per run": commits / triggers, "WAL bytes per run": walBytes / triggers },
    }
  })

const timed = async (use: () => Promise<unknown>): Promise<number> => {
  const before = performance.now()
  await use()
  return performance.now() - before
}

const concurrent =
  (driver: Driver, inFlight: number) =>
  async (url: string, count: number): Promise<number> => {
    const { engine, close } = openEngine(driver, url)
    await engine.trigger(threeSteps, { input: { n: 0 } })
    let next = 1
    const client = async () => {
      for (let n = next++; n <= count; n = next++) {
        await engine.trigger(threeSteps, { input: { n } })
      }
    }
    const milliseconds = await timed(() => Promise.all(Array.from({ length: inFlight }, client)))
    await close()
    return milliseconds
  }

/** Calls of so many items each, one after another. */
const many =
  (size: number) =>
  async (url: string, count: number): Promise<number> => {
    const { engine, close } = openEngine("url", url)
    await engine.trigger(threeSteps, { input: { n: 0 } })
    const milliseconds = await timed(async () => {
      for (let from = 0; from < count; from += size) {
        const items = Array.from({ length: Math.min(size, count - from) }, (_, at) => ({
          input: { n: from + at },
        }))
        const started = await engine.triggerMany(threeSteps, items)
        const refused = started.find(({ status }) => status === "rejected")
        if (refused !== undefined) throw new Error(JSON.stringify(refused))
      }
    })
    await close()
    return milliseconds
  }

const columns = "runs (run_id, status, claim_token, input, created_at)"

const rawOneByOne = async (url: string, count: number): Promise<number> => {
  const clients = Array.from({ length: 16 }, () => new pg.Client(url))
  await Promise.all(clients.map((client) => client.connect()))
  const insert = {
    name: "insert",
    text: `insert into ${columns} values ($1::uuid, 'pending', 0, $2::jsonb, clock_timestamp())`,
  }
  let next = 0
  const milliseconds = await timed(() =>
    Promise.all(
      clients.map(async (client) => {
        for (let n = next++; n < count; n = next++) {
          await client.query({ ...insert, values: [crypto.randomUUID(), `{"n":${n}}`] })
        }
      }),
    ),
  )
  await Promise.all(clients.map((client) => client.end()))
  return milliseconds
}

const rawBatches = async (url: string, count: number): Promise<number> => {
  const client = new pg.Client(url)
  await client.connect()
  const insert = {
    name: "insert",
    text: `insert into ${columns}
      select x.id, 'pending', 0, x.input::jsonb, clock_timestamp()
      from unnest($1::uuid[], $2::text[]) as x(id, input)`,
  }
  const milliseconds = await timed(async () => {
    for (let from = 0; from < count; from += 500) {
      const rows = Array.from({ length: Math.min(500, count - from) }, (_, at) => from + at)
      const values = [rows.map(() => crypto.randomUUID()), rows.map((n) => `{"n":${n}}`)]
      await client.query({ ...insert, values })
    }
  })
  await client.end()
  return milliseconds
}

export const w5: Case = {
  id: "W5",
  title: "starting runs",
  prepare: (bench) => {
    const raw = (name: string, start: (url: string, count: number) => Promise<number>) => ({
      name,
      unit: "runs/s",
      measure: () => sample(bench, createRawTables, start),
    })
    const flowly = (
      name: string,
      against: string,
      start: (url: string, count: number) => Promise<number>,
    ): Contender => ({
      name,
      unit: "runs/s",
      against: [against],
      measure: () => sample(bench, migrate, start),
    })
    return {
      contenders: [
        raw(oneByOne, rawOneByOne),
        flowly("flowly trigger(), url, 16 in flight", oneByOne, concurrent("url", 16)),
        flowly("flowly trigger(), url, 500 in flight", oneByOne, concurrent("url", 500)),
        flowly("flowly trigger(), pool, 500 in flight", oneByOne, concurrent("pool", 500)),
        raw(batches, rawBatches),
        flowly("flowly triggerMany() of 500", batches, many(500)),
        flowly("flowly triggerMany() of 5000", batches, many(5000)),
      ],
      targets: [
        { of: /^flowly trigger\(\), url/, figure: "value", over: oneByOne, atLeast: 2 },
        { of: /^flowly triggerMany/, figure: "value", over: batches, atLeast: 0.5 },
      ],
    }
  },
}
