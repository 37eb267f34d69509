/**
 * W1: runs of three steps, all enqueued first, executed by one worker process.
 *
 * The limit is the same fenced group commit, written by hand, at the same concurrency: once with a
 * claim of its own, once with runs that are its already.
 */
import type { Case, Contender } from "../model.ts"
import { engineSample, rawSample } from "./throughput.ts"

export const w1: Case = {
  id: "W1",
  title: "throughput: runs of three steps, all enqueued, one worker process",
  prepare: (bench) => ({
    contenders: bench.sizes.concurrency.flatMap((concurrency): ReadonlyArray<Contender> => {
      const raw = `raw group commit, at ${concurrency}`
      const claimed = `raw group commit, claimed before, at ${concurrency}`
      const flowly = (driver: "url" | "pool"): Contender => {
        const name = `flowly ${driver}, at ${concurrency}`
        return {
          name,
          unit: "runs/s",
          against: bench.quick ? [raw] : [raw, claimed],
          measure: () => engineSample(bench, { label: name, driver, concurrency }),
        }
      }
      return [
        {
          name: raw,
          unit: "runs/s",
          measure: () => rawSample(bench, { label: raw, concurrency }),
        },
        flowly("url"),
        ...(bench.quick
          ? []
          : [
              {
                name: claimed,
                unit: "runs/s",
                measure: () => rawSample(bench, { label: claimed, concurrency, claimed: true }),
              },
            ]),
        flowly("pool"),
      ]
    }),
    targets: [
      { of: /^flowly url/, figure: "value", over: "raw group commit, at", atLeast: 0.6 },
      { of: /^flowly url/, figure: "value", atLeast: 20 * bestPeer },
      { of: /^flowly url/, figure: "commits per run", atMost: 0.1 },
      { of: /^flowly url/, figure: "client CPU ms per run", atMost: 0.12 },
      { of: /^flowly url/, figure: "WAL bytes per run", over: "raw group commit, at", atMost: 1.6 },
    ],
  }),
}

/** Runs per second of the fastest durable peer that was measured on 2 cores, at its best setting. */
const bestPeer = 418
