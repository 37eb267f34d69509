/** A run is called poison only after its workers really died under it, one after the other. */
import type { Process } from "../machine.ts"
import type { Invariant } from "../scene.ts"

/** The default of workers. */
const mostCrashes = 5

export const I19: Invariant = {
  id: "I19",
  claim:
    "a run's crash count is no more than the claims in a row that lapsed without progress; a worker that was only frozen takes back what was counted for it",
  watch: (scene) => {
    const lapsed = new Map<string, number>()
    /** Incarnations of workers, and since when each process has its newest. */
    const incarnations = new Map<Process, Array<string>>()
    const newestSince = new Map<Process, number>()
    const refunded = new Set<string>()
    /** Whose runs were counted as crashed. */
    const blamed = new Set<string>()
    return {
      onChange: ({ applied, rows }) => {
        const { process, verb } = applied
        if (verb === "refundCrashes") refunded.add(applied.args[0] as string)
        if (verb === "registerWorker") {
          const [{ workerId }] = applied.args as [{ readonly workerId: string }]
          incarnations.set(process, [...(incarnations.get(process) ?? []), workerId])
          newestSince.set(process, scene.machine.now)
        }
        for (const { before, after } of rows) {
          const { workflowRunId } = after
          const swept =
            applied.verb === "sweep" && before?.workerId != null && after.workerId === null
          if (swept && after.crashCount > before.crashCount) blamed.add(before.workerId as string)
          const count = (lapsed.get(workflowRunId) ?? 0) + (swept ? 1 : 0)
          // a park, a hand-back or a record begins the count anew
          const letGo =
            applied.verb === "commit" && before?.workerId != null && after.workerId === null
          lapsed.set(workflowRunId, (after.crashCount === 0 && !swept) || letGo ? 0 : count)
          if (after.error?.tag === "PoisonRun" && before?.error?.tag !== "PoisonRun") {
            if (count < mostCrashes) {
              scene.violate("I19", workflowRunId, `is called poison after ${count} crashes`)
            }
          }
          if (after.crashCount <= (letGo ? 0 : count)) continue
          scene.violate(
            "I19",
            workflowRunId,
            `${applied.verb}: ${after.crashCount} crashes are counted, but ${count} claims lapsed`,
          )
        }
      },
      atEnd: () => {
        const amendsMs = 2 * scene.options.leaseMs
        for (const [process, workerIds] of incarnations) {
          const since = scene.machine.now - (newestSince.get(process) ?? 0)
          if (process.state !== "alive" || since < amendsMs) continue
          // the last one is its present life
          const former = workerIds.slice(0, -1).filter((workerId) => blamed.has(workerId))
          if (former.every((workerId) => refunded.has(workerId))) continue
          scene.violate("I19", null, `${process.name} has never told that it was only frozen`)
        }
      },
    }
  },
}
