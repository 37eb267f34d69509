// Retries with backoff, errors that are not worth a retry, timeouts, and runs that are given up.
// Run it: npm run example:02
import assert from "node:assert/strict"
import { defineWorkflow, DurableEngine, FlowlyError } from "flowly"
import { openDatabase } from "../support/postgres.ts"

class BadAddress extends Error {
  override readonly name = "BadAddress"
}

let isDown = true
const report = defineWorkflow("report", async (ctx) => {
  // Fails twice; waits 100 ms, then 200 ms.
  const numbers = await ctx.step("collect", {
    run: async ({ attempt }) => {
      console.log(`  collect, try ${attempt}`)
      if (attempt < 3) throw new Error("the service is busy")
      return [1, 2, 3]
    },
    retry: { maxAttempts: 5, backoff: "exponential", initialDelayMs: 100, jitter: false },
  })

  // A slow service gets 200 ms, and is told to stop by the signal. What failed for good can be
  // caught like any error; replay will take the same way.
  const exchangeRate = await ctx
    .step("exchange-rate", {
      run: async ({ signal }) => {
        console.log("  exchange-rate, from a service that does not answer")
        await untilAborted(signal)
        return 1.1
      },
      timeoutMs: 200,
    })
    .catch((error: unknown) => {
      assert.ok(error instanceof FlowlyError && error.code === "StepTimeout")
      console.log(`  ${error.message}: going on with the rate of yesterday`)
      return 1
    })

  // Some errors stay the same however often we try.
  await ctx
    .step("mail", {
      run: async () => {
        console.log("  mail")
        throw new BadAddress("no such mailbox")
      },
      retry: { maxAttempts: 5, retryIf: (error) => !(error instanceof BadAddress) },
    })
    .catch((error: unknown) => console.log(`  not retried: ${error}`))

  return numbers.map((number) => number * exchangeRate)
})

const upload = defineWorkflow("upload", async (ctx) => {
  console.log(`  upload, attempt ${ctx.attempt} of the run`)
  const size = await ctx.step("compress", async () => {
    console.log("  compress")
    return 42
  })
  await ctx.step("send", async () => {
    if (isDown) throw new Error("the archive is down")
    console.log("  sent")
  })
  return size
})

const database = await openDatabase()
const engine = new DurableEngine({ url: database.url, workflows: [report, upload] })
await engine.migrate()
await engine.start()

console.log("Retries and timeouts of steps:")
const reported = await engine.trigger(report)
assert.deepEqual(await reported.result(), [1, 2, 3])

console.log("A run that is tried twice, and then set aside:")
const uploaded = await engine.trigger(upload, { maxAttempts: 2 })
await assert.rejects(uploaded.result())
const [deadLetter] = await engine.getDeadLetterRuns({ workflow: "upload" })
assert.equal(deadLetter?.workflowRunId, uploaded.workflowRunId)
console.log(`  it is a ${deadLetter?.status}. The archive is mended, and somebody retries it:`)
isDown = false
await engine.retryDeadLetter(uploaded.workflowRunId)
assert.equal(await uploaded.result(), 42) // compressed once: completed steps are kept

await engine.stop()
await database.close()

function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason))
  })
}
