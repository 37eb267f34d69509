/**
 * W2: latency of an idle engine: from `trigger` to `handle.result()`, one step.
 *
 * In one process, and with the worker in another. The limits: two raw commits (a run that is
 * inserted as claimed, then its step and end); and insert + NOTIFY, claim, step + end + NOTIFY, read.
 */
import { onFreshDatabase } from "../database.ts"
import { type Driver, migrate, openEngine } from "../flowly/worker.ts"
import { oneStep } from "../flowly/workflows.ts"
import type { Bench, Case, Contender, Sample } from "../model.ts"
import { openWorker } from "../process/workers.ts"
import { latencies, rawOtherProcess, rawSameProcess } from "../raw/latency.ts"
import { quantile } from "../statistics.ts"

/** Milliseconds of each sample. */
export const sameProcess = async (driver: Driver, url: string, count: number) => {
  await migrate(url)
  const { engine, close } = openEngine(driver, url, undefined, [oneStep])
  await engine.start()
  const taken = await latencies(count, async (n) => {
    const handle = await engine.trigger(oneStep, { input: { n } })
    await handle.result()
  })
  await close()
  return taken
}

const otherProcess = async (driver: Driver, url: string, count: number) => {
  await migrate(url)
  const workflow = oneStep.name
  const worker = await openWorker({ kind: "flowly", driver, url, workflow, concurrency: 5 })
  const { engine, close } = openEngine(driver, url, undefined, [oneStep])
  try {
    await worker.start()
    const taken = await latencies(count, async (n) => {
      const handle = await engine.trigger(oneStep, { input: { n } })
      await handle.result()
    })
    await worker.stop()
    return taken
  } finally {
    worker.kill()
    await close()
  }
}

/** Takes so many samples on a fresh database. */
export type Take = (url: string, count: number) => Promise<ReadonlyArray<number>>

/** The median, and the slow ones beside it. */
export const latencySample = (bench: Bench, take: Take): Promise<Sample> =>
  onFreshDatabase(bench.server, async (url) => {
    const taken = await take(url, bench.sizes.latencies)
    const [p50, p95] = [quantile(taken, 0.5), quantile(taken, 0.95)]
    return { value: p50, extras: { "p95 ms": p95, "p95 / p50": p95 / p50 } }
  })

export const w2: Case = {
  id: "W2",
  title: "latency of an idle engine: trigger to handle.result(), one step (p50)",
  prepare: (bench) => {
    const [rawSame, rawOther] = ["raw, same process", "raw NOTIFY, another process"]
    const contender = (name: string, take: Take, against?: string): Contender => ({
      name,
      unit: "ms",
      ...(against === undefined ? {} : { against: [against] }),
      measure: () => latencySample(bench, take),
    })
    return {
      contenders: [
        contender(rawSame, rawSameProcess),
        contender("flowly url, same process", (...a) => sameProcess("url", ...a), rawSame),
        contender("flowly pool, same process", (...a) => sameProcess("pool", ...a), rawSame),
        contender(rawOther, rawOtherProcess),
        contender("flowly url, another process", (...a) => otherProcess("url", ...a), rawOther),
        contender("flowly pool, another process", (...a) => otherProcess("pool", ...a), rawOther),
      ],
      targets: [
        { of: /^flowly url, same/, figure: "value", atMost: 2 },
        { of: /^flowly url, same/, figure: "p95 / p50", atMost: 2 },
        { of: /^flowly url, another/, figure: "value", over: rawOther, atMost: 1.5 },
        { of: /^flowly url, another/, figure: "p95 / p50", atMost: 2 },
      ],
    }
  },
}
