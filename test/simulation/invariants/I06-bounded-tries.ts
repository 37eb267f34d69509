/** Bodies run again only for a reason: a declared retry, or a claim that was taken away. */
import { hasGoodNetwork, isHarmless } from "../faults.ts"
import { commandsOf } from "../program.ts"
import type { Process } from "../machine.ts"
import type { Change, Invariant } from "../scene.ts"
import { shutdownTimeoutMs } from "../workers.ts"

export const I6: Invariant = {
  id: "I6",
  claim: "each try of a step runs once, and once more for each time its run was taken away",
  watch: (scene) => {
    const harmless = isHarmless(scene.options)
    const goodNetwork = hasGoodNetwork(scene.options)
    // a transaction that the network spoils is begun again, and that is no try
    const spoilt = new Set(
      goodNetwork
        ? []
        : scene.program.workflows
            .flatMap(({ block }) => commandsOf(block))
            .flatMap((command) => (command.is === "transaction" ? [command.name] : [])),
    )
    /** Who stops lets its runs come to a safe point, and hands them back there. */
    const checkRelease = ({ name, stoppingAt }: Process, rows: Change["rows"]) => {
      const patient = stoppingAt !== null && scene.machine.now - stoppingAt >= shutdownTimeoutMs
      for (const { before, after } of patient ? [] : rows) {
        if (before?.workerId == null || after.workerId !== null) continue
        scene.violate("I6", after.workflowRunId, `was dropped by ${name}, for no reason`)
      }
    }
    return {
      onChange: ({ applied, rows }) => {
        if (goodNetwork && applied.verb === "releaseClaims") checkRelease(applied.process, rows)
        if (!harmless || (applied.verb !== "releaseClaims" && applied.verb !== "sweep")) return
        for (const { before, after } of rows) {
          if (before === null || before.workerId === null) continue
          const message = `${applied.verb} took it away, though nothing happened to its worker`
          scene.violate("I6", after.workflowRunId, message)
        }
      },
      atEnd: () => {
        const counts = new Map<string, number>()
        for (const { what, workflowRunId, stepKey, runAttempt, attempt } of scene.ledger.tries) {
          const key = `${what} ${workflowRunId} ${stepKey} ${runAttempt} ${attempt}`
          counts.set(key, (counts.get(key) ?? 0) + 1)
        }
        for (const [key, count] of counts) {
          const [what, workflowRunId = "", stepKey, , attempt] = key.split(" ")
          const allowed = 1 + scene.taken(workflowRunId)
          if (count <= allowed || spoilt.has(stepKey?.replace(/#\d+$/, "") ?? "")) continue
          const message = `ran ${count} times, not at most ${allowed}`
          scene.violate("I6", workflowRunId, `try ${attempt} of ${what} ${stepKey} ${message}`)
        }
      },
    }
  },
}
