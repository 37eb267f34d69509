/**
 * The control log of a run: one entry per accepted verb.
 */
import type { ControlEntry, ControlVerb } from "../Control.ts"
import type { Run, State } from "./state.ts"

/** Beside what it tells of, in the same step. */
export const log = (
  state: State,
  run: Run,
  now: number,
  verb: ControlVerb,
  reason: string | null,
  detail: ControlEntry["detail"] = {},
): void => {
  const { workflowRunId } = run
  const controlId = ++state.lastEventId
  run.controls.push(
    Object.freeze({ controlId, workflowRunId, verb, reason, detail, createdAt: now }),
  )
}
