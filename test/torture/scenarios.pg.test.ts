/**
 * Tier T0 of the scenarios that break something exactly: in every test run, in half a minute. A failure
 * tells how to play it again.
 */
import { expect, inject, it } from "vitest"
import { playScenario } from "./play.ts"
import { commitCut } from "./scenarios/commitCut.ts"
import { cron } from "./scenarios/cron.ts"
import { migrationStorm } from "./scenarios/migrationStorm.ts"
import { poison } from "./scenarios/poison.ts"
import { poolSizes } from "./scenarios/poolSizes.ts"
import { shutdown } from "./scenarios/shutdown.ts"
import { starvation } from "./scenarios/starvation.ts"
import type { Server } from "./server.ts"

const notOurs = () => Promise.reject(new Error("the server of the tests is not to be stopped"))

const server = (): Server => ({
  kind: "given",
  url: inject("postgresUrl"),
  version: "as the tests chose",
  isOurs: false,
  crash: notOurs,
  restart: notOurs,
  stop: async () => undefined,
})

const seed = Number(process.env["FLOWLY_SEED"] ?? 1)

for (const scenario of [commitCut, migrationStorm, cron, starvation, poolSizes, poison, shutdown]) {
  const { id, title } = scenario
  it(`${id} ${title}`, { timeout: 90_000 }, async () => {
    const options = { tier: "T0", seed, minutes: null, times: null } as const
    const report = await playScenario(scenario, options, server(), () => undefined)
    const again = `FLOWLY_SEED=${seed} npm run test:torture -- --tier T0 --scenario ${id}`
    expect({ ...report, again }).toMatchObject({ violations: [], broke: null })
  })
}
