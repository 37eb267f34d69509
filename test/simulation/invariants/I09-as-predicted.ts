/** What was predicted from the program's text is what came of it: status, result, records. */
import * as Payload from "../../../src/Payload.ts"
import { isTerminal, type RunStatus } from "../../../src/Run.ts"
import type { RunRow } from "../../../src/WorkflowStore.ts"
import type { Evidence, Invariant } from "../scene.ts"

/** How a run may end that somebody stopped. */
const stopped: ReadonlySet<RunStatus> = new Set([
  "cancelled",
  "compensated",
  "failed",
  "dead_letter",
])

/** Their text does not say what becomes of them: a child of theirs took too many workers down. */
const ancestorsOfPoison = (rows: ReadonlyArray<RunRow>): ReadonlySet<string> => {
  const parents = new Map(rows.map((row) => [row.workflowRunId, row.parent?.workflowRunId]))
  const found = new Set<string>()
  for (const { error, parent } of rows) {
    if (error?.tag !== "PoisonRun") continue
    for (let id = parent?.workflowRunId; id !== undefined; id = parents.get(id)) found.add(id)
  }
  return found
}

export const I9: Invariant<Evidence> = {
  id: "I9",
  claim: "status, result, records and undos are those that the program's text predicts",
  watch: (scene) => ({
    atEnd: () => {
      const bereaved = ancestorsOfPoison([...scene.rows().values()])
      for (const row of scene.rows().values()) {
        if (!isTerminal(row.status) || bereaved.has(row.workflowRunId)) continue
        const { workflowRunId, status } = row
        const wrong = (message: string) => scene.violate("I9", workflowRunId, message)
        const { statuses, result, sure, maybe, undone } = scene.prediction(row)
        const wasStopped =
          scene.cancelled.has(workflowRunId) ||
          row.deadlineAt !== null ||
          row.cancelRequest !== null ||
          row.error?.tag === "PoisonRun"
        if (!statuses.has(status)) {
          if (wasStopped && stopped.has(status)) continue
          wrong(`ended as ${status}, not as ${[...statuses].join(" or ")}`)
          continue
        }
        if (status === "completed") {
          const found = row.result === null ? null : Payload.decode(row.result)
          if (found !== result) wrong(`ended with ${String(found)}, not with ${result}`)
        } else if (wasStopped) continue
        const records = new Map(scene.records(workflowRunId).map((one) => [one.stepKey, one]))
        for (const [key, expected] of sure) {
          const found = records.get(key)?.status
          if (found !== expected) wrong(`${key} is ${found ?? "not recorded"}, not ${expected}`)
        }
        for (const [key, record] of records) {
          const name = record.name.replace(/(#\d+)?(\.result|:answer)$/, "")
          if (!sure.has(key) && !maybe.has(name)) wrong(`${key} should not be there`)
        }
        if (status !== "compensated") continue
        for (const key of undone) {
          const found = records.get(key)?.compensation?.status
          if (found !== "completed") wrong(`${key} was not undone, but is ${found ?? "untouched"}`)
        }
      }
    },
  }),
}
