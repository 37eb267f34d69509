/** What the cases of throughput share: a sample of the engine, and one of the raw group commit. */
import type { WorkflowDefinition } from "../../../src/index.ts"
import { observed, onFreshDatabase, topStatements } from "../database.ts"
import { enqueueEffect } from "../flowly/effectWorker.ts"
import { type Driver, enqueue } from "../flowly/worker.ts"
import { type Input, threeSteps } from "../flowly/workflows.ts"
import type { Bench, Sample } from "../model.ts"
import type { Job } from "../process/child.ts"
import { throughput } from "../process/workers.ts"
import { singleRows } from "../raw/singleRows.ts"
import { createRawTables, enqueueRaw } from "../raw/tables.ts"

/** A fifth more runs come first: code is compiled, plans are made, pages are in memory. */
export const warmOf = (runs: number): number => Math.ceil(runs / 5)

/** Lets the jobs execute what is enqueued on `url`; the sample counts the server's work, too. */
export const executed = async (
  bench: Bench,
  options: {
    readonly label: string
    readonly url: string
    readonly jobs: ReadonlyArray<Job>
    readonly runs: number
  },
): Promise<Sample> => {
  const { url, jobs, runs, label } = options
  const warm = warmOf(runs)
  const { result, commits, walBytes, statements } = await observed(bench.server, url, () =>
    throughput({ jobs, runs, warm }),
  )
  const claims = statements.filter(({ query }) => /\bcandidates as materialized\b/.test(query))
  if (bench.statements) {
    bench.say(`    ${label}:`)
    for (const line of topStatements(statements)) bench.say(`    ${line}`)
  }
  const all = runs + warm
  const sum = (numbers: ReadonlyArray<number>) => numbers.reduce((a, b) => a + b, 0)
  return {
    value: result.perSecond,
    extras: {
      "commits per run": commits / all,
      "WAL bytes per run": walBytes / all,
      "client CPU ms per run": result.cpuMsPerRun,
      ...(claims.length === 0
        ? {}
        : { "claim statements per run": sum(claims.map(({ calls }) => calls)) / all }),
    },
  }
}

/** Runs of one workflow, all enqueued first, then executed by processes that do nothing else. */
export const engineSample = (
  bench: Bench,
  options: {
    readonly label: string
    readonly driver: Driver
    readonly concurrency: number
    readonly processes?: number
    readonly workflow?: WorkflowDefinition<Input, { readonly n: number }>
    readonly hooks?: boolean
    readonly encrypted?: boolean
    readonly runs?: number
    /** Sets the database up, and answers the address that the workers use. */
    readonly way?: (url: string) => Promise<string>
  },
): Promise<Sample> =>
  onFreshDatabase(bench.server, async (url) => {
    const { label, driver, concurrency, processes = 1, hooks = false, encrypted = false } = options
    const { workflow = threeSteps, runs = bench.sizes.runs } = options
    await enqueue(url, workflow, runs + warmOf(runs))
    const workersUrl = (await options.way?.(url)) ?? url
    const jobs = Array.from({ length: processes }, () => ({
      kind: "flowly" as const,
      driver,
      url: workersUrl,
      workflow: workflow.name,
      concurrency,
      hooks,
      encrypted,
    }))
    return executed(bench, { label, url, jobs, runs })
  })

/** The same three steps in the Effect API, with Schemas. */
export const effectSample = (
  bench: Bench,
  options: {
    readonly label: string
    readonly concurrency: number
    readonly collector?: string
  },
): Promise<Sample> =>
  onFreshDatabase(bench.server, async (url) => {
    const { label, ...job } = options
    const { runs } = bench.sizes
    await enqueueEffect(url, runs + warmOf(runs))
    return executed(bench, { label, url, jobs: [{ kind: "effect", url, ...job }], runs })
  })

/** The same with the group commit that is written by hand. */
export const rawSample = (
  bench: Bench,
  options: {
    readonly label: string
    readonly concurrency: number
    readonly claimed?: boolean
    readonly runs?: number
    readonly way?: (url: string) => Promise<string>
  },
): Promise<Sample> =>
  onFreshDatabase(bench.server, async (url) => {
    const { label, concurrency, claimed = false, runs = bench.sizes.runs } = options
    const workerId = crypto.randomUUID()
    await createRawTables(url)
    await enqueueRaw(url, runs + warmOf(runs), claimed ? workerId : null)
    const workersUrl = (await options.way?.(url)) ?? url
    const jobs = [
      { kind: "group-commit" as const, url: workersUrl, concurrency, workerId, claimed },
    ]
    return executed(bench, { label, url, jobs, runs })
  })

/** The same with a commit for each row. */
export const singleRowsSample = (bench: Bench, concurrency: number): Promise<Sample> =>
  onFreshDatabase(bench.server, async (url) => {
    const { runs } = bench.sizes
    await createRawTables(url)
    await enqueueRaw(url, runs, null)
    const { result, commits, walBytes } = await observed(bench.server, url, () =>
      singleRows({ url, concurrency }),
    )
    const extras = { "commits per run": commits / runs, "WAL bytes per run": walBytes / runs }
    return { value: result, extras }
  })
