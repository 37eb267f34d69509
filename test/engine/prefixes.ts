/**
 * Goes on from every moment of a program, as after a crash, and tells what is wrong with how it ended.
 */
import { inspect, isDeepStrictEqual } from "node:util"
import { isTerminal } from "../../src/Run.ts"
import type { RunRow, StepRecord } from "../../src/WorkflowStore.ts"
import {
  type End,
  goOn,
  type Moment,
  type Program,
  record,
  type Recording,
  recordsOf,
  rowOf,
  summaryOf,
} from "./replay.ts"

/** The order in which completed steps must be undone: the reverse of their completion. */
export const reverseOfCompletion = (records: ReadonlyArray<StepRecord>): ReadonlyArray<string> => {
  const returns = records.filter((one) => one.kind === "no_return")
  const from = Math.max(0, ...returns.map((one) => one.position ?? 0))
  return records
    .filter((one) => one.hasCompensate && one.status === "completed")
    .filter((one) => (one.position ?? 0) > from)
    .toSorted((a, b) => (b.position ?? 0) - (a.position ?? 0))
    .map((one) => one.stepKey)
}

/** What is wrong with how a program went on from a moment; nothing, if all is well. */
const faultsOf = (
  given: Program,
  first: Recording,
  moment: Moment,
  before: ReadonlyMap<string, ReadonlyArray<StepRecord>>,
  rowsBefore: ReadonlyMap<string, RunRow>,
  end: End,
): ReadonlyArray<string> => {
  const faults: Array<string> = [...moment.world.violations]
  if (end.status === "paused") {
    faults.push(`paused: ${summaryOf(end.row.pauseReason)}`)
    return faults
  }
  if (!given.anyEnd) {
    const same = isDeepStrictEqual(
      [end.status, end.result, end.error],
      [first.end.status, first.end.result, first.end.error],
    )
    if (!same) faults.push(`ended as ${show(end)}, not as ${show(first.end)}`)
  }
  // what was recorded stands
  for (const [runId, records] of before) {
    const sameAttempt = rowOf(moment.handle, runId).attempt === rowsBefore.get(runId)?.attempt
    const now = new Map(recordsOf(moment.handle, runId).map((one) => [one.stepKey, one]))
    for (const { compensation: _, carried: _carried, ...old } of records) {
      if (old.status === "retrying" || (!sameAttempt && old.status === "failed")) continue
      const found = now.get(old.stepKey)
      if (found === undefined) faults.push(`the record of "${old.stepKey}" is gone`)
      else {
        const { compensation: _now, carried: _carriedNow, ...fresh } = found
        if (!isDeepStrictEqual(fresh, old)) faults.push(`the record of "${old.stepKey}" changed`)
      }
    }
  }
  // what a body saw, it sees again, in the same order; what it decided, it decides again
  for (const old of moment.executions) {
    const row = rowsBefore.get(old.workflowRunId)
    if (row === undefined || isTerminal(row.status) || row.attempt !== old.attempt) continue
    const again = moment.world.executions.filter(
      (one) => one.workflowRunId === old.workflowRunId && one.attempt === old.attempt,
    )
    for (const one of again) {
      if (!isDeepStrictEqual(one.seen.slice(0, old.seen.length), old.seen)) {
        faults.push(`the body saw [${one.seen.join()}], but before the crash [${old.seen.join()}]`)
      }
      for (const [site, value] of old.notes) {
        const now = one.notes.get(site)
        if (now !== value) faults.push(`decision "${site}" was ${value}, and is now ${now}`)
      }
    }
  }
  if (end.status === "compensated") {
    const expected = reverseOfCompletion(recordsOf(moment.handle, end.row.workflowRunId))
    const own = (keys: ReadonlyArray<string>) => keys.filter((key) => expected.includes(key))
    // the undo that was under way at the crash may begin a second time
    const seam = moment.undone.at(-1) === moment.world.undone[0] ? 1 : 0
    const undone = own([...moment.undone, ...moment.world.undone.slice(seam)])
    if (!isDeepStrictEqual(undone, expected)) {
      faults.push(`undone [${undone.join()}], not [${expected.join()}]`)
    }
  }
  return faults
}

const show = (end: End) => `${end.status} ${inspect(end.result)} ${end.error ?? ""}`

/** Runs `tasks` a few at a time. */
export const inParallel = async (
  tasks: ReadonlyArray<() => Promise<void>>,
  width = 12,
): Promise<void> => {
  const queue = [...tasks]
  const work = async () => {
    for (let task = queue.shift(); task; task = queue.shift()) await task()
  }
  await Promise.all(Array.from({ length: width }, work))
}

/** The number of prefixes that were played. */
export const played = { prefixes: 0 }

/** Goes on from every moment of a program; answers how it ended, and every fault. */
export const playPrefixes = async (
  given: Program,
): Promise<{ readonly first: Recording; readonly faults: ReadonlyArray<string> }> => {
  const first = await record(given)
  const faults: Array<string> = first.world.violations.map((one) => `first run: ${one}`)
  if (first.end.status === "paused") {
    faults.push(`first run paused: ${summaryOf(first.end.row.pauseReason)}`)
  }
  if (first.end.status !== given.ends) {
    faults.push(`first run: ended as ${show(first.end)}, not as ${given.ends}`)
  }
  if (given.attempts !== undefined && first.end.row.attempt !== given.attempts) {
    faults.push(`first run: took ${first.end.row.attempt} attempts, not ${given.attempts}`)
  }
  if (given.result !== undefined && !isDeepStrictEqual(first.end.result, given.result)) {
    faults.push(`first run: ended as ${show(first.end)}, not with ${inspect(given.result)}`)
  }
  const tasks = first.moments.map((moment, index) => async () => {
    played.prefixes++
    const rows = moment.handle.inspect().runs
    const runsBefore = new Map(rows.map((row) => [row.workflowRunId, row]))
    const before = new Map(
      rows.map((row) => [row.workflowRunId, recordsOf(moment.handle, row.workflowRunId)]),
    )
    if (!runsBefore.has(first.workflowRunId)) return
    const place = `after change ${index + 1} of ${first.moments.length}`
    try {
      const end = await goOn(moment, first.workflowRunId, given.code)
      const found = faultsOf(given, first, moment, before, runsBefore, end)
      faults.push(...found.map((fault) => `${place}: ${fault}`))
    } catch (error) {
      faults.push(`${place}: ${String(error)}`)
    }
  })
  await inParallel(tasks)
  return { first, faults }
}
