/** One writer per run: claims never overlap, no token is given twice, no lapsed worker begins. */
import { epoch, type Process } from "../machine.ts"
import { hasGoodNetwork } from "../faults.ts"
import type { Change, Invariant } from "../scene.ts"

/** Verbs by which a claim ends without its holder's lease having ended. */
const ends: ReadonlySet<string> = new Set(["commit", "releaseClaims", "terminateRuns"])

export const I3: Invariant = {
  id: "I3",
  claim:
    "at any instant a run has at most one live claim, its tokens only grow, and no try begins on a worker whose lease has lapsed",
  watch: (scene) => {
    const owners = new Map<string, Process>()
    const goodNetwork = hasGoodNetwork(scene.options)
    const { latencyMs, maxConcurrent } = scene.options

    /** Nobody takes more than he may execute, nor anything once he has begun to stop. */
    const checkGreed = (process: Process, now: number, rows: Change["rows"]) => {
      for (const { before, after } of rows) {
        const { workflowRunId, workerId } = after
        if (workerId === null || before?.workerId === workerId) continue
        const wrong = (message: string) =>
          scene.violate("I3", workflowRunId, `${process.name} claims it, and ${message}`)
        const { stoppingAt } = process
        if (stoppingAt !== null && now - stoppingAt > 2 * latencyMs + 10) wrong("is stopping")
        const own = [...scene.rows().values()].filter((row) => row.workerId === workerId)
        if (own.length > maxConcurrent) wrong(`holds ${own.length} runs`)
        const suspects = own.filter(({ crashCount }) => crashCount >= 2)
        if (suspects.length > 1) wrong("holds two that have crashed again and again")
      }
    }

    return {
      onTry: ({ workflowRunId, stepKey, process }) => {
        const now = epoch + scene.machine.now
        const { workers } = scene.network.handle.inspect()
        const live = workers.filter(
          (one) => owners.get(one.workerId) === process && one.leaseExpiresAt > now,
        )
        const holder = scene.rows().get(workflowRunId)?.workerId ?? null
        // what it has claimed in a former life is not its own any more
        const isOwn = holder === null || owners.get(holder) !== process
        if (live.length > 0 && (isOwn || live.some(({ workerId }) => workerId === holder))) return
        scene.violate(
          "I3",
          workflowRunId,
          `${stepKey} begins on ${process.name}, which has no lease`,
        )
      },
      onChange: ({ applied, now, rows, leases }) => {
        if (applied.verb === "registerWorker") {
          const [{ workerId }] = applied.args as [{ readonly workerId: string }]
          owners.set(workerId, applied.process)
        }
        if (goodNetwork) checkGreed(applied.process, applied.at, rows)
        for (const { before, after } of rows) {
          const wrong = (message: string) =>
            scene.violate("I3", after.workflowRunId, `${applied.verb}: ${message}`)
          if (before === null) continue
          if (after.token < before.token) wrong(`token ${before.token} became ${after.token}`)
          if (after.workerId !== null && after.workerId !== before.workerId) {
            if (after.token <= before.token) wrong(`token ${after.token} was given twice`)
            const lease = leases.get(after.workerId)
            if (lease === undefined || lease <= now)
              wrong("was claimed by a worker without a lease")
          }
          if (before.workerId === null || after.workerId === before.workerId) continue
          if (ends.has(applied.verb)) continue
          const lease = leases.get(before.workerId)
          if (lease !== undefined && lease > now) wrong("took a claim whose lease was live")
        }
        // a lapsed lease is never live again
        if (applied.verb !== "renewLease") return
        const [{ workerId }] = applied.args as [{ readonly workerId: string }]
        const lease = leases.get(workerId)
        const worker = scene.network.handle
          .inspect()
          .workers.find((one) => one.workerId === workerId)
        if (lease !== undefined && lease <= now && (worker?.leaseExpiresAt ?? 0) > now) {
          scene.violate("I3", null, `the lapsed lease of ${applied.process.name} was renewed`)
        }
      },
    }
  },
}
