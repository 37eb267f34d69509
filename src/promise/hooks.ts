/**
 * Hooks (what happens to runs in this process) and listeners (events that workflows emit).
 *
 * A callback that throws changes nothing: it is reported to the logger.
 */
import type { LifecycleEvent } from "../Engine.ts"
import type { Revive } from "../ErrorPayload.ts"
import type { EventRow } from "../WorkflowStore.ts"
import { errorOf } from "./FlowlyError.ts"
import { valueOf } from "./status.ts"

const hookNames = [
  "workflow:started",
  "workflow:completed",
  "workflow:failed",
  "workflow:compensated",
  "step:started",
  "step:completed",
  "step:failed",
] as const

/**
 * The names of hooks.
 */
export type HookName = (typeof hookNames)[number]

/**
 * Whether there is such a hook.
 */
export const isHookName = (name: unknown): name is HookName =>
  hookNames.some((known) => known === name)

/**
 * What a hook is told.
 */
export interface HookEvent {
  readonly type: HookName
  readonly workflowRunId: string
  readonly workflow: string
  /** Attempt of the whole run, from 1. */
  readonly attempt: number
  /** Of `step:*`. */
  readonly step?: string
  /** Of `step:*`: the number of the try. */
  readonly stepAttempt?: number
  /** Of `workflow:completed`. */
  readonly result?: unknown
  /** Of `*:failed` and `workflow:compensated`. */
  readonly error?: unknown
  /** Of `*:failed`: another try follows. */
  readonly willRetry?: boolean
}

/**
 * An event that a workflow emitted.
 */
export interface EmittedEvent {
  readonly workflowRunId: string
  readonly event: string
  readonly data: unknown
  readonly at: Date
}

/**
 * The hooks of an engine.
 */
export interface Hooks {
  readonly add: (name: HookName, listener: (event: HookEvent) => unknown) => void
  readonly remove: (name: HookName, listener: (event: HookEvent) => unknown) => void
  readonly tell: (event: LifecycleEvent) => void
}

/**
 * No hooks yet. `guard` calls a listener, and reports what it throws.
 */
export const makeHooks = (options: {
  readonly revive: Revive
  readonly guard: (what: string, call: () => unknown) => void
}): Hooks => {
  const hooks = new Map<string, Set<(event: HookEvent) => unknown>>()
  return {
    add: (name, listener) => {
      const listeners = hooks.get(name)
      if (listeners) listeners.add(listener)
      else hooks.set(name, new Set([listener]))
    },
    remove: (name, listener) => {
      hooks.get(name)?.delete(listener)
    },
    tell: (event) => {
      const listeners = hooks.get(typeOf(event))
      if (listeners === undefined || listeners.size === 0) return
      const hookEvent = toHookEvent(event, options.revive)
      if (hookEvent === null) return
      for (const listener of listeners) {
        options.guard(`hook ${hookEvent.type}`, () => listener(hookEvent))
      }
    },
  }
}

/** What a hook for it would be called. */
const typeOf = (event: LifecycleEvent): string =>
  event.type === "step" ? event.event._tag : event.type

/**
 * What the engine tells, as a hook hears it; `null` for what no hook is for.
 */
const toHookEvent = (event: LifecycleEvent, revive?: Revive): HookEvent | null => {
  const { workflowRunId, workflow, attempt } = event
  const base = { workflowRunId, workflow, attempt }
  switch (event.type) {
    case "workflow:started":
      return { ...base, type: event.type }
    case "workflow:completed":
      return { ...base, type: event.type, result: valueOf(event.result) }
    case "workflow:failed":
      return {
        ...base,
        type: event.type,
        willRetry: event.willRetry,
        error: event.error === null ? undefined : errorOf(event.error, revive),
      }
    case "workflow:compensated":
      return {
        ...base,
        type: event.type,
        error: event.error === null ? undefined : errorOf(event.error, revive),
      }
    case "step": {
      const { event: inner } = event
      switch (inner._tag) {
        case "step:started":
          return { ...base, type: inner._tag, step: inner.stepKey, stepAttempt: inner.attempt }
        case "step:completed":
          return { ...base, type: inner._tag, step: inner.stepKey, stepAttempt: inner.attempts }
        case "step:failed":
          return {
            ...base,
            type: inner._tag,
            step: inner.stepKey,
            stepAttempt: inner.attempts,
            error: errorOf(inner.error, revive),
            willRetry: inner.willRetry,
          }
        case "compensated":
          return null
      }
    }
  }
}

/**
 * An emitted event, as a listener hears it.
 */
export const toEmitted = (row: EventRow): EmittedEvent => ({
  workflowRunId: row.workflowRunId,
  event: row.name,
  data: valueOf(row.payload),
  at: new Date(row.createdAt),
})
