/** A process whose engine has stopped has nothing left to do: no fiber, timer or task. */
import type { Invariant } from "../scene.ts"

export const I15: Invariant = {
  id: "I15",
  claim: "every engine stops, and afterwards nothing of it is left",
  watch: (scene) => ({
    afterStop: (stopped) => {
      for (const { process, hasStopped } of stopped) {
        if (!hasStopped) {
          scene.violate("I15", null, `${process.name} has not stopped`)
          continue
        }
        const left = scene.machine.pending(process)
        if (left > 0) scene.violate("I15", null, `${process.name} has ${left} timers or tasks left`)
      }
    },
  }),
}
