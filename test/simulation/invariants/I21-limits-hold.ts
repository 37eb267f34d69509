/**
 * The limits of a step hold over its tries, wherever they run: its deadline counts on from the first
 * one, and what it told of its progress is not forgotten.
 */
import * as Payload from "../../../src/Payload.ts"
import { hasGoodNetwork } from "../faults.ts"
import { epoch } from "../machine.ts"
import { commandsOf } from "../program.ts"
import type { Invariant } from "../scene.ts"

/** What a process may be wrong by in its reckoning of the store's time, on a good network. */
const slackMs = 200

export const I21: Invariant = {
  id: "I21",
  claim:
    "no try begins after its step's deadline; a try is told the newest progress that is stored",
  watch: (scene) => {
    const withDeadline = new Set(
      scene.program.workflows
        .flatMap(({ block }) => commandsOf(block))
        .flatMap((command) => (command.is === "deadline" ? [command.name] : [])),
    )
    return {
      onTry: ({ what, workflowRunId, stepKey, lastHeartbeat }) => {
        if (what !== "step") return
        const wrong = (message: string) =>
          scene.violate("I21", workflowRunId, `a try of ${stepKey} ${message}`)
        if (withDeadline.has(stepKey.replace(/#\d+$/, ""))) {
          const timer = scene.timers(workflowRunId).find((one) => one.stepKey === stepKey)
          if (timer === undefined) wrong("begins, and no deadline of it is stored")
          else if (hasGoodNetwork(scene.options)) {
            const late = epoch + scene.machine.now - timer.wakeAt
            if (late > slackMs) wrong(`begins ${late.toFixed(0)} ms after the deadline`)
          }
        }
        const told = scene.ledger.beats.get(`${workflowRunId} ${stepKey}`) ?? []
        if (lastHeartbeat !== undefined && !told.includes(lastHeartbeat as number)) {
          wrong(`is told ${String(lastHeartbeat)}, which none before it has told`)
        }
        const record = scene.records(workflowRunId).find((one) => one.stepKey === stepKey)
        if (record?.heartbeat == null) return
        const stored = Payload.decode(record.heartbeat) as number
        if (((lastHeartbeat as number | undefined) ?? 0) < stored) {
          wrong(`is told ${String(lastHeartbeat)}, but ${stored} is stored`)
        }
      },
    }
  },
}
