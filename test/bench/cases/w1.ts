/**
 * W1: runs of three steps, all enqueued first, executed by one worker process.
 *
 * The limit is the same fenced group commit, written by hand, at the same concurrency: once with a
 * claim of its own, once with runs that are its already. At 50 also: a commit for each row, and
 * nothing else, which is the least of an engine that does not share commits.
 */
import type { Case, Contender } from "../model.ts"
import { engineSample, rawSample, singleRowsSample } from "./throughput.ts"

export const w1: Case = {
  id: "W1",
  title: "throughput: runs of three steps, all enqueued, one worker process",
  prepare: (bench) => ({
    contenders: bench.sizes.concurrency.flatMap((concurrency): ReadonlyArray<Contender> => {
      const raw = `raw group commit, at ${concurrency}`
      const claimed = `raw group commit, claimed before, at ${concurrency}`
      const single = `raw single rows, at ${concurrency}`
      const hasSingle = concurrency <= mostConnections
      const flowly = (driver: "url" | "pool"): Contender => {
        const name = `flowly ${driver}, at ${concurrency}`
        return {
          name,
          unit: "runs/s",
          against: [raw, ...(bench.quick ? [] : [claimed]), ...(hasSingle ? [single] : [])],
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
        ...(hasSingle
          ? [
              {
                name: single,
                unit: "runs/s" as const,
                measure: () => singleRowsSample(bench, concurrency),
              },
            ]
          : []),
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

/** A connection for each run under way, within the server's hundred. */
const mostConnections = 50

/** Runs per second of the fastest durable peer that was measured on 2 cores, at its best setting. */
const bestPeer = 418
