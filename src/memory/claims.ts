/**
 * Claims: taking due runs, hearing about held ones, handing them back.
 */
import type { Claim, ClaimedRun, RunSignals, WorkflowRef } from "../WorkflowStore.ts"
import * as DueIndex from "./dueIndex.ts"
import { claim, hasLiveLease, isHeld, release } from "./lifecycle.ts"
import { signalsOf, type State } from "./state.ts"

export const claimRuns = (
  state: State,
  now: number,
  options: {
    readonly workerId: string
    readonly workflows: ReadonlyArray<WorkflowRef>
    readonly limit: number
    readonly suspects: boolean
  },
): ReadonlyArray<ClaimedRun> => {
  const { workerId, workflows, limit, suspects } = options
  // A lapsed worker would claim what the next sweep takes away.
  if (!hasLiveLease(state, workerId, now)) return []
  const due = DueIndex.take(state.due, state.runs, { workflows, suspects, limit, now })
  return due.map((run) => claim(state, run, workerId, now))
}

export const readSignals = (
  state: State,
  now: number,
  claims: ReadonlyArray<Claim>,
): ReadonlyArray<RunSignals & { readonly workflowRunId: string }> => {
  const held: Array<RunSignals & { readonly workflowRunId: string }> = []
  for (const { workflowRunId, token } of claims) {
    const run = state.runs.get(workflowRunId)
    if (isHeld(run, token)) held.push({ workflowRunId, ...signalsOf(run, now) })
  }
  return held
}

export const releaseClaims = (state: State, now: number, claims: ReadonlyArray<Claim>): number => {
  let released = 0
  for (const { workflowRunId, token } of claims) {
    const run = state.runs.get(workflowRunId)
    if (!isHeld(run, token)) continue
    // Not released by a write of the holder: a write still under way must not pass for applied.
    run.token++
    release(state, run, "pending", now)
    released++
  }
  return released
}
