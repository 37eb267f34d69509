/** The engine under load, as an application uses it. */
import pg from "pg"
import { defineWorkflow, DurableEngine, type DurableEngineOptions } from "../../src/index.ts"
import { countCommits, freshDatabase } from "./database.ts"

/** A measurement: so many runs (or steps), their rate, and the commits of all of them. */
export interface Sample {
  readonly units: number
  readonly perSecond: number
  readonly commits: number
}

/** How the engine reaches its database. */
export type Driver = "url" | "pool"

const threeSteps = defineWorkflow("three-steps", async (ctx, input: { readonly n: number }) => {
  let n = input.n
  for (const name of ["one", "two", "three"]) n = await ctx.step(name, () => n + 1)
  return { n }
})

const sequence = defineWorkflow("sequence", async (ctx, input: { readonly steps: number }) => {
  let n = 0
  for (let step = 1; step <= input.steps; step++) n = await ctx.step(`step ${step}`, () => n + 1)
  return { n }
})

const workflows = [threeSteps, sequence]

/** An engine on the database, and how to end it with all of its connections. */
const open = (driver: Driver, url: string, worker: DurableEngineOptions["worker"]) => {
  const pool = driver === "pool" ? new pg.Pool({ connectionString: url, max: 10 }) : null
  const engine = new DurableEngine({ workflows, worker, ...(pool ? { pool } : { url }) })
  return {
    engine,
    close: async () => {
      await engine.stop()
      await pool?.end()
    },
  }
}

/** Enqueues all, then measures from the start of the worker to the end of the last run. */
export const manyRuns = async (options: {
  readonly server: string
  readonly driver: Driver
  readonly runs: number
  readonly concurrency: number
}): Promise<Sample> => {
  const { server, driver, runs, concurrency } = options
  const database = await freshDatabase(server)
  const client = open(driver, database.url, undefined)
  await client.engine.migrate()
  const inputs = Array.from({ length: runs }, (_, n) => ({ n }))
  await Promise.all(inputs.map((input) => client.engine.trigger(threeSteps, { input })))
  await client.close()

  let seconds = 0
  const commits = await countCommits(server, database.url, async () => {
    const { engine, close } = open(driver, database.url, { maxConcurrent: concurrency })
    const done = completions(engine, runs)
    const before = performance.now()
    await engine.start()
    await done
    seconds = (performance.now() - before) / 1000
    await close()
  })
  await database.drop()
  return { units: runs, perSecond: runs / seconds, commits }
}

/** From the trigger to the end, in the process of the worker. */
export const longRun = async (options: {
  readonly server: string
  readonly driver: Driver
  readonly steps: number
}): Promise<Sample> => {
  const { server, driver, steps } = options
  const database = await freshDatabase(server)
  let seconds = 0
  const commits = await countCommits(server, database.url, async () => {
    const { engine, close } = open(driver, database.url, undefined)
    await engine.migrate()
    await engine.start()
    const before = performance.now()
    const handle = await engine.trigger(sequence, { input: { steps } })
    const result = await handle.result()
    seconds = (performance.now() - before) / 1000
    if (result.n !== steps) throw new Error(`${result.n} steps ran, not ${steps}`)
    await close()
  })
  await database.drop()
  return { units: steps, perSecond: steps / seconds, commits }
}

const completions = (engine: DurableEngine, runs: number): Promise<void> =>
  new Promise((resolve, reject) => {
    let completed = 0
    engine.hook("workflow:completed", () => {
      if (++completed === runs) resolve()
    })
    engine.hook("workflow:failed", (event) => reject(new Error(JSON.stringify(event))))
  })
