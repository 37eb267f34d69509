/**
 * Cron schedules, as a store keeps them.
 *
 * @since 0.1.0
 */
import type { Encoded } from "../Payload.ts"

/**
 * A cron schedule. `nextTick` is the next nominal instant to fire.
 *
 * @category models
 * @since 0.1.0
 */
export interface ScheduleRow {
  readonly key: string
  readonly workflow: string
  /** Of the runs that its ticks start. */
  readonly version: string | null
  readonly cron: string
  readonly timeZone: string
  readonly input: Encoded
  readonly enabled: boolean
  readonly nextTick: number
  /** The newest tick that fired. */
  readonly lastTick: number | null
}

/**
 * What is due of the schedules.
 *
 * @category models
 * @since 0.1.0
 */
export interface DueSchedules {
  /** The store's. */
  readonly now: number
  /** When the next tick of all enabled schedules is, or was; `null`: there are none. */
  readonly nextTick: number | null
  readonly schedules: ReadonlyArray<ScheduleRow>
}
