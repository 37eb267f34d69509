/**
 * graphile-worker: jobs, without steps. Its best setting: a local queue, and completions in batches.
 * Latency is to the beginning of the task.
 */
import { Logger, makeWorkerUtils, run, type Runner } from "graphile-worker"
import type { Options, Peer } from "./peer.ts"

const logger = new Logger(() => () => undefined)

const preset = ({ url, concurrency }: Options, batched: boolean) => ({
  worker: {
    connectionString: url,
    concurrentJobs: concurrency,
    maxPoolSize: concurrency + 2,
    // a line for each job is no part of the measurement
    logger,
    ...(batched
      ? { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
      : {}),
  },
})

export const graphileWorker: Peer = {
  remaining: "select count(*)::int as remaining from graphile_worker._private_jobs",
  client: async (options) => {
    const utils = await makeWorkerUtils({ connectionString: options.url, logger })
    await utils.migrate()
    return {
      enqueue: async (runs) => {
        for (let from = 0; from < runs; from += 1000) {
          const length = Math.min(1000, runs - from)
          await utils.addJobs(
            Array.from({ length }, (_, at) => ({ identifier: "many", payload: { n: from + at } })),
          )
        }
      },
      close: async () => void (await utils.release()),
    }
  },
  worker: async (options) => {
    const waiting = new Map<number, () => void>()
    let runner: Runner | null = null
    return {
      start: async () => {
        runner = await run({
          preset: preset(options, options.concurrency > 1),
          parsedCronItems: [],
          taskList: {
            many: async () => {},
            one: async (payload) => waiting.get((payload as { readonly n: number }).n)?.(),
          },
        })
      },
      latency: async (n) => {
        const done = new Promise<void>((resolve) => waiting.set(n, resolve))
        await runner?.addJob("one", { n })
        await done
      },
      close: async () => void (await runner?.stop()),
    }
  },
}
