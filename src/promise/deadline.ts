/**
 * Waiting for no longer than a caller said.
 */
import { toFlowlyError } from "./FlowlyError.ts"

/** Settles in time: with the promise, or with the error. */
export const withinDeadline = async (
  promise: Promise<void>,
  timeoutMs: number,
  late: () => unknown,
): Promise<void> => {
  let timer: ReturnType<typeof setTimeout> | undefined
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(toFlowlyError(late())), Math.min(timeoutMs, 2 ** 31 - 1))
  })
  try {
    await Promise.race([promise, deadline])
  } finally {
    clearTimeout(timer)
  }
}
