/**
 * Hooks (what happens to runs in this process) and listeners (events that workflows emit).
 *
 * A callback that throws changes nothing: it is reported to the logger.
 */
import type { LifecycleEvent } from "../Engine.ts"
import type { Revive } from "../ErrorPayload.ts"
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
 * What the engine tells, as a hook hears it; `null` for what no hook is for.
 */
export const toHookEvent = (event: LifecycleEvent, revive?: Revive): HookEvent | null => {
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
