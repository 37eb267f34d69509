/**
 * `npm run test:simulation`: seeds of the simulation, within a budget (`usage`, below).
 */
import { registerHooks } from "node:module"

const seededUuid = new URL("seededUuid.ts", import.meta.url).href

registerHooks({
  resolve: (specifier, context, next) =>
    specifier === "uuid" && context.parentURL !== seededUuid
      ? { url: seededUuid, shortCircuit: true }
      : next(specifier, context),
})

const usage = `\
npm run test:simulation

Asked for by the environment:
  FLOWLY_SEEDS=n       so many seeds (default 200)
  FLOWLY_MINUTES=m     as many seeds as fit
  FLOWLY_FIRST=n       the first seed (default 1)
  FLOWLY_SIZE=small    as in npm test (default large)
  FLOWLY_SEED=n        this one only, with its whole timeline
  FLOWLY_CASE=file     one that was made small
  FLOWLY_KEEP_GOING=1  beyond the first that fails
  FLOWLY_SHRINK=0      what fails is shown as it is`

const [argument] = process.argv.slice(2)
if (argument === undefined) {
  const { runSeeds } = await import("./runSeeds.ts")
  process.exitCode = await runSeeds(process.env)
} else if (argument === "--help" || argument === "-h") console.log(usage)
else {
  console.error(`"${argument}" is no option\n\n${usage}`)
  process.exitCode = 2
}
