/**
 * A store in the memory of this process, for `engine.setStore`: tests, demos, programs that can
 * afford to forget.
 */
import type * as Layer from "effect/Layer"
import * as MemoryStore from "../MemoryStore.ts"
import type { WorkflowStore } from "../WorkflowStore.ts"

const handles = new WeakMap<MemoryWorkflowStore, MemoryStore.Handle>()

/**
 * Runs live as long as this object does; several engines may share it.
 */
export class MemoryWorkflowStore {
  readonly kind = "memory"

  /** `client` is what `ctx.transaction` hands out. There is no transaction: nothing is rolled back. */
  constructor(options?: { readonly client?: unknown }) {
    handles.set(this, MemoryStore.makeUnsafe({ client: options?.client }))
  }
}

/**
 * The handle behind a store.
 */
export const handleOf = (store: MemoryWorkflowStore): MemoryStore.Handle => {
  const handle = handles.get(store)
  if (handle === undefined) throw new TypeError("not a MemoryWorkflowStore")
  return handle
}

/**
 * The layer behind a store.
 */
export const memoryLayer = (store: MemoryWorkflowStore): Layer.Layer<WorkflowStore> =>
  handleOf(store).layer
