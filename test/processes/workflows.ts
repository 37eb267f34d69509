/**
 * The workflows that worker processes execute. Each body tells a witness that it runs, and passes
 * named points, where a process may be told to die, or to stand still.
 *
 * Points: `start X` and `end X` of a step's body, `start undo X` and `end undo X` of its
 * compensation; the worker adds `completed X` (before X's commit) and `settled W` (after the commit
 * that ends a run of workflow W).
 */
import { defineWorkflow, type StepInfo } from "../../src/index.ts"
import type { Witness } from "./witness.ts"

export interface World {
  readonly witness: Witness
  /** A point is passed. Does not return where the process dies or stands still. */
  readonly pass: (point: string, run: string) => Promise<void>
}

export interface OrderInput {
  readonly sleepMs?: number
  /** Its last step fails. */
  readonly fails?: boolean
  /** How long it takes to undo "charge". */
  readonly undoMs?: number
}

export const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

export const makeWorkflows = ({ witness, pass }: World) => {
  const body =
    (step: string, ms = 0) =>
    async (info: StepInfo) => {
      await pass(`start ${step}`, info.workflowRunId)
      const seq = await witness.note(info.workflowRunId, step, info.idempotencyKey)
      if (ms > 0) await pause(ms)
      await pass(`end ${step}`, info.workflowRunId)
      return seq
    }
  const undone = (step: string, undoMs?: number) => ({
    run: body(step),
    compensate: async (_result: number, info: StepInfo) => {
      await body(`undo ${step}`, undoMs)(info)
    },
  })

  const order = defineWorkflow("order", async (ctx, input: OrderInput) => {
    const reserved = await ctx.step("reserve", undone("reserve"))
    const charged = await ctx.step("charge", undone("charge", input.undoMs))
    if (input.sleepMs !== undefined) await ctx.sleep("cooling", input.sleepMs)
    const packed = await ctx.step("pack", undone("pack"))
    const shipped = await ctx.step("ship", {
      run: async (info) => {
        const seq = await body("ship")(info)
        if (input.fails) throw new Error("no lorry")
        return seq
      },
    })
    return [reserved, charged, packed, shipped]
  })

  const three = defineWorkflow("three", async (ctx, input: { readonly ms: number }) => [
    await ctx.step("one", body("one", input.ms)),
    await ctx.step("two", body("two", input.ms)),
    await ctx.step("three", body("three", input.ms)),
  ])

  /** Three transactions, each of which counts itself in a table that allows any number. */
  const counting = defineWorkflow("counting", async (ctx, input: { readonly ms: number }) => {
    const results: Array<number> = []
    for (const step of ["one", "two", "three"]) {
      const result = await ctx.transaction(step, async (client, info) => {
        const seq = await body(step, input.ms)(info)
        await client.query("insert into public.counted values ($1::text::uuid, $2, $3)", [
          info.workflowRunId,
          step,
          seq,
        ])
        await pass(`counted ${step}`, info.workflowRunId)
        return seq
      })
      results.push(result)
    }
    return results
  })

  const slow = defineWorkflow("slow", (ctx, input: { readonly ms: number }) =>
    ctx.step("slow", body("slow", input.ms)),
  )

  /** Fails once, and is tried again 1.5 s later. */
  const flaky = defineWorkflow("flaky", (ctx) =>
    ctx.step("try", {
      retry: { maxAttempts: 2, backoff: "fixed", initialDelayMs: 1500 },
      run: async (info) => {
        await body("try")(info)
        if (info.attempt === 1) throw new Error("not yet")
      },
    }),
  )

  /** Its first try tells of 50 pages and goes on for ever; the next answers what it was told. */
  const pages = defineWorkflow("pages", (ctx) =>
    ctx.step("pages", ({ lastHeartbeat, heartbeat, signal }) => {
      if (lastHeartbeat !== undefined) return lastHeartbeat
      for (let page = 1; page <= 50; page++) heartbeat({ page })
      return new Promise<never>((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason as Error))
      })
    }),
  )

  const grandchild = defineWorkflow("grandchild", (ctx) =>
    ctx.step("grandchild work", body("grandchild work")),
  )

  const child = defineWorkflow("child", async (ctx, input: { readonly deeper: boolean }) => {
    const seq = await ctx.step("child work", body("child work"))
    return input.deeper ? [seq, await ctx.workflow(grandchild)] : [seq]
  })

  const parent = defineWorkflow("parent", async (ctx, input: { readonly deeper: boolean }) => {
    const before = await ctx.step("before", body("before"))
    const inside = await ctx.workflow(child, input)
    return [before, ...inside, await ctx.step("after", body("after"))]
  })

  /** A step of it executes until what followed the child's end was noted. */
  const busyParent = defineWorkflow("busy parent", async (ctx) => {
    const held = ctx.step("held", async ({ signal, workflowRunId, idempotencyKey }) => {
      await witness.note(workflowRunId, "held", idempotencyKey)
      await witness.seen(workflowRunId, "after child", signal)
    })
    const inside = ctx
      .workflow(child, { deeper: false })
      .then(() => ctx.step("after child", body("after child")))
    await Promise.all([held, inside])
  })

  /** Its step lasts until it is told to stop. */
  const endless = defineWorkflow("endless", (ctx) =>
    ctx.step("wait", async (info) => {
      const { signal, workflowRunId, idempotencyKey } = info
      await witness.note(workflowRunId, "wait", idempotencyKey)
      await pass("start wait", workflowRunId)
      await new Promise<void>((resolve) => {
        signal.addEventListener("abort", () => resolve())
      })
      await witness.note(workflowRunId, "aborted", `${idempotencyKey}:aborted`)
      throw signal.reason
    }),
  )

  const patientParent = defineWorkflow("patient parent", (ctx) => ctx.workflow(endless))

  /** Its step ignores its signal, and ends for nobody. */
  const stubborn = defineWorkflow("stubborn", (ctx) =>
    ctx.step("hold", async (info) => {
      await body("hold")(info)
      await pass("held", info.workflowRunId)
    }),
  )

  const poison = defineWorkflow("poison", (ctx) =>
    ctx.step("drink", async (info) => {
      await body("drink")(info)
      process.abort()
    }),
  )

  const ticking = defineWorkflow("ticking", (ctx) => ctx.step("tick", body("tick")))

  return {
    order,
    three,
    counting,
    slow,
    flaky,
    pages,
    grandchild,
    child,
    parent,
    busyParent,
    endless,
    patientParent,
    stubborn,
    poison,
    ticking,
  }
}

export type Workflows = ReturnType<typeof makeWorkflows>
