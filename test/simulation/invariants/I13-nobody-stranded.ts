/** No state is outside of what somebody will look at: F10 of the catalogue of failures. */
import { isTerminal } from "../../../src/Run.ts"
import type { RunRow } from "../../../src/WorkflowStore.ts"
import { commandsOf } from "../program.ts"
import type { Invariant } from "../scene.ts"

export const I13: Invariant = {
  id: "I13",
  claim:
    "every run that has not ended is held, due at some time, paused, or waits for what can come",
  watch: (scene) => {
    const { workflows } = scene.program
    const sleeps = new Set(
      workflows
        .flatMap(({ block }) => commandsOf(block))
        .flatMap((one) => (one.is === "sleep" ? [one.name] : [])),
    )
    /** An interrupted sleep is waited for no more. */
    const abandons = new Set(workflows.flatMap(({ name, api }) => (api === "effect" ? [name] : [])))
    const strandedBecause = (row: RunRow, rows: ReadonlyMap<string, RunRow>): string | null => {
      if (isTerminal(row.status) || row.status === "paused") return null
      if (row.workerId !== null) {
        const known = scene.network.handle.inspect().workers
        const holder = known.find(({ workerId }) => workerId === row.workerId)
        return holder === undefined ? "is held by a worker that nobody knows" : null
      }
      if (row.status === "running") return "is running, and nobody holds it"
      const parks = row.status === "sleeping" || row.status === "waiting"
      if (parks && !row.compensating && row.deadlineAt !== null) {
        if (row.dueAt === null || row.dueAt > row.deadlineAt) return "is not due at its deadline"
      }
      if (parks && row.attempt === 1 && !abandons.has(row.workflow)) {
        const recorded = new Set(scene.records(row.workflowRunId).map(({ stepKey }) => stepKey))
        for (const { stepKey, wakeAt } of scene.timers(row.workflowRunId)) {
          if (!sleeps.has(stepKey.replace(/#\d+$/, "")) || recorded.has(stepKey)) continue
          if (row.dueAt === null || row.dueAt > wakeAt) return `is not due when ${stepKey} is over`
        }
      }
      if (row.dueAt !== null) return null
      if (row.status !== "waiting") return `is ${row.status}, and never due`
      const children = [...rows.values()].filter(
        ({ parent }) => parent?.workflowRunId === row.workflowRunId,
      )
      const recorded = new Set(scene.records(row.workflowRunId).map(({ stepKey }) => stepKey))
      const open = children.filter(({ parent }) => !recorded.has(parent?.stepKey ?? ""))
      return open.length > 0 && open.every(({ status }) => isTerminal(status))
        ? "waits for children that have ended"
        : null
    }
    const check = (row: RunRow) => {
      const reason = strandedBecause(row, scene.rows())
      if (reason !== null) scene.violate("I13", row.workflowRunId, reason)
    }
    return {
      onChange: ({ rows, now }) => {
        for (const { before, after } of rows) {
          check(after)
          const { workflowRunId, cancelRequest, workerId, status, dueAt } = after
          if (before === null || before.cancelRequest !== null || cancelRequest === null) continue
          if (workerId !== null || isTerminal(status) || (dueAt !== null && dueAt <= now)) continue
          scene.violate("I13", workflowRunId, "is cancelled, and nobody is to hear of it")
        }
      },
      atEnd: () => {
        for (const row of scene.rows().values()) check(row)
      },
    }
  },
}
