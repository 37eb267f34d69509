/**
 * What stands around a run: for the explanation why it does not move.
 */
import { isTerminal } from "../Run.ts"
import type { Situation, WorkerState } from "../WorkflowStore.ts"
import { suspectCrashes } from "./dueIndex.ts"
import { loadSources } from "./reads.ts"
import { compositeKey, type Run, rowOf, type State, type Worker } from "./state.ts"

const stateOf = (worker: Worker, now: number): WorkerState => ({
  workerId: worker.registration.workerId,
  label: worker.registration.label,
  capacity: worker.registration.capacity,
  workflows: worker.registration.workflows,
  leaseExpiresAt: worker.leaseExpiresAt,
  heartbeatAt: worker.heartbeatAt,
  isLive: worker.leaseExpiresAt > now,
})

const mostCounted = 1000

const isAhead = (one: Run, run: Run, now: number): boolean =>
  one !== run &&
  one.workerId === null &&
  one.workflow === run.workflow &&
  one.version === run.version &&
  one.crashCount < suspectCrashes &&
  one.dueAt !== null &&
  one.dueAt <= now &&
  run.dueAt !== null &&
  (one.priority - run.priority || one.dueAt - run.dueAt) < 0

export const getSituation = (
  state: State,
  now: number,
  workflowRunId: string,
): Situation | null => {
  const run = state.runs.get(workflowRunId)
  const [sources] = loadSources(state, now, [workflowRunId])
  if (run === undefined || sources === undefined) return null
  const holder = run.workerId === null ? undefined : state.workers.get(run.workerId)
  const keyHolder =
    run.concurrencyKey === null
      ? undefined
      : state.concurrency.get(compositeKey(run.workflow, run.concurrencyKey))
  const done = [...run.records.values()].filter(({ record }) => record.position !== null)
  const last = done.toSorted((a, b) => b.record.position! - a.record.position!)[0]?.record
  return {
    now,
    run: rowOf(run),
    waits: isTerminal(run.status) ? [] : run.waits,
    children: sources.children,
    dueTimes: sources.dueTimes,
    lastStep:
      last === undefined ? null : { stepKey: last.stepKey, completedAt: last.completedAt ?? now },
    holder: holder === undefined ? null : stateOf(holder, now),
    workers: [...state.workers.values()]
      .map((worker) => stateOf(worker, now))
      .filter((worker) => worker.isLive),
    ahead: Math.min(
      [...state.runs.values()].filter((one) => isAhead(one, run, now)).length,
      mostCounted,
    ),
    keyHolder: keyHolder ?? null,
  }
}
