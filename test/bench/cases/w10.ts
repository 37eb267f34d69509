/**
 * W10: a slower disk, and a network. Both contenders under the same conditions.
 *
 * The disk: every commit waits 2 ms before its flush (`commit_delay`). The network: a proxy, in a
 * process of its own, hands each packet to the server 1 ms later.
 */
import { withClient } from "../../support/provision.ts"
import { type Case, type Contender, typical } from "../model.ts"
import { freePort, through } from "../process/proxy.ts"
import { openWorker } from "../process/workers.ts"
import { engineSample, rawSample } from "./throughput.ts"
import { longRun, rawLongRun } from "./w3.ts"

export const w10: Case = {
  id: "W10",
  title: "a slower disk (commit_delay of 2 ms), and a network (1 ms)",
  prepare: async (bench) => {
    const concurrency = typical(bench.sizes)
    const port = await freePort()
    const proxy = await openWorker({ kind: "proxy", target: bench.server, port, latencyMs: 1 })
    const ways = {
      "2 ms disk": slowCommits,
      "1 ms network": async (url: string) => through(url, port),
    }
    return {
      contenders: Object.entries(ways).flatMap(([kind, way]): ReadonlyArray<Contender> => {
        const [raw, flowly] = [`raw group commit, ${kind}`, `flowly runs, ${kind}`]
        const [fenced, steps] = [`raw fenced insert, ${kind}`, `flowly steps, ${kind}`]
        const common = { driver: "url" as const, concurrency, way }
        return [
          {
            name: raw,
            unit: "runs/s",
            measure: () => rawSample(bench, { ...common, label: raw }),
          },
          {
            name: flowly,
            unit: "runs/s",
            against: [raw],
            measure: () => engineSample(bench, { ...common, label: flowly }),
          },
          { name: fenced, unit: "steps/s", measure: () => rawLongRun(bench, true, way) },
          {
            name: steps,
            unit: "steps/s",
            against: [fenced],
            measure: () => longRun(bench, "url", way),
          },
        ]
      }),
      targets: Object.keys(ways).flatMap((kind) => [
        { of: named(`flowly runs, ${kind}`), figure: "value", over: "raw", atLeast: 0.6 },
        { of: named(`flowly steps, ${kind}`), figure: "value", over: "raw", atLeast: 0.9 },
      ]),
      close: async () => void (await proxy.stop()),
    }
  },
}

const named = (name: string) => new RegExp(`^${name}$`)

/** Sessions from now on wait before each flush, also when no other transaction is open. */
const slowCommits = async (url: string): Promise<string> => {
  const name = new URL(url).pathname.slice(1)
  await withClient(url, async (client) => {
    await client.query(`alter database ${name} set commit_delay = 2000`)
    await client.query(`alter database ${name} set commit_siblings = 0`)
  })
  return url
}
