/**
 * Which unclaimed runs are due, in the order in which they are to be claimed.
 *
 * Two binary heaps per workflow, version and suspicion: runs due later (by due time) and ready ones (by
 * priority, due time, id), as the Postgres store has two partial indexes, and for the same reason:
 * neither finished, foreign nor future work is ever in the way of a claim. Entries are never
 * removed from the middle; one whose version is not its run's any more is dropped when met.
 */
import type { WorkflowRef } from "../WorkflowStore.ts"
import type { Run } from "./state.ts"

interface Entry {
  readonly workflowRunId: string
  readonly version: number
  readonly priority: number
  readonly dueAt: number
}

interface Heaps {
  readonly later: Array<Entry>
  readonly ready: Array<Entry>
}

export interface DueIndex {
  readonly heaps: Map<string, Heaps>
}

export const make = (): DueIndex => ({ heaps: new Map() })

export const copy = (index: DueIndex): DueIndex => {
  const heaps = new Map<string, Heaps>()
  for (const [key, { later, ready }] of index.heaps) {
    heaps.set(key, { later: [...later], ready: [...ready] })
  }
  return { heaps }
}

/** A run with this many crashes is a suspect: claimed alone (mechanism of poison runs). */
export const suspectCrashes = 2

// neither a name nor a version has a NUL
const heapKey = ({ name, version }: WorkflowRef, suspect: boolean): string =>
  `${suspect ? "!" : "-"}${name}\0${version ?? ""}`

/** Enters an unclaimed run that has a due time; its older entries become stale. */
export const enter = (index: DueIndex, run: Run): void => {
  leave(run)
  if (run.dueAt === null) return
  const { workflow: name, version: ofRun } = run
  const key = heapKey({ name, version: ofRun }, run.crashCount >= suspectCrashes)
  let heaps = index.heaps.get(key)
  if (heaps === undefined) index.heaps.set(key, (heaps = { later: [], ready: [] }))
  const { workflowRunId, dueVersion: version, priority, dueAt } = run
  push(heaps.later, { workflowRunId, version, priority, dueAt }, byDue)
}

/** Makes every entry of the run stale. */
export const leave = (run: Run): void => {
  run.dueVersion++
}

/** Takes up to `limit` due runs of the workflows out of the index, best first. */
export const take = (
  index: DueIndex,
  runs: ReadonlyMap<string, Run>,
  options: {
    readonly workflows: ReadonlyArray<WorkflowRef>
    readonly suspects: boolean
    readonly limit: number
    readonly now: number
  },
): Array<Run> => {
  const isLive = (entry: Entry): boolean =>
    runs.get(entry.workflowRunId)?.dueVersion === entry.version
  const sources: Array<Heaps> = []
  const keys = options.workflows.map((workflow) => heapKey(workflow, options.suspects))
  for (const key of new Set(keys)) {
    const heaps = index.heaps.get(key)
    if (heaps === undefined) continue
    sources.push(heaps)
    for (let next = heaps.later[0]; next && next.dueAt <= options.now; next = heaps.later[0]) {
      pop(heaps.later, byDue)
      if (isLive(next)) push(heaps.ready, next, byClaimOrder)
    }
  }
  const taken: Array<Run> = []
  while (taken.length < options.limit) {
    let best: Array<Entry> | undefined
    for (const { ready } of sources) {
      while (ready[0] && !isLive(ready[0])) pop(ready, byClaimOrder)
      if (ready[0] && (!best?.[0] || byClaimOrder(ready[0], best[0]) < 0)) best = ready
    }
    if (best === undefined) break
    const run = runs.get(pop(best, byClaimOrder)!.workflowRunId)!
    leave(run)
    taken.push(run)
  }
  return taken
}

const byId = (a: Entry, b: Entry): number =>
  a.workflowRunId < b.workflowRunId ? -1 : a.workflowRunId > b.workflowRunId ? 1 : 0

const byDue = (a: Entry, b: Entry): number => a.dueAt - b.dueAt || byId(a, b)

const byClaimOrder = (a: Entry, b: Entry): number => a.priority - b.priority || byDue(a, b)

type Compare = (a: Entry, b: Entry) => number

const push = (heap: Array<Entry>, entry: Entry, compare: Compare): void => {
  let at = heap.push(entry) - 1
  while (at > 0) {
    const parent = (at - 1) >> 1
    if (compare(heap[parent]!, entry) <= 0) break
    heap[at] = heap[parent]!
    at = parent
  }
  heap[at] = entry
}

const pop = (heap: Array<Entry>, compare: Compare): Entry | undefined => {
  const top = heap[0]
  const last = heap.pop()
  if (last === undefined || heap.length === 0) return top
  let at = 0
  for (;;) {
    let child = 2 * at + 1
    if (child >= heap.length) break
    if (child + 1 < heap.length && compare(heap[child + 1]!, heap[child]!) < 0) child++
    if (compare(last, heap[child]!) <= 0) break
    heap[at] = heap[child]!
    at = child
  }
  heap[at] = last
  return top
}
