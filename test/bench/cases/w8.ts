/** W8: memory of runs that are in flight in one process, each waiting inside a step. */
import { onFreshDatabase } from "../database.ts"
import { enqueue, migrate } from "../flowly/worker.ts"
import { insideStep } from "../flowly/workflows.ts"
import type { Bench, Case, Sample } from "../model.ts"
import type { Job } from "../process/child.ts"
import { openWorker, until } from "../process/workers.ts"

/** Kilobytes for each of `count`, over the process when it was idle, after collections. */
const perItem = async (job: Job, count: number, begin: () => Promise<unknown>): Promise<Sample> => {
  const worker = await openWorker(job)
  try {
    // what begins with the start of the job is measured from before it
    const early = job.kind === "promises" ? await worker.usageAfterCollection() : null
    await worker.start()
    if (early === null) await new Promise((resolve) => setTimeout(resolve, 2000))
    const before = early ?? (await worker.usageAfterCollection())
    await begin()
    await until(() => worker.count() >= count, [worker])
    // the last commits are answered
    await new Promise((resolve) => setTimeout(resolve, 1000))
    await worker.usageAfterCollection()
    const after = await worker.usageAfterCollection()
    return {
      value: (after.rss - before.rss) / 1024 / count,
      extras: {
        "heap KB per run": (after.heapUsed - before.heapUsed) / 1024 / count,
        "idle RSS MB": before.rss / 1e6,
      },
    }
  } finally {
    worker.kill()
  }
}

const flowly = (bench: Bench, count: number): Promise<Sample> =>
  onFreshDatabase(bench.server, async (url) => {
    await migrate(url)
    const job = { kind: "flowly", driver: "url", workflow: insideStep.name } as const
    return perItem({ ...job, url, concurrency: count, entered: true }, count, () =>
      enqueue(url, insideStep, count),
    )
  })

export const w8: Case = {
  id: "W8",
  title: "memory: runs in flight in one process, each waiting inside a step",
  prepare: (bench) => {
    const { waiting } = bench.sizes
    const raw = `${waiting} bare promises with a signal`
    const name = `flowly, ${waiting} runs inside a step`
    return {
      contenders: [
        {
          name: raw,
          unit: "KB/run",
          measure: () =>
            perItem({ kind: "promises", count: waiting }, waiting, () => Promise.resolve()),
        },
        { name, unit: "KB/run", against: [raw], measure: () => flowly(bench, waiting) },
      ],
      targets: [{ of: /^flowly/, figure: "value", atMost: 20 }],
    }
  },
}
