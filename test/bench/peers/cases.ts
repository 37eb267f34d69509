/** W1, W2 and W3 on other systems, with flowly beside them. */
import { withClient } from "../../support/provision.ts"
import { engineSample, warmOf } from "../cases/throughput.ts"
import { latencySample, sameProcess } from "../cases/w2.ts"
import { longRun } from "../cases/w3.ts"
import { observed, onFreshDatabase } from "../database.ts"
import type { Bench, Case, Contender, Sample } from "../model.ts"
import type { PeerName } from "./child.ts"
import { openPeer, type PeerProcess } from "./process.ts"

interface Setting {
  readonly peer: PeerName
  readonly name: string
  readonly concurrency: number
  /** How many runs a sample takes, of those of flowly: the slow ones would take minutes. */
  readonly share: number
}

/** Several for each: the best counts. */
const settings: ReadonlyArray<Setting> = [
  { peer: "dbos", name: "DBOS, at 50", concurrency: 50, share: 0.1 },
  { peer: "dbos", name: "DBOS, at 200", concurrency: 200, share: 0.1 },
  { peer: "openworkflow", name: "OpenWorkflow, at 10", concurrency: 10, share: 0.1 },
  { peer: "openworkflow", name: "OpenWorkflow, at 50", concurrency: 50, share: 0.1 },
  { peer: "pgBoss", name: "pg-boss (jobs without steps)", concurrency: 500, share: 1 },
  {
    peer: "graphileWorker",
    name: "graphile-worker (jobs without steps)",
    concurrency: 24,
    share: 1,
  },
]

const oneOfEach: ReadonlyArray<Setting> = [
  { peer: "dbos", name: "DBOS, started directly", concurrency: 50, share: 1 },
  { peer: "openworkflow", name: "OpenWorkflow", concurrency: 10, share: 1 },
  { peer: "pgBoss", name: "pg-boss (to the handler)", concurrency: 500, share: 1 },
  { peer: "graphileWorker", name: "graphile-worker (to the task)", concurrency: 1, share: 1 },
]

const withSteps = oneOfEach.filter(({ peer }) => peer === "dbos" || peer === "openworkflow")

const using = async <A>(use: (process: PeerProcess) => Promise<A>): Promise<A> => {
  const process = openPeer()
  try {
    return await use(process)
  } finally {
    process.kill()
  }
}

const enqueue = (setting: Setting, url: string, count: number) =>
  using(async ({ tell }) => {
    const { peer, concurrency } = setting
    await tell({ say: "client", peer, options: { url, concurrency } })
    await tell({ say: "enqueue", count })
    await tell({ say: "close" })
  })

/** Looks at the table until nothing remains; the rate counts from the end of the warm-up. */
const drained = (url: string, statement: string, runs: number) =>
  withClient(url, async (client) => {
    let warmAt = performance.now()
    let warmWith = -1
    let warm = false
    let last = -1
    let since = performance.now()
    for (;;) {
      const { rows } = await client.query<{ readonly remaining: number }>(statement)
      const remaining = rows[0]?.remaining ?? 0
      const now = performance.now()
      // never from a look at which all was done: then the rate is that of all, from the beginning
      if (warmWith < 0) warmWith = remaining
      if (!warm && remaining <= runs && remaining > 0) {
        warm = true
        warmAt = now
        warmWith = remaining
      }
      if (remaining === 0) return (warmWith / (now - warmAt)) * 1000
      if (remaining !== last) [last, since] = [remaining, now]
      if (now - since > 60_000) throw new Error(`nothing was done for a minute; ${remaining} left`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  })

const peerThroughput = (bench: Bench, setting: Setting): Promise<Sample> =>
  onFreshDatabase(bench.server, async (url) => {
    const { peer, concurrency, share } = setting
    const runs = Math.max(4 * concurrency, Math.round(bench.sizes.runs * share))
    const all = runs + warmOf(runs)
    await enqueue(setting, url, all)
    const { result, commits, walBytes } = await observed(bench.server, url, () =>
      using(async ({ tell }) => {
        const options = { url, concurrency }
        const remaining = await tell<string>({ say: "worker", peer, options })
        const before = await tell<number>({ say: "cpu" })
        // some are quicker than the answer to their start
        const [perSecond] = await Promise.all([
          drained(url, remaining, runs),
          tell({ say: "start" }),
        ])
        const after = await tell<number>({ say: "cpu" })
        await tell({ say: "close" })
        return { perSecond, cpu: (after - before) / 1000 }
      }),
    )
    return {
      value: result.perSecond,
      extras: {
        "commits per run": commits / all,
        "WAL bytes per run": walBytes / all,
        "client CPU ms per run": result.cpu / all,
      },
    }
  })

/** A worker on an empty database, whose tables are there. */
const onWorker = <A>(
  url: string,
  { peer, concurrency }: Setting,
  use: (process: PeerProcess) => Promise<A>,
): Promise<A> =>
  using(async (process) => {
    const options = { url, concurrency }
    await process.tell({ say: "client", peer, options })
    await process.tell({ say: "close" })
    return using(async (worker) => {
      await worker.tell({ say: "worker", peer, options })
      await worker.tell({ say: "start" })
      const result = await use(worker)
      await worker.tell({ say: "close" })
      return result
    })
  })

export const peerCases: ReadonlyArray<Case> = [
  {
    id: "W1",
    title: "runs of three steps, all enqueued, one worker process",
    prepare: (bench) => ({
      contenders: [
        ...settings.map((setting): Contender => ({
          name: setting.name,
          unit: "runs/s",
          measure: () => peerThroughput(bench, setting),
        })),
        ...bench.sizes.concurrency.map((concurrency): Contender => {
          const label = `flowly, at ${concurrency}`
          return {
            name: label,
            unit: "runs/s",
            against: settings.map(({ name }) => name),
            measure: () => engineSample(bench, { label, driver: "url", concurrency }),
          }
        }),
      ],
    }),
  },
  {
    id: "W2",
    title: "latency of an idle engine in one process: start to result, one step (p50)",
    prepare: (bench) => ({
      contenders: [
        ...oneOfEach.map((setting): Contender => ({
          name: setting.name,
          unit: "ms",
          measure: () =>
            latencySample(bench, (url, count) =>
              onWorker(url, setting, ({ tell }) => tell({ say: "latency", count })),
            ),
        })),
        {
          name: "flowly",
          unit: "ms",
          against: oneOfEach.map(({ name }) => name),
          measure: () => latencySample(bench, (url, count) => sameProcess("url", url, count)),
        },
      ],
    }),
  },
  {
    id: "W3",
    title: "one run of many sequential steps",
    prepare: (bench) => ({
      contenders: [
        ...withSteps.map((setting): Contender => ({
          name: setting.name,
          unit: "steps/s",
          measure: () =>
            onFreshDatabase(bench.server, async (url) => {
              const count = bench.sizes.steps
              const value = await onWorker(url, setting, ({ tell }) =>
                tell<number>({ say: "sequence", count }),
              )
              return { value }
            }),
        })),
        {
          name: "flowly",
          unit: "steps/s",
          against: withSteps.map(({ name }) => name),
          measure: () => longRun(bench, "url"),
        },
      ],
    }),
  },
]
