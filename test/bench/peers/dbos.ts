/**
 * DBOS. Its best setting: a queue that is polled every 10 ms with LISTEN/NOTIFY on, no tracing, and
 * a pool that its concurrency can use. Latency is of a direct start, which waits for no queue.
 */
import { DBOS } from "@dbos-inc/dbos-sdk"
import { inPortions, type Options, type Peer } from "./peer.ts"

const queueName = "bench"

const threeSteps = DBOS.registerWorkflow(
  async (input: number) => {
    let n = input
    for (const name of ["one", "two", "three"]) {
      n = await DBOS.runStep(async () => n + 1, { name })
    }
    return { n }
  },
  { name: "threeSteps" },
)

const oneStep = DBOS.registerWorkflow(
  (n: number) => DBOS.runStep(async () => n + 1, { name: "one" }),
  { name: "oneStep" },
)

const sequence = DBOS.registerWorkflow(
  async (steps: number) => {
    let n = 0
    for (let step = 1; step <= steps; step++) {
      n = await DBOS.runStep(async () => n + 1, { name: `step ${step}` })
    }
    return n
  },
  { name: "sequence" },
)

const launch = async ({ url, concurrency }: Options, listenQueues?: Array<string>) => {
  DBOS.setConfig({
    name: "bench",
    systemDatabaseUrl: url,
    systemDatabasePoolSize: 20,
    applicationVersion: "1",
    useListenNotify: true,
    logLevel: "error",
    enableOTLP: false,
    ...(listenQueues === undefined ? {} : { listenQueues }),
  })
  await DBOS.launch()
  await DBOS.registerQueue(queueName, {
    workerConcurrency: concurrency,
    minPollingIntervalMs: 10,
    onConflict: "always_update",
  })
}

export const dbos: Peer = {
  remaining: `select count(*)::int as remaining from dbos.workflow_status
    where status in ('ENQUEUED', 'PENDING')`,
  client: async (options) => {
    await launch(options, ["none"])
    const start = DBOS.startWorkflow(threeSteps, { queueName })
    return {
      enqueue: (runs) => inPortions(runs, 200, (n) => start(n)),
      close: () => DBOS.shutdown(),
    }
  },
  worker: async (options) => ({
    start: () => launch(options),
    latency: async (n) => {
      const handle = await DBOS.startWorkflow(oneStep)(n)
      await handle.getResult()
    },
    sequence: async (steps) => {
      const handle = await DBOS.startWorkflow(sequence)(steps)
      if ((await handle.getResult()) !== steps) throw new Error("steps are missing")
    },
    close: () => DBOS.shutdown(),
  }),
}
