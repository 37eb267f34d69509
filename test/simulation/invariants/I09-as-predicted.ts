/** What was predicted from the program's text is what came of it: status, result, records. */
import * as Payload from "../../../src/Payload.ts"
import { isTerminal, type RunStatus } from "../../../src/Run.ts"
import type { RunRow } from "../../../src/WorkflowStore.ts"
import { commandsOf } from "../program.ts"
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
  watch: (scene) => {
    const abandoned = new Set(
      scene.program.workflows
        .flatMap(({ block }) => commandsOf(block))
        .flatMap((one) => (one.is === "spawn" && one.abandons ? [one.name] : [])),
    )
    return {
      atEnd: () => {
        const bereaved = ancestorsOfPoison([...scene.rows().values()])
        for (const { workflowRunId, parent, cancelRequest } of scene.rows().values()) {
          if (parent === null || cancelRequest === null || scene.cancelled.has(workflowRunId))
            continue
          if (!abandoned.has(parent.stepKey.replace(/#\d+$/, ""))) continue
          scene.violate("I9", workflowRunId, "lives on without its parent, and was cancelled")
        }
        for (const row of scene.rows().values()) {
          if (!isTerminal(row.status) || bereaved.has(row.workflowRunId)) continue
          const { workflowRunId, status } = row
          const wrong = (message: string) => scene.violate("I9", workflowRunId, message)
          const { statuses, result, sure, maybe, undone, stuck } = scene.prediction(row)
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
          if (status === "completed" || !row.compensating) continue
          for (const key of undone) {
            const found = records.get(key)?.compensation?.status ?? "untouched"
            const expected = stuck.has(key) ? "failed" : "completed"
            if (found !== expected) wrong(`the undo of ${key} is ${found}, not ${expected}`)
          }
        }
      },
    }
  },
}
