/**
 * W3: one run, its steps one after another: what a step costs that waits for nobody.
 *
 * The limit is the fenced insert of one row on one connection; the bare one is beside it.
 */
import { observed, onFreshDatabase, topStatements } from "../database.ts"
import { type Driver, migrate, openEngine } from "../flowly/worker.ts"
import { sequence } from "../flowly/workflows.ts"
import type { Bench, Case, Contender, Sample } from "../model.ts"
import { rawSequence } from "../raw/sequence.ts"
import { createRawTables, enqueueRaw } from "../raw/tables.ts"

/** From the trigger to the end, in the process of the worker. */
export const longRun = (
  bench: Bench,
  driver: Driver,
  way: (url: string) => Promise<string> = (url) => Promise.resolve(url),
): Promise<Sample> =>
  onFreshDatabase(bench.server, async (url) => {
    const { steps } = bench.sizes
    await migrate(url)
    const { result, commits, walBytes, statements } = await observed(
      bench.server,
      url,
      async () => {
        const { engine, close } = openEngine(driver, await way(url), undefined, [sequence])
        await engine.start()
        const before = performance.now()
        const handle = await engine.trigger(sequence, { input: { steps } })
        const { n } = await handle.result()
        const seconds = (performance.now() - before) / 1000
        await close()
        if (n !== steps) throw new Error(`${n} steps ran, not ${steps}`)
        return steps / seconds
      },
    )
    if (bench.statements) for (const line of topStatements(statements)) bench.say(`    ${line}`)
    const extras = { "commits per step": commits / steps, "WAL bytes per step": walBytes / steps }
    return { value: result, extras }
  })

/** The raw loops, on the same way to the database. */
export const rawLongRun = (
  bench: Bench,
  fence: boolean,
  way: (url: string) => Promise<string> = (url) => Promise.resolve(url),
): Promise<Sample> =>
  onFreshDatabase(bench.server, async (url) => {
    const { steps } = bench.sizes
    const through = await way(url)
    await createRawTables(url)
    await enqueueRaw(url, 1, crypto.randomUUID())
    const { result, commits, walBytes } = await observed(bench.server, url, () =>
      rawSequence({ url: through, steps, fence }),
    )
    const extras = { "commits per step": commits / steps, "WAL bytes per step": walBytes / steps }
    return { value: result, extras }
  })

export const w3: Case = {
  id: "W3",
  title: "one run of many sequential steps",
  prepare: (bench) => {
    const [fenced, bare] = ["raw fenced insert", "raw bare insert"]
    const flowly = (driver: Driver): Contender => ({
      name: `flowly ${driver}`,
      unit: "steps/s",
      against: bench.quick ? [fenced] : [fenced, bare],
      measure: () => longRun(bench, driver),
    })
    return {
      contenders: [
        { name: fenced, unit: "steps/s", measure: () => rawLongRun(bench, true) },
        flowly("url"),
        ...(bench.quick
          ? []
          : [{ name: bare, unit: "steps/s", measure: () => rawLongRun(bench, false) }]),
        flowly("pool"),
      ],
      targets: [{ of: /^flowly url/, figure: "value", over: fenced, atLeast: 0.9 }],
    }
  },
}
