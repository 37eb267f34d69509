/**
 * The workflows that an engine knows: one definition per name and version.
 *
 * A run belongs to the version that started it, for ever; no version is that of the runs which were
 * started without one. Whoever gives a workflow its first version keeps the definition without one
 * as long as there are runs of it.
 */
import type { RegisteredWorkflow } from "../Engine.ts"
import type { WorkflowRef } from "../WorkflowStore.ts"

/**
 * What is known, by name and version.
 */
export interface Registry {
  readonly get: (workflow: WorkflowRef) => RegisteredWorkflow | undefined
  readonly all: () => ReadonlyArray<RegisteredWorkflow>
  readonly size: () => number
}

/**
 * A registry with the means to change it. `add` answers whether the place was free.
 */
export const makeRegistry = (): Registry & {
  readonly add: (workflow: RegisteredWorkflow) => boolean
  readonly remove: (workflow: WorkflowRef) => void
} => {
  const known = new Map<string, RegisteredWorkflow>()
  return {
    get: (workflow) => known.get(workflowKey(workflow)),
    all: () => [...known.values()],
    size: () => known.size,
    add: (workflow) => {
      const key = workflowKey(workflow)
      if (known.has(key)) return false
      known.set(key, workflow)
      return true
    },
    remove: (workflow) => void known.delete(workflowKey(workflow)),
  }
}

/**
 * One text for name and version; neither has a NUL.
 */
export const workflowKey = ({ name, version }: WorkflowRef): string => `${name}\0${version ?? ""}`

/**
 * For messages.
 */
export const showWorkflow = ({ name, version }: WorkflowRef): string =>
  version === null ? `"${name}"` : `"${name}" in version "${version}"`
