/** What is measured: small workflows, as applications write them. */
import { defineWorkflow } from "../../../src/index.ts"
import { z } from "zod"

export interface Input {
  readonly n: number
}

/** Three trivial steps. */
export const threeSteps = defineWorkflow("three-steps", async (ctx, input: Input) => {
  let n = input.n
  for (const name of ["one", "two", "three"]) n = await ctx.step(name, () => n + 1)
  return { n }
})

export const withRetries = defineWorkflow("with-retries", async (ctx, input: Input) => {
  let n = input.n
  for (const name of ["one", "two", "three"]) {
    n = await ctx.step(name, { run: () => n + 1, retry: { maxAttempts: 5 }, timeoutMs: 10_000 })
  }
  return { n }
})

export const withCompensation = defineWorkflow("with-compensation", async (ctx, input: Input) => {
  let n = input.n
  for (const name of ["one", "two", "three"]) {
    n = await ctx.step(name, { run: () => n + 1, compensate: () => undefined })
  }
  return { n }
})

export const withSchema = defineWorkflow(
  "with-schema",
  async (ctx, input: Input) => {
    let n = input.n
    for (const name of ["one", "two", "three"]) {
      n = await ctx.step(name, { run: () => n + 1, schema: z.number() })
    }
    return { n }
  },
  { input: z.object({ n: z.number() }) },
)

export const oneStep = defineWorkflow("one-step", (ctx, input: Input) =>
  ctx.step("one", () => input.n + 1),
)

/** As many steps as it is told, one after another. */
export const sequence = defineWorkflow(
  "sequence",
  async (ctx, input: { readonly steps: number }) => {
    let n = 0
    for (let step = 1; step <= input.steps; step++) n = await ctx.step(`step ${step}`, () => n + 1)
    return { n }
  },
)

/** A step, a long sleep, a step. */
export const sleeper = defineWorkflow("sleeper", async (ctx, input: Input) => {
  const n = await ctx.step("before", () => input.n + 1)
  await ctx.sleep("long", "30 days")
  return ctx.step("after", () => n + 1)
})

/** Waits inside a step, until it is told to stop. */
export const insideStep = defineWorkflow("inside-step", (ctx, input: Input) =>
  ctx.step("wait", ({ signal }) => {
    enteredSteps.listener()
    return new Promise<number>((resolve) => {
      signal.addEventListener("abort", () => resolve(input.n), { once: true })
    })
  }),
)

/** Told of each step that has begun to wait. */
export const enteredSteps: { listener: () => void } = { listener: () => undefined }

export const workflows = [
  threeSteps,
  withRetries,
  withCompensation,
  withSchema,
  oneStep,
  sequence,
  sleeper,
  insideStep,
]
