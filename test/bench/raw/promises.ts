/** What so many promises cost that wait for an abort, and nothing else. */
import type { Meter, Working } from "../process/meter.ts"

export interface PromisesJob {
  readonly kind: "promises"
  readonly count: number
}

export const promises = async (job: PromisesJob, meter: Meter): Promise<Working> => {
  const waiting: Array<Promise<void>> = []
  const controllers: Array<AbortController> = []
  return {
    start: async () => {
      for (let n = 0; n < job.count; n++) {
        const controller = new AbortController()
        controllers.push(controller)
        waiting.push(
          new Promise<void>((resolve) => {
            controller.signal.addEventListener("abort", () => resolve(), { once: true })
          }),
        )
        meter.done()
      }
    },
    close: async () => {
      for (const controller of controllers) controller.abort()
      await Promise.all(waiting)
    },
  }
}
