/**
 * Small workflows that between them make the engine commit everything that it can commit, and what each
 * must have come to.
 */
import { type AnyWorkflow, defineWorkflow, type StepInfo } from "../../../src/index.ts"
import type { Witness } from "../../processes/witness.ts"

export interface SagaInput {
  /** The last step fails: the run is compensated. */
  readonly fails?: boolean
  /** The first try of this undo fails for good. */
  readonly undoFails?: boolean
}

export const makeBodies = (witness: Witness) => {
  const note = (step: string) => async (info: StepInfo) => {
    await witness.note(info.workflowRunId, step, info.idempotencyKey)
    return step
  }
  /** What each body fails by: once. */
  const failedOnce = new Set<string>()
  const failOnce = (key: string) => {
    if (failedOnce.has(key)) return
    failedOnce.add(key)
    throw new Error("the first time it fails")
  }

  const leaf = defineWorkflow("leaf", (ctx) => ctx.step("leaf", note("leaf")))

  const saga = defineWorkflow("saga", async (ctx, input: SagaInput) => {
    const reserved = await ctx.step("reserve", {
      run: note("reserve"),
      compensate: {
        retry: { maxAttempts: 1 },
        run: async (_, info) => {
          await note("undo reserve")(info)
          if (input.undoFails === true) failOnce(`undo ${info.workflowRunId}`)
        },
      },
    })
    const charged = await ctx.transaction("charge", async (client, info) => {
      await client.query("insert into public.charges values ($1::text::uuid)", [info.workflowRunId])
      return "charge"
    })
    const flaky = await ctx.step("flaky", {
      retry: { maxAttempts: 2, initialDelayMs: 150, backoff: "fixed" },
      run: async (info) => {
        await note("flaky")(info)
        if (info.attempt === 1) throw new Error("the first try fails")
        return "flaky"
      },
      compensate: (_, info) => note("undo flaky")(info),
    })
    await ctx.sleep("short nap", 30)
    await ctx.emit("under way", reserved)
    const [left, right, leafs] = await Promise.all([
      ctx.step("left", note("left")),
      ctx.sideEffect("right", () => "right"),
      ctx.child(leaf),
    ])
    await ctx.sleep("long nap", 200)
    const { payload } = await ctx.waitForEvent<string>("go")
    ctx.setStatus("nearly there")
    if (input.fails === true) {
      await ctx.step("fail", async (info) => {
        await note("fail")(info)
        throw new Error("as it should")
      })
    }
    const parts = [reserved, charged, flaky, left, right, leafs, payload]
    return parts.join(" ")
  })

  /** Fails in its first attempt, and is tried again as a whole. */
  const again = defineWorkflow("again", async (ctx) => {
    const kept = await ctx.step("kept", note("kept"))
    await ctx.step("shaky", async (info) => {
      await note("shaky")(info)
      if (ctx.attempt === 1) throw new Error("in the first attempt")
    })
    return kept
  })

  /** Waits for what nobody sends. */
  const patient = defineWorkflow("patient", async (ctx) => {
    await ctx.step("reserve", {
      run: note("reserve"),
      compensate: (_, info) => note("undo reserve")(info),
    })
    await ctx.waitForEvent("never")
  })

  const napping = defineWorkflow("napping", async (ctx) => {
    await ctx.sleep("an hour", { hours: 1 })
    return ctx.step("awake", note("awake"))
  })

  const ticking = defineWorkflow("ticking", (ctx) => ctx.step("tick", note("tick")))

  /** Long enough to be handed back in the middle. */
  const slow = defineWorkflow("slow", async (ctx) => {
    const steps: Array<string> = []
    for (let i = 0; i < 6; i++) {
      steps.push(
        await ctx.step("slow", async (info) => {
          await note("slow")(info)
          await new Promise((resolve) => setTimeout(resolve, 40))
          return String(i)
        }),
      )
    }
    return steps.join("")
  })

  return { leaf, saga, again, patient, napping, ticking, slow }
}

export type Bodies = ReturnType<typeof makeBodies>

export const all = (bodies: Bodies): ReadonlyArray<AnyWorkflow> => Object.values(bodies)
