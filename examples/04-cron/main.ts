// Cron: each tick of a schedule starts one run, whatever the number of workers.
// Run it: npm run example:04
import assert from "node:assert/strict"
import { defineWorkflow, DurableEngine, FlowlyError } from "flowly"
import { openDatabase } from "../support/postgres.ts"

const runs: Array<string> = []
const enough = Promise.withResolvers<void>()
const report = defineWorkflow("report", async (ctx, input: { of: string }) => {
  await ctx.step("write", async () => {
    runs.push(ctx.workflowRunId)
    console.log(`  ${new Date().toISOString()}  the report of ${input.of}`)
    if (runs.length === 3) enough.resolve()
  })
})

const database = await openDatabase()
const workers = [1, 2, 3].map(
  (number) =>
    new DurableEngine({
      url: database.url,
      workflows: [report],
      worker: { workerId: `worker-${number}`, pollIntervalMs: 200 },
    }),
)
const [engine] = workers as [DurableEngine, ...Array<DurableEngine>]
await engine.migrate()
for (const worker of workers) await worker.start()

const weekly = await engine.schedule(report, {
  cron: "0 9 * * 1", // Mondays at nine, in Berlin, summer and winter
  timeZone: "Europe/Berlin",
  key: "weekly-report",
  input: { of: "the week" },
})
console.log(`"${weekly.key}" runs next at ${weekly.nextRun.toISOString()}`)
assert.equal(weekly.nextRun.getUTCDay(), 1)

console.log("Every other second, with three workers (six fields: the first one is seconds):")
const began = Date.now()
await engine.schedule(report, { cron: "*/2 * * * * *", input: { of: "the last two seconds" } })
await enough.promise
assert.ok(await engine.unschedule("report")) // the key, unless given, is the workflow's name
const ticks = Math.ceil((Date.now() - began) / 2000)
assert.ok(runs.length <= ticks, `${ticks} ticks, ${runs.length} runs`)

console.log("Mistakes are told at once:")
for (const cron of ["0 25 * * *", "0 0 30 2 *", "0 9 * * 5L"]) {
  const error = await engine
    .schedule(report, { cron, input: { of: "nothing" } })
    .catch((reason: unknown) => reason)
  assert.ok(error instanceof FlowlyError && error.code === "InvalidInput")
  console.log(`  ${error.message}`)
}

for (const worker of workers) await worker.stop()
await database.close()
