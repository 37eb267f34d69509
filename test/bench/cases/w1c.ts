/** W1c: three worker processes on one database: what contention costs. */
import { type Case, typical } from "../model.ts"
import { engineSample } from "./throughput.ts"

export const w1c: Case = {
  id: "W1c",
  title: "the same with three worker processes on one database",
  prepare: (bench) => {
    const concurrency = typical(bench.sizes)
    const name = (processes: number) =>
      `${processes === 1 ? "one process" : `${processes} processes`}, at ${concurrency}`
    const sample = (processes: number) => () =>
      engineSample(bench, { label: name(processes), driver: "url", concurrency, processes })
    return {
      contenders: [
        { name: name(1), unit: "runs/s", measure: sample(1) },
        { name: name(3), unit: "runs/s", against: [name(1)], measure: sample(3) },
      ],
      targets: [
        { of: /^3 processes/, figure: "value", over: "one process", atLeast: 1 },
        { of: /^3 processes/, figure: "claim statements per run", atMost: 0.1 },
      ],
    }
  },
}
