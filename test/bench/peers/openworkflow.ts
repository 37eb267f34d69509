/** OpenWorkflow. It has no settings but the concurrency; its handles poll once a second. */
import { OpenWorkflow } from "openworkflow"
import { BackendPostgres } from "openworkflow/postgres"
import { inPortions, type Options, type Peer } from "./peer.ts"

const open = async ({ url }: Options) => {
  const backend = await BackendPostgres.connect(url)
  const client = new OpenWorkflow({ backend })
  const threeSteps = client.defineWorkflow<number, { n: number }>(
    { name: "three-steps" },
    async ({ input, step }) => {
      let n = input
      for (const name of ["one", "two", "three"]) n = await step.run({ name }, () => n + 1)
      return { n }
    },
  )
  const oneStep = client.defineWorkflow<number, number>({ name: "one-step" }, ({ input, step }) =>
    step.run({ name: "one" }, () => input + 1),
  )
  const sequence = client.defineWorkflow<number, number>(
    { name: "sequence" },
    async ({ input, step }) => {
      let n = 0
      for (let at = 1; at <= input; at++) n = await step.run({ name: `step ${at}` }, () => n + 1)
      return n
    },
  )
  return { backend, client, threeSteps, oneStep, sequence }
}

export const openworkflow: Peer = {
  remaining: `select count(*)::int as remaining from openworkflow.workflow_runs
    where status in ('pending', 'running', 'sleeping')`,
  client: async (options) => {
    const { backend, threeSteps } = await open(options)
    return {
      enqueue: (runs) => inPortions(runs, 100, (n) => threeSteps.run(n)),
      close: () => backend.stop(),
    }
  },
  worker: async (options) => {
    const { backend, client, oneStep, sequence } = await open(options)
    const worker = client.newWorker({ concurrency: options.concurrency })
    return {
      start: () => worker.start(),
      latency: async (n) => void (await (await oneStep.run(n)).result()),
      sequence: async (steps) => {
        const handle = await sequence.run(steps)
        if ((await handle.result()) !== steps) throw new Error("steps are missing")
      },
      close: async () => {
        await worker.stop()
        await backend.stop()
      },
    }
  },
}
