/**
 * How fast, against the least that a durable engine could do.
 *
 * Each case measures the engine and the raw loop that is its limit, in turns, on the same server,
 * round by round; a ratio is the median of the rounds' ratios, for what slows the machine slows
 * both. Nothing does less than an application would: a commit that is durable before a step's
 * promise resolves, fences, heartbeats, the default codec.
 *
 * `--help` tells the options. The JSON that it writes is what `report.ts` puts into the README.
 */
import { cases } from "./cases/index.ts"
import { measureAll, type Report } from "./measure.ts"
import { help, type Options, readOptions } from "./options.ts"
import { openServer } from "./server.ts"
import { show } from "./statistics.ts"

/** A quick run checks one thing: that runs share commits. */
const costly = (findings: Report["cases"]): ReadonlyArray<string> =>
  (findings["W1"]?.contenders ?? [])
    .filter(({ name }) => name.startsWith("flowly"))
    .flatMap(({ name, extras }) => {
      const commits = extras["commits per run"] ?? Number.NaN
      return commits < 1 ? [] : [`${name}: ${show(commits)} commits per run, must be below 1`]
    })

const say = (line: string) => console.log(line)

const main = async (options: Options): Promise<boolean> => {
  const server = await openServer()
  try {
    const { sizes, statements, quick } = options
    const bench = { server: server.url, sizes, quick, statements, say }
    const findings = await measureAll(options.cases, server, bench, options)
    const broken = Object.values(findings).some(({ error }) => error !== undefined)
    const problems = quick ? costly(findings) : []
    for (const problem of problems) console.error(problem)
    return !broken && problems.length === 0
  } finally {
    await server.stop()
  }
}

const options = readOptions(cases)
if (options.help) say(help(cases))
else process.exitCode = (await main(options)) ? 0 : 1
