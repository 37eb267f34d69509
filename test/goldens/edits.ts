/**
 * Edits of the code of a run, made at its context: the operation of a number is another one.
 *
 * The first five change what the history has recorded, and must be found (promise 12). The others leave
 * names, kinds and order as they are.
 */
import type { WorkflowContext } from "../../src/promise/context.ts"

type Edit = (ctx: WorkflowContext) => WorkflowContext

type Step = (name: string, given: any) => Promise<any>

/** The `at`-th step, counted from 0, is another operation; all others are as they were. */
const nth =
  (at: number, other: (ctx: WorkflowContext, name: string, given: any) => Promise<any>): Edit =>
  (ctx) => {
    let asked = 0
    const step: Step = (name, given) =>
      asked++ === at ? other(ctx, name, given) : ctx.step(name, given)
    return { ...ctx, step: step as WorkflowContext["step"] }
  }

export const breaking: Readonly<Record<string, (at: number) => Edit>> = {
  renamed: (at) => nth(at, (ctx, name, given) => ctx.step(`${name} anew`, given)),
  removed: (at) => nth(at, async () => undefined),
  "behind a new one": (at) =>
    nth(at, async (ctx, name, given) => {
      await ctx.step("new", () => 1)
      return ctx.step(name, given)
    }),
  "a sleep of its name": (at) => nth(at, (ctx, name) => ctx.sleep(name, 1)),
  "a side effect of its name": (at) => nth(at, (ctx, name) => ctx.sideEffect(name, () => 1)),
  "an event of its name": (at) => nth(at, (ctx, name) => ctx.emit(name, 1)),
}

const eachStep =
  (change: (given: any) => any): Edit =>
  (ctx) => {
    const step: Step = (name, given) =>
      ctx.step(name, change(typeof given === "function" ? { run: given } : given))
    return { ...ctx, step: step as WorkflowContext["step"] }
  }

export const harmless: Readonly<Record<string, Edit>> = {
  "a time limit on every step": eachStep((given) => ({ timeoutMs: 3_600_000, ...given })),
  "more tries of every step": eachStep((given) => ({ retry: { maxAttempts: 1 }, ...given })),
  "pure work before every step": (ctx) => {
    const step: Step = async (name, given) => {
      await Promise.resolve()
      return ctx.step(name, given)
    }
    return { ...ctx, step: step as WorkflowContext["step"] }
  },
}
