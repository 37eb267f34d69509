/**
 * pg-boss: jobs, without steps. Its best setting: batches of 500, fetched continuously while they
 * are full, with LISTEN/NOTIFY. Latency is of a queue that is fetched one by one, to the handler.
 */
import { PgBoss } from "pg-boss"
import type { Options, Peer } from "./peer.ts"

const [many, one] = ["many", "one"]

const open = async ({ url }: Options) => {
  const boss = new PgBoss({ connectionString: url, useListenNotify: true, max: 20 })
  boss.on("error", console.error)
  await boss.start()
  await boss.createQueue(many, { notify: true })
  await boss.createQueue(one, { notify: true })
  return boss
}

export const pgBoss: Peer = {
  remaining: `select count(*)::int as remaining from pgboss.job where state < 'completed'
    and name = 'many'`,
  client: async (options) => {
    const boss = await open(options)
    return {
      enqueue: async (runs) => {
        for (let from = 0; from < runs; from += 1000) {
          const length = Math.min(1000, runs - from)
          await boss.insert(
            many,
            Array.from({ length }, (_, at) => ({ data: { n: from + at } })),
          )
        }
      },
      close: () => boss.stop(),
    }
  },
  worker: async (options) => {
    const boss = await open(options)
    const waiting = new Map<number, () => void>()
    return {
      start: async () => {
        const polling = { pollingIntervalSeconds: 0.5, burstWhenBatchFull: true }
        await boss.work(many, { ...polling, batchSize: options.concurrency }, async () => {})
        await boss.work<{ n: number }>(one, polling, async (jobs) => {
          for (const { data } of jobs) waiting.get(data.n)?.()
        })
      },
      latency: async (n) => {
        const done = new Promise<void>((resolve) => waiting.set(n, resolve))
        await boss.send(one, { n })
        await done
      },
      close: () => boss.stop({ graceful: false }),
    }
  },
}
