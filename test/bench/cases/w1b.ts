/** W1b: the same in the Effect API, with Schemas on payload and results. */
import { type Case, typical } from "../model.ts"
import { effectSample, engineSample } from "./throughput.ts"

export const w1b: Case = {
  id: "W1b",
  title: "the same in the Effect API, with Schemas on payload and results",
  prepare: (bench) => {
    const concurrency = typical(bench.sizes)
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
          measure: () => effectSample(bench, { label: effect, concurrency }),
        },
      ],
      targets: [{ of: /^flowly\/effect/, figure: "value", over: "flowly", atLeast: 0.8 }],
    }
  },
}
