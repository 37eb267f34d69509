/**
 * Where `ctx` must not be asked: inside the function of a step or an undo, for a replay that has the
 * step's outcome does not run it, and would miss what it had asked for.
 *
 * Found is what such a function does before it first waits: until then it is on the stack, and nothing
 * else of its run can be. Behind its first `await` nobody knows who asks; of an undo it is known all the
 * same, for the workflow's function is not heard any more while a run undoes.
 */
import type { Execution } from "../engine/Execution.ts"
import { invalid } from "./FlowlyError.ts"

let run: string | null = null
let what = ""

/** Calls a function of a step or an undo of the run. */
export const callInside = <A>(workflowRunId: string, name: string, call: () => A): A => {
  const [outerRun, outerWhat] = [run, what]
  run = workflowRunId
  what = name
  try {
    return call()
  } finally {
    run = outerRun
    what = outerWhat
  }
}

/** Throws where a function of a step or an undo asks. */
export const refuseInside = (execution: Execution): void => {
  if (run !== null && run === execution.run.workflowRunId) throw refusal(what)
  if (execution.mode === "ending" && execution.run.compensating) throw refusal("an undo")
}

const refusal = (inside: string): unknown =>
  invalid(
    "ctx",
    `is not for ${inside}: a replay would not ask again. Ask in the workflow's own function, and hand ` +
      `the answer over`,
  )
