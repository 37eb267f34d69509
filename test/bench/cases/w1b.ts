/** W1b: the same in the Effect API, with Schemas on payload and results. */
import { onFreshDatabase } from "../database.ts"
import { enqueueEffect } from "../flowly/effectWorker.ts"
import { type Case, typical } from "../model.ts"
import { engineSample, executed, warmOf } from "./throughput.ts"

export const w1b: Case = {
  id: "W1b",
  title: "the same in the Effect API, with Schemas on payload and results",
  prepare: (bench) => {
    const concurrency = typical(bench.sizes)
    const { runs } = bench.sizes
    const [promise, effect] = [`flowly, at ${concurrency}`, `flowly/effect, at ${concurrency}`]
    return {
      contenders: [
        {
          name: promise,
          unit: "runs/s",
          measure: () => engineSample(bench, { label: promise, driver: "url", concurrency }),
        },
        {
          name: effect,
          unit: "runs/s",
          against: [promise],
          measure: () =>
            onFreshDatabase(bench.server, async (url) => {
              await enqueueEffect(url, runs + warmOf(runs))
              const jobs = [{ kind: "effect" as const, url, concurrency }]
              return executed(bench, { label: effect, url, jobs, runs })
            }),
        },
      ],
      targets: [{ of: /^flowly\/effect/, figure: "value", over: "flowly", atLeast: 0.8 }],
    }
  },
}
