/**
 * What flowly does itself, it does once: an emitted event is there exactly once, and what a
 * transactional step wrote is there exactly if the step is recorded.
 */
import { commandsOf } from "../program.ts"
import type { Evidence, Invariant } from "../scene.ts"

export const I7: Invariant<Evidence> = {
  id: "I7",
  claim:
    "each emit or transaction that was recorded has its effect once, emits in their order, and none other has one",
  watch: (scene) => ({
    atEnd: () => {
      const written = new Map<string, Array<string>>()
      for (const { workflowRunId, stepKey, nonce } of scene.ledger.sink) {
        const key = `${workflowRunId} ${stepKey}`
        written.set(key, [...(written.get(key) ?? []), nonce])
      }
      for (const one of scene.ledger.sink) {
        const { workflowRunId, stepKey, nonce } = one
        const record = scene.records(workflowRunId).find((own) => own.stepKey === stepKey)
        const wrong = (message: string) =>
          scene.violate("I7", workflowRunId, `transaction ${stepKey} ${message}`)
        const rows = written.get(`${workflowRunId} ${stepKey}`) ?? []
        if (rows.length > 1) wrong(`was committed ${rows.length} times`)
        if (record?.status !== "completed") wrong(`was committed, but is ${record?.status}`)
        else if (record.result?.json.includes(`"${nonce}"`) !== true) wrong("has another result")
      }
      const transactions = new Set(
        scene.program.workflows
          .flatMap(({ block }) => commandsOf(block))
          .flatMap((command) => (command.is === "transaction" ? [command.name] : [])),
      )
      for (const { workflowRunId } of scene.rows().values()) {
        for (const { stepKey, name, status } of scene.records(workflowRunId)) {
          if (!transactions.has(name) || status !== "completed") continue
          if (scene.inherited?.(workflowRunId).has(stepKey) === true) continue
          if (written.has(`${workflowRunId} ${stepKey}`)) continue
          scene.violate(
            "I7",
            workflowRunId,
            `transaction ${stepKey} is recorded, and wrote nothing`,
          )
        }
      }
      for (const { workflowRunId, notes } of scene.ledger.executions) {
        const heard = [...notes].flatMap(([site, what]) =>
          site.startsWith("heard ") ? [what] : [],
        )
        if (new Set(heard).size === heard.length) continue
        // a fork is sent again what its origin had taken
        if ((scene.inherited?.(workflowRunId).size ?? 0) > 0) continue
        scene.violate("I7", workflowRunId, `an event was taken twice: ${heard.join()}`)
      }
      for (const { workflowRunId } of scene.rows().values()) {
        const emitted = scene.emitted(workflowRunId).map(({ name }) => name)
        const recorded = scene
          .records(workflowRunId)
          .filter(({ kind, status }) => kind === "emit" && status === "completed")
          .filter(({ stepKey }) => scene.inherited?.(workflowRunId).has(stepKey) !== true)
          .toSorted((a, b) => (a.position ?? 0) - (b.position ?? 0))
          .map(({ name }) => name)
        if (emitted.join() === recorded.join()) continue
        const message = `emitted [${emitted.join()}], but recorded [${recorded.join()}]`
        scene.violate("I7", workflowRunId, message)
      }
    },
  }),
}
