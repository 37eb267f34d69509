/** Each tick of a schedule starts one run, and the ticks are those of its rule. */
import { isTerminal } from "../../../src/Run.ts"
import type { NewRun } from "../../../src/WorkflowStore.ts"
import { isHarmless } from "../faults.ts"
import type { Invariant } from "../scene.ts"

interface Fired {
  readonly tick: number
  readonly at: number
  readonly workflowRunId: string
}

export const I11: Invariant = {
  id: "I11",
  claim:
    "each tick fires once, not early, and none is passed over but for a newer one that was due",
  watch: (scene) => {
    const fired = new Map<string, Array<Fired>>()
    return {
      onChange: ({ applied, now, rows }) => {
        if (applied.verb !== "fireTick") return
        for (const { after } of rows) {
          const { key, tick, nextTick, run } = applied.args[0] as {
            readonly key: string
            readonly tick: number
            readonly nextTick: number
            readonly run: NewRun
          }
          const wrong = (message: string) =>
            scene.violate(
              "I11",
              after.workflowRunId,
              `${key} at ${tick - (tick % 1000)}: ${message}`,
            )
          const known = fired.get(key) ?? []
          fired.set(key, known)
          if (known.some((one) => one.tick === tick)) wrong("fired twice")
          if (tick > now) wrong(`fired ${tick - now} ms early`)
          const { everyMs = 1 } = scene.schedules.get(key) ?? {}
          if (nextTick > now - (now % everyMs) + everyMs) wrong("passes over the next one")
          if (tick % (scene.schedules.get(key)?.everyMs ?? 1) !== 0) wrong("is none of its rule")
          if (after.workflowRunId !== run.workflowRunId) wrong("started another run")
          if (after.scheduledFor !== tick) wrong(`its run is for ${after.scheduledFor}`)
          known.push({ tick, at: now, workflowRunId: after.workflowRunId })
        }
      },
      atEnd: () => {
        for (const [key, { everyMs, sinceMs, untilMs }] of scene.schedules) {
          const known = fired.get(key) ?? []
          const wrong = (message: string) => scene.violate("I11", null, `${key}: ${message}`)
          for (const { workflowRunId } of known) {
            const row = scene.rows().get(workflowRunId)
            if (row === undefined || !isTerminal(row.status)) wrong("a tick has no run that ended")
          }
          if (sinceMs === null || untilMs === null) continue
          // a tick after which nothing fired in time may have had nobody to fire it
          const slack = isHarmless(scene.options) ? 3 * scene.options.pollMs : Infinity
          for (let tick = Math.ceil(sinceMs / everyMs) * everyMs; tick < untilMs; tick += everyMs) {
            if (known.some((one) => one.tick === tick)) continue
            // whoever fired a newer one came when that was due, and fired nothing older
            const newer = known.find((one) => one.tick > tick)
            const isCatchUp = newer !== undefined && slack === Infinity
            if (isCatchUp || (newer === undefined && tick + slack > untilMs)) continue
            wrong(`the tick of ${new Date(tick).toISOString()} never fired`)
          }
          // what fired late was the newest that was due
          for (const { tick, at } of known) {
            if (slack < Infinity && at - tick >= everyMs)
              wrong(`fired ${new Date(tick).toISOString()}, and a newer one was due`)
          }
        }
      },
    }
  },
}
