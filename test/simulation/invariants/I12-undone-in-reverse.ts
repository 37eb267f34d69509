/** Compensation undoes what was completed, in reverse, and only where the run has given up. */
import { isTerminal, type RunStatus } from "../../../src/Run.ts"
import type { StepRecord } from "../../../src/WorkflowStore.ts"
import type { Try } from "../ledger.ts"
import { commandsOf, undoTries } from "../program.ts"
import type { Evidence, Invariant } from "../scene.ts"

export const I12: Invariant<Evidence> = {
  id: "I12",
  claim:
    "undos are those of completed steps, in reverse order of completion, in compensating runs, while no step executes",
  watch: (scene) => {
    // one that took too long may end well, and nobody is told
    const steps = scene.program.workflows
      .flatMap(({ block }) => commandsOf(block))
      .flatMap((one) => (one.is === "step" ? [one] : []))
    const waitedFor = new Set(steps.map(({ name }) => name))
    const undoable = new Set(
      steps.flatMap(({ name, undoFails }) => ((undoFails ?? undoTries) < undoTries ? [name] : [])),
    )
    const undisturbed = (workflowRunId: string, sinceMs: number): boolean =>
      scene.undisturbed?.(workflowRunId, sinceMs) ?? scene.taken(workflowRunId) === 0

    /** The run that gave up had to wait for it, and it was there to be waited for. */
    const executes = ({ what, workflowRunId, stepKey, process, beganAt, end }: Try): boolean =>
      what === "step" &&
      end === null &&
      process.state === "alive" &&
      waitedFor.has(nameOf(stepKey)) &&
      undisturbed(workflowRunId, beganAt)

    return {
      onTry: ({ what, workflowRunId, stepKey, beganAt: now }) => {
        const wrong = (message: string) => scene.violate("I12", workflowRunId, message)
        const row = scene.rows().get(workflowRunId)
        if (what === "step") {
          if (row?.compensating === true) wrong(`${stepKey} begins in a run that undoes its steps`)
          return
        }
        if (row?.compensating !== true)
          return wrong(`the undo of ${stepKey} begins in a ${row?.status} run`)
        for (const one of scene.ledger.tries) {
          if (one.workflowRunId !== workflowRunId || now - one.beganAt > patienceMs) continue
          if (executes(one)) wrong(`${stepKey} is undone while ${one.stepKey} executes`)
        }
        const records = scene.records(workflowRunId)
        const own = records.find((record) => record.stepKey === stepKey)
        // what is unknown has no place in the order
        if (own?.status === "retrying") return
        for (const { stepKey: unknown, ...record } of records) {
          if (record.status !== "retrying" || !record.hasCompensate) continue
          if (record.compensation !== null && record.compensation.status !== "retrying") continue
          wrong(`${stepKey} is undone before ${unknown}, of which nothing is known`)
        }
        if ((own?.position ?? 0) < noReturnOf(records)) {
          return wrong(`${stepKey} is undone, behind a point of no return`)
        }
        for (const record of records) {
          if (!record.hasCompensate || record.status !== "completed") continue
          if ((record.position ?? 0) <= (own?.position ?? 0)) continue
          const undone = record.compensation?.status
          if (undone !== "completed" && undone !== "failed") {
            wrong(`${stepKey} is undone before ${record.stepKey}, which completed later`)
          }
        }
      },
      atEnd: () => {
        for (const { workflowRunId, status, compensating } of scene.rows().values()) {
          if (!isTerminal(status)) continue
          const records = scene.records(workflowRunId)
          const noReturn = noReturnOf(records)
          for (const record of records) {
            const wrong = (message: string) => scene.violate("I12", workflowRunId, message)
            if (!compensating && record.compensation !== null) wrong(`${record.stepKey} was undone`)
            if (status !== "compensated" || !record.hasCompensate) continue
            if ((record.position ?? Infinity) < noReturn) continue
            if (record.status === "completed" && record.compensation?.status !== "completed") {
              wrong(`${record.stepKey} was not undone`)
            }
          }
        }
        // what completed outside was also seen inside: no effect of a compensated run stays behind
        const undone = new Set<string>()
        for (const { what, workflowRunId, stepKey, end } of scene.ledger.tries) {
          if (what === "undo" && end === "completed") undone.add(`${workflowRunId} ${stepKey}`)
        }
        for (const { what, workflowRunId, stepKey, end, beganAt, endedAt } of scene.ledger.tries) {
          const row = scene.rows().get(workflowRunId)
          if (what !== "step" || end !== "completed" || row === undefined) continue
          if (!gaveUp.has(row.status) || scene.cancelled.has(workflowRunId)) continue
          const soon = endedAt !== null && endedAt - beganAt < patienceMs
          if (!soon || !undisturbed(workflowRunId, beganAt)) continue
          if (!undoable.has(nameOf(stepKey))) continue
          if (undone.has(`${workflowRunId} ${stepKey}`)) continue
          const records = scene.records(workflowRunId)
          const own = records.find((one) => one.stepKey === stepKey)
          if ((own?.position ?? Infinity) < noReturnOf(records)) continue
          scene.violate("I12", workflowRunId, `${stepKey} ended well, and was never undone`)
        }
        for (const { workflowRunId, status } of scene.rows().values()) {
          if (status !== "compensated") continue
          const records = scene.records(workflowRunId)
          for (const record of records) {
            if (!record.hasCompensate || record.status !== "completed") continue
            if ((record.position ?? 0) < noReturnOf(records)) continue
            if (undone.has(`${workflowRunId} ${record.stepKey}`)) continue
            scene.violate("I12", workflowRunId, `no undo of ${record.stepKey} ever ended`)
          }
        }
      },
    }
  },
}

const gaveUp: ReadonlySet<RunStatus> = new Set(["compensated", "failed", "dead_letter"])

/** A run that ends waits longer than this for the steps that it executes. */
const patienceMs = 4000

const nameOf = (stepKey: string): string => stepKey.replace(/#\d+$/, "")

/** What completed before this place is not undone. */
const noReturnOf = (records: ReadonlyArray<StepRecord>): number =>
  Math.max(0, ...records.map((one) => (one.kind === "no_return" ? (one.position ?? 0) : 0)))
