/**
 * Workers and their leases: register, renew, retire, sweep, and the bound on poison runs.
 *
 * A lapsed lease is never renewed, even if nobody swept it; the sweep mints a fresh token, so that
 * whatever the dead worker still sends is `lost`.
 */
import { StoreRejected } from "../FlowlyError.ts"
import type { Claim, WorkerRegistration } from "../WorkflowStore.ts"
import * as DueIndex from "./dueIndex.ts"
import { isTerminal } from "../Run.ts"
import { release, resetCrashes, settle } from "./lifecycle.ts"
import { byText, type Run, type State } from "./state.ts"

/** A claim that commits late must still find its worker's row, to be swept like any other. */
const keepDeadWorkersMs = 3_600_000

export const registerWorker = (
  state: State,
  now: number,
  registration: WorkerRegistration,
): StoreRejected | undefined => {
  for (const [workerId, worker] of state.workers) {
    if (worker.leaseExpiresAt + keepDeadWorkersMs < now && worker.claims.size === 0) {
      state.workers.delete(workerId)
    }
  }
  if (state.workers.has(registration.workerId)) {
    return new StoreRejected({
      operation: "registerWorker",
      sqlState: "23505",
      reason: `worker ${registration.workerId} is registered already: use a fresh id`,
    })
  }
  const leaseExpiresAt = now + registration.leaseMs
  state.workers.set(registration.workerId, {
    registration,
    leaseExpiresAt,
    heartbeatAt: now,
    claims: new Set(),
  })
  return undefined
}

export const renewLease = (
  state: State,
  now: number,
  registration: WorkerRegistration,
): { readonly renewed: boolean; readonly claims: ReadonlyArray<Claim> } => {
  const worker = state.workers.get(registration.workerId)
  if (worker === undefined) return { renewed: false, claims: [] }
  const claims = [...worker.claims].map((workflowRunId) => ({
    workflowRunId,
    token: state.runs.get(workflowRunId)!.token,
  }))
  if (worker.leaseExpiresAt <= now) return { renewed: false, claims }
  const { label } = worker.registration
  worker.registration = { ...registration, label }
  worker.leaseExpiresAt = now + registration.leaseMs
  worker.heartbeatAt = now
  return { renewed: true, claims }
}

export const retireWorker = (state: State, now: number, workerId: string): void => {
  const worker = state.workers.get(workerId)
  if (worker !== undefined) worker.leaseExpiresAt = Math.min(worker.leaseExpiresAt, now)
}

export const refundCrashes = (state: State, workerId: string): number => {
  let refunded = 0
  for (const run of state.runs.values()) {
    if (run.crashCount === 0 || !run.crashedWorkers.includes(workerId)) continue
    if (isTerminal(run.status)) continue
    run.crashedWorkers = run.crashedWorkers.filter((crashed) => crashed !== workerId)
    run.crashCount = run.crashedWorkers.length
    // It may be a suspect no more: the index keeps those apart.
    if (run.workerId === null) DueIndex.enter(state.due, run)
    refunded++
  }
  return refunded
}

/** Level-triggered: which claimed runs belong to a lapsed worker, whenever it lapsed. */
export const sweep = (state: State, now: number, options: { readonly limit: number }): number => {
  const lapsed: Array<Run> = []
  for (const worker of state.workers.values()) {
    if (worker.leaseExpiresAt > now) continue
    for (const workflowRunId of worker.claims) lapsed.push(state.runs.get(workflowRunId)!)
  }
  lapsed.sort((a, b) => byText(a.workflowRunId, b.workflowRunId))
  const swept = lapsed.slice(0, options.limit)
  for (const run of swept) sweepRun(state, now, run)
  return swept.length
}

const sweepRun = (state: State, now: number, run: Run): void => {
  if (run.progressed) {
    resetCrashes(run)
  } else {
    run.crashCount++
    run.crashedWorkers = [...run.crashedWorkers, run.workerId!]
  }
  run.token++
  const backoffMs = run.progressed ? 0 : 1000 * 2 ** Math.min(run.crashCount - 1, 20)
  release(state, run, "pending", now + backoffMs)
}

export const deadLetterPoison = (
  state: State,
  now: number,
  options: { readonly maxCrashes: number; readonly limit: number },
): ReadonlyArray<string> => {
  const poison: Array<Run> = []
  for (const run of state.runs.values()) {
    if (run.crashCount < options.maxCrashes || run.crashCount === 0) continue
    if (run.workerId !== null || run.status === "paused" || isTerminal(run.status)) continue
    poison.push(run)
  }
  poison.sort((a, b) => byText(a.workflowRunId, b.workflowRunId))
  const dead = poison.slice(0, options.limit)
  for (const run of dead) {
    const error = {
      name: "PoisonRun",
      tag: "PoisonRun",
      message:
        `${run.crashCount} claims in a row ended with their worker's death, ` +
        `without recording anything`,
      ...(run.error === null ? {} : { cause: run.error }),
    }
    settle(state, run, { status: "dead_letter", result: null, error, failedPosition: "none" }, now)
  }
  return dead.map((run) => run.workflowRunId)
}
