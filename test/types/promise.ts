/**
 * What of the promise API must compile, and what must not. Never run: `npm run typecheck` is the
 * test, in which an expected error that does not come is an error.
 */
import * as v from "valibot"
import { z } from "zod"
import {
  type AnyWorkflow,
  defineWorkflow,
  type DurableEngine,
  type RunHandle,
  type WorkflowDefinition,
  type WorkflowStatus,
} from "flowly"
import { same } from "./same.ts"

declare const engine: DurableEngine

// --- definitions infer input and result ---------------------------------------

const noInput = defineWorkflow("no input", async (ctx) => ctx.attempt)
same<typeof noInput, WorkflowDefinition<undefined, number>>(true)

const withInput = defineWorkflow("input", async (_, input: { id: string }) => input.id.length)
same<typeof withInput, WorkflowDefinition<{ id: string }, number>>(true)

const plain = defineWorkflow("sync", (_, input: number) => `${input}`)
same<typeof plain, WorkflowDefinition<number, string>>(true)

const never = defineWorkflow("never returns", () => {
  throw new Error("no")
})
const optional = defineWorkflow("optional", async (_, input?: { a: number }) => input?.a)

const all: ReadonlyArray<AnyWorkflow> = [noInput, withInput, plain, never, optional]

const zodInput = defineWorkflow("zod", async (_, input) => input.count, {
  input: z.object({ count: z.number() }),
})
same<typeof zodInput, WorkflowDefinition<{ count: number }, number>>(true)

const valibotInput = defineWorkflow("valibot", async (_, input) => input.count, {
  input: v.object({ count: v.number() }),
})
same<typeof valibotInput, WorkflowDefinition<{ count: number }, number>>(true)

defineWorkflow("wrong", async (_, input: { id: string }) => input.id, {
  // @ts-expect-error the schema does not give what the body takes
  input: z.object({ count: z.number() }),
})

// --- waits: a timeout is in the type where one was asked for ---------------------

export const waits = defineWorkflow("waits", async (ctx) => {
  const forever = await ctx.waitForEvent<number>("a")
  same<typeof forever.payload, number>(true)
  const timed = await ctx.waitForEvent("b", { timeout: "1 day", schema: z.string() })
  // @ts-expect-error there may have been none
  void timed.payload.length
  return timed.timedOut ? 0 : timed.payload.length
})

// @ts-expect-error a name is text
defineWorkflow(5, () => 1)

// --- triggers ask for the input that the workflow takes -------------------------

export const triggers = async () => {
  await engine.trigger(noInput)
  await engine.trigger(noInput, { timeoutMs: 5 })
  await engine.trigger(optional)
  await engine.trigger(optional, { input: { a: 1 } })
  const handle = await engine.trigger(withInput, { input: { id: "a" }, scheduledFor: new Date() })
  same<typeof handle, RunHandle<number>>(true)
  const result = await handle.result()
  same<typeof result, number>(true)
  same<Awaited<ReturnType<RunHandle<string>["result"]>>, string>(true)

  // @ts-expect-error the input is missing
  await engine.trigger(withInput)
  // @ts-expect-error the input is missing
  await engine.trigger(withInput, {})
  // @ts-expect-error it is another input
  await engine.trigger(withInput, { input: { id: 5 } })
  // @ts-expect-error it has no such option
  await engine.trigger(noInput, { timeout: 5 })
  // @ts-expect-error a date, not text
  await engine.trigger(noInput, { scheduledFor: "tomorrow" })
  // @ts-expect-error not a workflow
  await engine.trigger("input", { input: { id: "a" } })

  await engine.schedule(noInput, { cron: "@daily" })
  await engine.schedule(withInput, { cron: "@daily", input: { id: "a" }, timeZone: "UTC" })
  // @ts-expect-error the input is missing
  await engine.schedule(withInput, { cron: "@daily" })
  // @ts-expect-error the rule is missing
  await engine.schedule(noInput, {})

  const later = engine.handle(withInput, "an id")
  same<typeof later, RunHandle<number>>(true)
}

// --- steps give their result, to the body and to the undo -----------------------

defineWorkflow("steps", async (ctx, input: { id: string }) => {
  const short = await ctx.step("short", () => 1)
  same<typeof short, number>(true)
  const full = await ctx.step("full", {
    run: async ({ signal, attempt, idempotencyKey, workflowRunId }) => {
      same<typeof signal, AbortSignal>(true)
      return { id: input.id, attempt, idempotencyKey, workflowRunId }
    },
    compensate: (result) => {
      same<typeof result.attempt, number>(true)
    },
    retry: { maxAttempts: 3, backoff: "linear", retryIf: (error) => error instanceof TypeError },
    timeoutMs: 5,
  })
  same<typeof full.attempt, number>(true)
  const effect = await ctx.sideEffect("id", () => crypto.randomUUID())
  same<typeof effect, `${string}-${string}-${string}-${string}-${string}`>(true)

  const child = await ctx.workflow(withInput, { id: "a" })
  same<typeof child, number>(true)
  await ctx.workflow(noInput)
  await ctx.workflow(noInput, undefined, { name: "other", timeoutMs: 5 })
  // @ts-expect-error the child's input is missing
  await ctx.workflow(withInput)
  // @ts-expect-error it is another input
  await ctx.workflow(withInput, { id: 5 })

  await ctx.sleep("a", 5)
  await ctx.sleep("b", "5 seconds")
  await ctx.sleep("c", { hours: 1, minutes: 30 })
  await ctx.sleepUntil("d", new Date())
  // @ts-expect-error no such unit
  await ctx.sleep("e", { fortnights: 1 })
  // @ts-expect-error a date, not a number
  await ctx.sleepUntil("f", 5)
  // @ts-expect-error a name is needed
  await ctx.step(() => 1)
  // @ts-expect-error no such backoff
  await ctx.step("g", { run: () => 1, retry: { backoff: "quadratic" } })
  await ctx.step("h", {
    run: () => ({ a: 1 }),
    // @ts-expect-error the result has no such field
    compensate: (result) => result.b,
  })
  // @ts-expect-error the run's id cannot be changed
  ctx.workflowRunId = "another"
})

// --- a status is a union by its status --------------------------------------------

export const read = (status: WorkflowStatus): Date | unknown => {
  // @ts-expect-error only a completed run has a result
  void status.result
  switch (status.status) {
    case "completed":
      return status.result
    case "failed":
    case "compensated":
    case "cancelled":
    case "dead_letter":
      return status.failedStep ?? status.completedAt.getTime()
    case "paused":
    case "compensating":
      return status.error
    default:
      same<typeof status.status, "pending" | "running" | "sleeping" | "waiting">(true)
      return status.currentStep ?? status.createdAt.getTime()
  }
}

export const observe = () => {
  engine.hook("workflow:completed", (event) => event.workflowRunId)
  const stop: () => void = engine.on("made", (event) => event.data)
  // @ts-expect-error there is no such hook
  engine.hook("workflow:done", () => undefined)
  return [stop, all]
}
