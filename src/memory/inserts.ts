/**
 * New runs, and what keeps them unique: id, idempotency key, parent's step, concurrency key.
 */
import { isTerminal } from "../Run.ts"
import type { InsertAnswer, NewRun } from "../WorkflowStore.ts"
import * as DueIndex from "./dueIndex.ts"
import { claim, hasLiveLease } from "./lifecycle.ts"
import { compositeKey, newRun, type Run, rowOf, type State } from "./state.ts"

/** The token that an insert mints when it claims: of a run that it claimed, no later claim has it. */
const insertToken = 1

export const insertRuns = (
  state: State,
  now: number,
  options: { readonly runs: ReadonlyArray<NewRun>; readonly claimFor: string | null },
): ReadonlyArray<InsertAnswer> => {
  const { claimFor } = options
  const mayClaim = claimFor !== null && hasLiveLease(state, claimFor, now)
  return options.runs.map((run) => {
    const obstacle = findObstacle(state, now, run)
    if (obstacle !== undefined) return obstacle
    const known = state.runs.get(run.workflowRunId)
    const row = known ?? insertRun(state, now, run)
    if (!known && mayClaim && row.dueAt! <= now) {
      claim(state, row, claimFor, now)
      row.claimedByInsert = true
    }
    const isFirstClaim = row.claimedByInsert && row.token === insertToken
    const isStillHeld = claimFor !== null && row.workerId === claimFor && isFirstClaim
    return {
      _tag: "Inserted",
      workflowRunId: row.workflowRunId,
      token: isStillHeld ? row.token : null,
      createdAt: row.createdAt,
      deadlineAt: row.deadlineAt,
    }
  })
}

/** Why the run cannot be inserted; `undefined`: it can, or it was, by an earlier sending. */
const findObstacle = (state: State, now: number, run: NewRun): InsertAnswer | undefined => {
  if (state.runs.has(run.workflowRunId)) return undefined
  const holder = byIdempotencyKey(state, run)
  const expiresAt = holder?.idempotencyExpiresAt ?? null
  const isExpired = expiresAt !== null && expiresAt <= now
  const isFree = holder !== undefined && isExpired && releaseKey(state, holder)
  const existing = (isFree ? undefined : holder) ?? byParentStep(state, run)
  if (existing !== undefined) return { _tag: "Existing", run: rowOf(existing) }
  if (run.concurrencyKey === null) return undefined
  const active = state.concurrency.get(compositeKey(run.workflow, run.concurrencyKey))
  return active === undefined ? undefined : { _tag: "ConcurrencyHeld", workflowRunId: active }
}

/** Takes its key from a terminal run. */
const releaseKey = (state: State, run: Run): boolean => {
  if (!isTerminal(run.status) || run.idempotencyKey === null) return false
  state.idempotency.delete(compositeKey(run.workflow, run.idempotencyKey))
  run.idempotencyKey = null
  return true
}

export const releaseIdempotencyKey = (state: State, workflowRunId: string): boolean => {
  const run = state.runs.get(workflowRunId)
  return run !== undefined && releaseKey(state, run)
}

const byIdempotencyKey = (state: State, run: NewRun): Run | undefined =>
  run.idempotencyKey === null
    ? undefined
    : state.runs.get(state.idempotency.get(compositeKey(run.workflow, run.idempotencyKey)) ?? "")

const parentKey = (parent: NonNullable<NewRun["parent"]>): string =>
  compositeKey(parent.workflowRunId, parent.stepKey, parent.attempt)

const byParentStep = (state: State, run: NewRun): Run | undefined =>
  run.parent === null ? undefined : state.runs.get(state.children.get(parentKey(run.parent)) ?? "")

/** Inserts a run that nothing stands in the way of, unclaimed. */
const insertRun = (state: State, now: number, run: NewRun): Run => {
  const row = newRun(run, now)
  row.dueAt = Math.max(run.scheduledFor ?? now, now)
  state.runs.set(row.workflowRunId, row)
  if (run.idempotencyKey !== null) {
    state.idempotency.set(compositeKey(run.workflow, run.idempotencyKey), row.workflowRunId)
  }
  if (run.concurrencyKey !== null) {
    state.concurrency.set(compositeKey(run.workflow, run.concurrencyKey), row.workflowRunId)
  }
  if (run.parent !== null) {
    state.children.set(parentKey(run.parent), row.workflowRunId)
    state.runs.get(run.parent.workflowRunId)?.children.push(row.workflowRunId)
  }
  DueIndex.enter(state.due, row)
  return row
}

/** The child that stands for its parent's step. */
export const findChild = (state: State, child: NewRun): Run | undefined =>
  state.runs.get(child.workflowRunId) ?? byParentStep(state, child)

/** Inserts a child unless its parent's step has one (a replay starts no second). */
export const insertChild = (state: State, now: number, child: NewRun): void => {
  if (findChild(state, child) === undefined) insertRun(state, now, child)
}

/** Inserts the run of a tick, unless its keys refuse it. */
export const insertIfFree = (state: State, now: number, run: NewRun): void => {
  const isFree = !state.runs.has(run.workflowRunId) && findObstacle(state, now, run) === undefined
  if (isFree) insertRun(state, now, run)
}
