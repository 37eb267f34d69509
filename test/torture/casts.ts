/**
 * The workflows that actors play: the poisons, and two versions of one workflow.
 */
import { type AnyWorkflow, defineWorkflow, type StepInfo } from "../../src/index.ts"
import { pause } from "../processes/workflows.ts"
import type { Witness } from "../processes/witness.ts"

type Note = (step: string) => (info: StepInfo) => Promise<unknown>

const noteOn =
  (witness: Witness): Note =>
  (step) =>
  (info) =>
    witness.note(info.workflowRunId, step, info.idempotencyKey)

/** Ways in which the code of a step can be bad company. */
export const poisons = {
  /** The process ends at once. */
  abort: () => process.abort(),
  /** Its heap is full. */
  memory: () => {
    const all: Array<unknown> = []
    for (;;) all.push(Array.from({ length: 10_000 }, (_, i) => ({ i })))
  },
  /** Nothing else runs any more, no heartbeat either. */
  spin: () => {
    for (;;);
  },
  overflow: () => {
    const deeper = (n: number): number => deeper(n + 1) + 1
    return deeper(0)
  },
  unserialisable: () => ({ of: { no: () => "a function" } }),
  cyclic: () => {
    const self: Record<string, unknown> = {}
    self["getter"] = {
      get broken(): never {
        throw new Error("a getter that throws")
      },
    }
    return self
  },
  huge: () => "x".repeat(17 * 1_048_576),
} as const

export type Poison = keyof typeof poisons

/** Take the process with them; the others fail the step. */
export const deadly: ReadonlyArray<Poison> = ["abort", "memory", "spin"]
export const harmless: ReadonlyArray<Poison> = ["overflow", "unserialisable", "cyclic", "huge"]

export const poisonCast = (witness: Witness) => {
  const note = noteOn(witness)
  const poisoned = defineWorkflow("poisoned", (ctx, input: { readonly poison: Poison }) =>
    ctx.step("drink", async (info) => {
      await note("drink")(info)
      return poisons[input.poison]()
    }),
  )
  const bystander = defineWorkflow("bystander", (ctx) =>
    ctx.step("stand by", async (info) => {
      await note("stand by")(info)
      await pause(200)
    }),
  )
  return { poisoned, bystander }
}

/** The same name, twice: runs belong to the version that began them. */
export const versionCast = (witness: Witness) => {
  const note = noteOn(witness)
  const old = defineWorkflow(
    "trip",
    async (ctx, input: { readonly ms: number }) => {
      await ctx.step("book", note("old book"))
      await ctx.sleep("rest", input.ms)
      await ctx.step("go", note("old go"))
      return "old"
    },
    { version: "1" },
  )
  const young = defineWorkflow(
    "trip",
    async (ctx, input: { readonly ms: number }) => {
      await ctx.step("pay", note("new pay"))
      await ctx.step("book", note("new book"))
      await ctx.sleep("rest", input.ms)
      await ctx.step("go", note("new go"))
      return "new"
    },
    { version: "2" },
  )
  /** Without versions: the code says itself where it has changed. */
  const patchedOld = defineWorkflow("visit", async (ctx, input: { readonly ms: number }) => {
    await ctx.step("knock", note("knock"))
    await ctx.sleep("wait", input.ms)
    await ctx.step("enter", note("enter"))
    return "visited"
  })
  const patchedNew = defineWorkflow("visit", async (ctx, input: { readonly ms: number }) => {
    await ctx.step("knock", note("knock"))
    await ctx.sleep("wait", input.ms)
    if (await ctx.patched("shoes off")) await ctx.step("shoes", note("shoes"))
    await ctx.step("enter", note("enter"))
    return "visited"
  })
  return { old, young, patchedOld, patchedNew }
}

/** What schedules start. */
export const cronCast = (witness: Witness) => ({
  chiming: defineWorkflow("chiming", (ctx) => ctx.step("tick", noteOn(witness)("tick"))),
})

export const castOf = (cast: string, witness: Witness): ReadonlyArray<AnyWorkflow> => {
  if (cast === "poison") return Object.values(poisonCast(witness))
  if (cast === "cron") return Object.values(cronCast(witness))
  const { old, young, patchedOld, patchedNew } = versionCast(witness)
  if (cast === "old") return [old, patchedOld]
  if (cast === "new") return [young, patchedNew]
  if (cast === "both") return [old, young, patchedNew]
  throw new Error(`there is no cast "${cast}"`)
}
