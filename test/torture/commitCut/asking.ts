/** Asking an engine whose connections are cut: again, until there is an answer. */
import { FlowlyError } from "../../../src/index.ts"

export const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

export const patienceMs = 30_000

/** Asks until there is an answer. `already`: an answer that says that it was done before. */
export const asked = async <A>(
  what: string,
  ask: () => Promise<A>,
  already: ReadonlyArray<string> = [],
): Promise<A | undefined> => {
  const deadline = performance.now() + patienceMs
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      if (!(error instanceof FlowlyError)) throw error
      if (already.includes(error.code)) return undefined
      // an engine that was stopped meanwhile: the next one is asked
      const isOver = !error.retryable && error.code !== "EngineStopped"
      if (isOver || performance.now() > deadline) {
        throw new Error(`${what}: ${error.code}: ${error.message}`, { cause: error })
      }
      await pause(10)
    }
  }
}

/** A trigger finds out by itself what became of its insert: it may not leave that to its caller. */
export const mayAskAgain = ({ code, retryable, details }: FlowlyError): boolean =>
  code === "EngineStopped" ||
  (retryable && (details as { readonly outcome?: unknown }).outcome === "not-applied")

export const until = async (what: string, holds: () => Promise<boolean>): Promise<void> => {
  const deadline = performance.now() + patienceMs
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within ${patienceMs} ms: ${what}`)
    await pause(20)
  }
}
