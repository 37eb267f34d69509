/** W9: what features cost, as a part of W1. Telemetry is not among them yet. */
import { type Case, type Contender, typical } from "../model.ts"
import { withCompensation, withRetries, withSchema } from "../flowly/workflows.ts"
import { engineSample } from "./throughput.ts"

export const w9: Case = {
  id: "W9",
  title: "the cost of features, as a part of W1",
  prepare: (bench) => {
    const concurrency = typical(bench.sizes)
    const plain = "three steps, nothing else"
    const feature = (
      name: string,
      options: Partial<Parameters<typeof engineSample>[1]>,
    ): Contender => ({
      name,
      unit: "runs/s",
      ...(name === plain ? {} : { against: [plain] }),
      measure: () => engineSample(bench, { label: name, driver: "url", concurrency, ...options }),
    })
    return {
      contenders: [
        feature(plain, {}),
        feature("retries and a timeout on each step", { workflow: withRetries }),
        feature("compensation on each step", { workflow: withCompensation }),
        feature("a Zod schema on input and results", { workflow: withSchema }),
        feature("a listener on every hook", { hooks: true }),
      ],
    }
  },
}
