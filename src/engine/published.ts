/**
 * What a body publishes (attributes, a status text), on its way to the store.
 *
 * A replayed body says again what it said before: nothing is passed on until the history is used up,
 * and then the last word only, so that the world never sees the run go backwards. From then on it
 * travels with the run's next write, or with one of its own.
 */
import type { Attributes } from "../Attributes.ts"
import type { RunWrite } from "../WorkflowStore.ts"

export interface Published {
  readonly set: (values: Attributes) => void
  /** The history is used up: what is said from now on is new. */
  readonly open: () => void
  /** Whether something waits to be written. */
  readonly waits: () => boolean
  /** What the next write of the run carries along. */
  readonly take: () => Pick<RunWrite, "attributes">
}

const nothing: Pick<RunWrite, "attributes"> = {}

export const makePublished = (): Published => {
  let pending: Map<string, Attributes[string]> | null = null
  let isOpen = false
  return {
    set: (values) => {
      for (const [name, value] of Object.entries(values)) (pending ??= new Map()).set(name, value)
    },
    open: () => {
      isOpen = true
    },
    waits: () => isOpen && pending !== null,
    take: () => {
      if (!isOpen || pending === null) return nothing
      const attributes = Object.fromEntries(pending)
      pending = null
      return { attributes }
    },
  }
}
