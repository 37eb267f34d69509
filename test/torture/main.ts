/** `npm run test:torture`: plays scenarios, shows how far it is, reports. See README.md. */
import { InvalidOption, parseOptions, usage } from "./options.ts"
import { playAll } from "./play.ts"
import { scenarios } from "./scenarios/index.ts"

// what is left is ended with us
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130))

const main = async (): Promise<number> => {
  const options = parseOptions(process.argv.slice(2), process.env, scenarios)
  if (options === null) {
    console.log(usage(scenarios))
    return 0
  }
  return playAll(options)
}

process.exitCode = await main().catch((error: unknown) => {
  if (!(error instanceof InvalidOption)) throw error
  console.error(error.message)
  return 2
})
