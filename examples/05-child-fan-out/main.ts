// Fan-out: a run starts children, waits for all of them, and holds no slot while it waits.
// Run it: npm run example:05
import assert from "node:assert/strict"
import { defineWorkflow, DurableEngine, FlowlyError } from "flowly"
import { openDatabase } from "../support/postgres.ts"

const page = defineWorkflow("page", async (ctx, input: { number: number }) => {
  const words = await ctx.step("read", async () => {
    if (input.number === 5) throw new Error("page 5 is missing")
    return input.number * 100
  })
  await ctx.emit("page-read", { number: input.number })
  return words
})

const book = defineWorkflow("book", async (ctx, input: { pages: number }) => {
  const numbers = Array.from({ length: input.pages }, (_, index) => index + 1)
  const words = await Promise.all(
    numbers.map((number) =>
      // Each child is a run of its own: it may execute in another process, and it is started once,
      // however often this function is replayed. A child that fails can be caught.
      ctx.workflow(page, { number }, { name: `page-${number}` }).catch((error: unknown) => {
        assert.ok(error instanceof FlowlyError && error.code === "ChildFailed")
        console.log(`  ${error.message}`)
        return 0
      }),
    ),
  )
  return words.reduce((sum, one) => sum + one, 0)
})

const database = await openDatabase()
const engine = new DurableEngine({
  url: database.url,
  workflows: [book, page],
  worker: { maxConcurrent: 2 }, // two runs at a time, parents included
})
await engine.migrate()
await engine.start()

const events: Array<unknown> = []
const stopListening = engine.on("page-read", ({ data }) => events.push(data))

const handle = await engine.trigger(book, { input: { pages: 8 } })
const words = await handle.result()
console.log(`  8 pages, one of them missing: ${words} words`)
assert.equal(words, 100 + 200 + 300 + 400 + 600 + 700 + 800)
while (events.length < 7) {
  await new Promise((resolve) => {
    setTimeout(resolve, 20)
  })
}
console.log(`  ${events.length} pages told that they were read`)

stopListening()
await engine.stop()
await database.close()
