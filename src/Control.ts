/**
 * What an operator may ask of a run, and the log of what was asked.
 *
 * Each verb takes a reason, and each that was accepted leaves one entry in the run's control log, in
 * the same commit as what it changed: who reads the log later reads what happened. A verb never
 * takes a claim. Of a run that a worker holds it changes what the holder reads (a request, the wake
 * counter, a timer), or, `terminate` alone, takes the run out of its hands by a fresh token.
 *
 * Two verbs at once leave what one of their orders leaves. Cancel wins over pause: a cancel withdraws
 * the request to pause, and a pause that meets a cancel is refused.
 *
 * @since 0.1.0
 */

/**
 * The verbs, as the log names them.
 *
 * @category models
 * @since 0.1.0
 */
export type ControlVerb =
  | "cancel"
  | "terminate"
  | "pause"
  | "resume"
  | "retry"
  | "fork"
  | "wake"
  | "reschedule"

/**
 * One entry of a run's control log, ordered by `controlId`.
 *
 * @category models
 * @since 0.1.0
 */
export interface ControlEntry {
  readonly controlId: number
  readonly workflowRunId: string
  readonly verb: ControlVerb
  readonly reason: string | null
  /** What else was asked: the step and the origin of a fork, the time of a reschedule. */
  readonly detail: Readonly<Record<string, string | number | boolean | null>>
  /** Milliseconds of the store's clock. */
  readonly createdAt: number
}

/**
 * A request to pause, kept on the row until the holder of the claim has let it go.
 *
 * @category models
 * @since 0.1.0
 */
export interface PauseRequest {
  readonly reason: string | null
}

/**
 * - `terminated`: it is `cancelled`, at once, undoing nothing; its children are asked to cancel.
 * - `terminal`: refused, it has ended. `unknown`: no such run.
 *
 * @category models
 * @since 0.1.0
 */
export type TerminateAnswer = "terminated" | "terminal" | "unknown"

/**
 * - `paused`: nobody held it, and it is `paused` (or was already: nothing changed).
 * - `requested`: its holder starts nothing new, lets executing steps end, and lets it go as `paused`.
 * - `cancelling`, `terminal`: refused. `unknown`: no such run.
 *
 * @category models
 * @since 0.1.0
 */
export type PauseAnswer = "paused" | "requested" | "cancelling" | "terminal" | "unknown"

/**
 * - `woken`: its sleeps and backoffs end now. A paused run stays paused: they have ended when it is
 *   resumed. A run that never started keeps its due time.
 * - `terminal`: refused. `unknown`: no such run.
 *
 * @category models
 * @since 0.1.0
 */
export type WakeAnswer = "woken" | "terminal" | "unknown"

/**
 * - `rescheduled`: the run that has not started, or its open sleep, is due at the given time.
 * - `no-sleep`: refused, it has started and no sleep (of this name) is open.
 * - `ambiguous`: refused, several sleeps are open: name one.
 * - `terminal`: refused. `unknown`: no such run.
 *
 * @category models
 * @since 0.1.0
 */
export type RescheduleAnswer = "rescheduled" | "no-sleep" | "ambiguous" | "terminal" | "unknown"

/**
 * - `forked`: the new run is there (also when this very id was forked by an earlier sending).
 * - `no-step`: refused, the origin has no final record of this step key.
 * - `unknown`: no such origin.
 *
 * @category models
 * @since 0.1.0
 */
export type ForkAnswer = "forked" | "no-step" | "unknown"

/**
 * Where a fork leaves its origin: final records of lower position are copied. `null`: all are.
 *
 * @category models
 * @since 0.1.0
 */
export type ForkPoint = { readonly stepKey: string } | { readonly position: number } | null
