// Testing a workflow: thirty days, retries and failures in milliseconds, without a database.
// Run it: npm run example:08   (node:test here; any test framework will do)
import assert from "node:assert/strict"
import { test } from "node:test"
import { Context, Effect, Layer, Schema } from "effect"
import { defineWorkflow } from "flowly"
import { Sleep, Step, Workflow } from "flowly/effect"
import * as Testing from "flowly/testing"

// --- For users of the promise API --------------------------------------------------------------------

const mailbox: Array<string> = []
let failures = 0
const mail = async (text: string) => {
  if (failures > 0) {
    failures--
    throw new Error("the mail server is busy")
  }
  mailbox.push(text)
}

const trial = defineWorkflow("trial", async (ctx, input: { user: string }) => {
  await ctx.step("welcome", () => mail(`welcome, ${input.user}`))
  await ctx.sleep("trial", "30 days")
  await ctx.step("goodbye", {
    run: () => mail(`goodbye, ${input.user}`),
    retry: { maxAttempts: 5, initialDelayMs: 60_000, maxDelayMs: 3_600_000 },
  })
  return "ended"
})

test("a trial ends after thirty days, and not before", async () => {
  mailbox.length = 0
  const engine = Testing.createTestEngine({ workflows: [trial] })
  const handle = await engine.trigger(trial, { input: { user: "Ada" } })

  await engine.clock.advance("29 days")
  assert.deepEqual(mailbox, ["welcome, Ada"])
  assert.equal((await handle.status())?.status, "sleeping")

  await engine.clock.advance("1 day")
  assert.deepEqual(mailbox, ["welcome, Ada", "goodbye, Ada"])
  assert.equal(await handle.result(), "ended")
  await engine.stop()
})

test("the goodbye is tried again for minutes", async () => {
  const engine = Testing.createTestEngine({ workflows: [trial] })
  const handle = await engine.trigger(trial, { input: { user: "Bob" } })
  await engine.settle()
  failures = 3 // of the goodbye: the welcome is through
  const end = await engine.runToEnd(handle) // moves the clock from one due time to the next
  assert.equal(end.status, "completed")
  const [, slept, goodbye] = await engine.history(handle)
  assert.equal(goodbye?.attempts, 4) // after 1, 2 and 4 minutes
  const waited = Number(goodbye.completedAt) - Number(slept?.completedAt)
  assert.equal(waited, (1 + 2 + 4) * 60_000)
  await engine.stop()
})

// --- For users of the Effect API ---------------------------------------------------------------------

class Mailer extends Context.Service<
  Mailer,
  { readonly send: (text: string) => Effect.Effect<void> }
>()("example/Mailer") {}

const Remind = Workflow.make("remind", {
  payload: { user: Schema.String },
  success: Schema.String,
})

const RemindLive = Remind.toLayer(
  Effect.fnUntraced(function* ({ user }) {
    yield* Sleep.make("a month", "30 days")
    yield* Step.make("remind", {
      run: Effect.flatMap(Mailer, (mailer) => mailer.send(`remember, ${user}`)),
    })
    return `reminded ${user}`
  }),
)

test("a reminder, with a service of the test and the clock of the test", async () => {
  const sent: Array<string> = []
  const MailerTest = Layer.succeed(Mailer, {
    send: (text) => Effect.sync(() => void sent.push(text)),
  })
  const App = RemindLive.pipe(Layer.provideMerge(Testing.layer()), Layer.provide(MailerTest))

  const program = Effect.gen(function* () {
    const handle = yield* Workflow.trigger(Remind, { user: "Ada" })
    yield* Testing.advance("29 days")
    assert.deepEqual(sent, [])
    yield* Testing.advance("1 day") // with @effect/vitest: TestClock.adjust("1 day")
    assert.deepEqual(sent, ["remember, Ada"])
    return yield* handle.result
  })
  assert.equal(await Effect.runPromise(Effect.provide(program, App)), "reminded Ada")
})
