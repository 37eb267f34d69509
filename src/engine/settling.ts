/** The last write of a run. */
import type { Transition } from "../WorkflowStore.ts"
import type { Execution } from "./Execution.ts"

/** How it ended. */
export type Settlement = Omit<
  Extract<Transition, { readonly _tag: "Settle" }>,
  "_tag" | "wakesParent"
>

/** Ends the execution with it. */
export const settle = (execution: Execution, settlement: Settlement): void => {
  const wakesParent = execution.run.parent !== null
  const transition = { _tag: "Settle", ...settlement, wakesParent } as const
  execution.finish(transition, { _tag: "settled", transition })
}
