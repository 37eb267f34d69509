/**
 * What a run waits for when it parks, as evidence for whoever asks why it does not move.
 */
import type { ParkedWait } from "../WorkflowStore.ts"
import type { Issued } from "./Execution.ts"

/** More would make each park of a wide fan-out a large row; who asks is told the first to come. */
const most = 20

export const parkedWaits = (waiting: ReadonlyArray<Issued>): ReadonlyArray<ParkedWait> =>
  waiting
    .toSorted((a, b) => {
      const [first, second] = [a.wakeAt ?? Infinity, b.wakeAt ?? Infinity]
      return first === second ? 0 : first - second
    })
    .slice(0, most)
    .map(parkedWait)

const parkedWait = ({ key, operation, wakeAt, attempts }: Issued): ParkedWait => {
  const { kind } = operation
  const isTry = "retry" in operation
  return {
    stepKey: key,
    kind: kind === "sleep" || kind === "child" || kind === "event" ? kind : "backoff",
    event: kind === "event" ? operation.event : null,
    until: wakeAt,
    attempt: isTry ? attempts + 1 : null,
    maxAttempts: isTry ? operation.retry.maxAttempts : null,
  }
}
