/**
 * Where `ctx` must not be asked: inside the function of a step or an undo, for a replay that has the
 * step's outcome does not run it, and would miss what it had asked for.
 *
 * Found is what such a function does before it first waits: until then it is on the stack, and nothing
 * else of its run can be. Behind its first `await` nobody knows who asks; of an undo it is known all the
 * same, for the workflow's function is not heard any more while a run undoes. In development the trap
 * knows it of steps, too; it costs an `AsyncLocalStorage`.
 */
import type { Execution } from "../engine/Execution.ts"
import { invalid } from "./FlowlyError.ts"
import { type Inside, watchedInside, watchInside } from "./trap.ts"

/** What is on the stack. */
let present: Inside | null = null

/** Calls a function of a step or an undo. */
export const callInside = <A>(inside: Inside, call: () => A): A => {
  const outer = present
  present = inside
  try {
    return watchInside(inside, call)
  } finally {
    present = outer
  }
}

/** Throws where a function of a step or an undo asks. */
export const refuseInside = (execution: Execution): void => {
  const inside = present ?? watchedInside()
  if (inside?.workflowRunId === execution.run.workflowRunId) throw refusal(inside.what)
  if (execution.mode === "ending" && execution.run.compensating) throw refusal("an undo")
}

const refusal = (what: string): unknown =>
  invalid(
    "ctx",
    `is not for ${what}: a replay would not ask again. Ask in the workflow's own function, and hand ` +
      `the answer over`,
  )
