// Sleep that outlives the process: one engine begins a run and stops, another one finishes it.
// Run it: npm run example:03
import assert from "node:assert/strict"
import { defineWorkflow, DurableEngine } from "flowly"
import { openDatabase } from "../support/postgres.ts"

let welcomed = 0
const trial = defineWorkflow("trial", async (ctx, input: { user: string; endsAt: Date }) => {
  const welcomedAt = await ctx.step("welcome", async () => {
    welcomed++
    console.log(`  welcome, ${input.user}`)
    return new Date() // values come back as what they were: Date, Map, Set, BigInt, undefined …
  })
  await ctx.sleep("first-days", "2 seconds") // "14 days" would cost as little: a row
  await ctx.step("remind", async () => console.log("  your trial ends soon"))
  await ctx.sleepUntil("end", input.endsAt)
  return { welcomedAt, endedAt: await ctx.sideEffect("now", () => new Date()) }
})

const database = await openDatabase()
const openEngine = () => new DurableEngine({ url: database.url, workflows: [trial] })

console.log("A first process begins the run, and stops while it sleeps:")
const first = openEngine()
await first.migrate()
await first.start()
const endsAt = new Date(Date.now() + 4000)
const { workflowRunId } = await first.trigger(trial, { input: { user: "Ada", endsAt } })
while ((await first.getStatus(workflowRunId))?.status !== "sleeping") await pause(50)
await first.stop()

console.log("Nobody works on it now. A process that only asks sees what it waits for:")
const second = openEngine()
const asleep = await second.getStatus(workflowRunId)
assert.ok(asleep?.status === "sleeping")
console.log(`  ${asleep.status}, at "${asleep.currentStep}"`)

console.log("That process starts to work, and the run goes on where it was:")
await second.start()
const result = await second.handle(trial, workflowRunId).result()
assert.ok(result.welcomedAt instanceof Date)
assert.ok(result.endedAt >= endsAt, "a sleep never ends early")
assert.equal(welcomed, 1, "the step is remembered")
console.log(`  ended ${result.endedAt.getTime() - endsAt.getTime()} ms after the date it slept for`)

await second.stop()
await database.close()

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds)
  })
}
