/**
 * W9: what features cost, as a part of W1.
 *
 * The engine makes no spans of runs and steps by itself: who wants them makes them of the lifecycle,
 * and that is measured, with the exporters of Effect and a collector in another process.
 */
import { type Bench, type Case, type Contender, type Sample, typical } from "../model.ts"
import { withCompensation, withRetries, withSchema } from "../flowly/workflows.ts"
import { openCollector } from "../process/collector.ts"
import { effectSample, engineSample, warmOf } from "./throughput.ts"

export const w9: Case = {
  id: "W9",
  title: "the cost of features, as a part of W1",
  prepare: (bench) => {
    const concurrency = typical(bench.sizes)
    const plain = "three steps, nothing else"
    const plainEffect = "the Effect API, with Schemas"
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
        feature("each value encrypted, AES-256-GCM", { encrypted: true }),
        {
          name: plainEffect,
          unit: "runs/s",
          against: [plain],
          measure: () => effectSample(bench, { label: plainEffect, concurrency }),
        },
        {
          name: "OpenTelemetry on, in the Effect API",
          unit: "runs/s",
          against: [plainEffect],
          measure: () => traced(bench, concurrency),
        },
      ],
    }
  },
}

/** Of each run: its own span and those of three steps. */
const spansPerRun = 4

const traced = async (bench: Bench, concurrency: number): Promise<Sample> => {
  const collector = await openCollector()
  try {
    const sample = await effectSample(bench, {
      label: "OpenTelemetry",
      concurrency,
      collector: collector.url,
    })
    const { runs } = bench.sizes
    const all = (runs + warmOf(runs)) * spansPerRun
    if (collector.spans() !== all) {
      throw new Error(`${collector.spans()} of ${all} spans reached the collector`)
    }
    if (collector.metrics() === 0) throw new Error("no metrics reached the collector")
    return { ...sample, extras: { ...sample.extras, "spans per run": spansPerRun } }
  } finally {
    collector.close()
  }
}
