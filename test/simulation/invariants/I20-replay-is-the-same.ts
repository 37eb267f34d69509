/** What a body saw and decided, it sees and decides again, whoever runs it. */
import type { BodyExecution } from "../ledger.ts"
import type { Evidence, Invariant } from "../scene.ts"

export const I20: Invariant<Evidence> = {
  id: "I20",
  claim: "executions of one attempt see the same outcomes in the same order, and decide the same",
  watch: (scene) => {
    /** Outcomes are given in the order of their numbers, the first time too. */
    const checkNumbers = ({ workflowRunId, seen }: BodyExecution) => {
      const records = scene.records(workflowRunId).filter(({ carried }) => !carried)
      const numbers = new Map(records.map(({ stepKey, position }) => [stepKey, position ?? 0]))
      let last = 0
      for (const one of seen) {
        const number = numbers.get(one.replace(/ (completed|failed)$/, ""))
        if (number === undefined) continue
        if (number < last) scene.violate("I20", workflowRunId, `its body saw ${one} out of turn`)
        last = number
      }
    }
    return {
      atEnd: () => {
        const groups = new Map<string, Array<BodyExecution>>()
        for (const execution of scene.ledger.executions) {
          const key = `${execution.workflowRunId} ${execution.attempt}`
          const group = groups.get(key)
          if (group === undefined) groups.set(key, [execution])
          else group.push(execution)
        }
        for (const group of groups.values()) {
          const longest = group.reduce((a, b) => (b.seen.length > a.seen.length ? b : a))
          const notes = new Map<string, string>()
          for (const execution of group) {
            const { workflowRunId, seen } = execution
            const row = scene.rows().get(workflowRunId)
            if (row?.attempt === execution.attempt) checkNumbers(execution)
            const at = seen.findIndex((one, i) => one !== longest.seen[i])
            if (at >= 0) {
              const other = `${longest.seen[at]} on ${longest.process.name}`
              scene.violate(
                "I20",
                workflowRunId,
                `its body saw ${seen[at]} on ${execution.process.name}, and ${other}, as number ${at + 1}`,
              )
            }
            for (const [site, value] of execution.notes) {
              const known = notes.get(site) ?? value
              notes.set(site, known)
              if (known === value) continue
              scene.violate("I20", workflowRunId, `at ${site} it was ${known}, and then ${value}`)
            }
          }
        }
      },
    }
  },
}
