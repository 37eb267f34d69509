/**
 * The operator's side of `DurableEngine`, verbs and reading: a thin layer over that of the `Engine`.
 *
 * Runs are named by id or by filter. By id a verb that the run cannot take rejects (`RunNotFound`,
 * `RunStateConflict`); by filter it counts. Every verb takes a reason, kept in the run's control log.
 */
import * as Effect from "effect/Effect"
import { validate as isUuid } from "uuid"
import type { ControlEntry, ControlVerb, ForkPoint } from "../Control.ts"
import { Engine } from "../Engine.ts"
import type { Revive } from "../ErrorPayload.ts"
import type { ControlOptions, ManyAnswer } from "../engine/control.ts"
import type { PageOptions, RunFilter } from "../engine/selection.ts"
import { type RunExplanation, toRunExplanation } from "./explanation.ts"
import { anyValue } from "../engine/values.ts"
import { invalid } from "./FlowlyError.ts"
import { checkKnown, type Names, optionOf } from "./knownOptions.ts"
import {
  type RecordedStep,
  type RunInfo,
  type RunPage,
  toRecordedStep,
  toRunInfo,
} from "./runInfo.ts"
import { toStatus, type WorkflowStatus } from "./status.ts"

/**
 * Where a fork leaves its origin: before this step (by its key), or before this place in the order of
 * completion. What was recorded before is remembered by the new run.
 */
export type ForkFrom = string | { readonly position: number }

/**
 * How a run is forked.
 */
export interface ForkOptions extends ControlOptions {
  /** Default: the end; all that was recorded is kept. */
  readonly from?: ForkFrom | undefined
  /** Default: the input of the origin. */
  readonly input?: unknown
}

/**
 * One entry of a run's control log.
 */
export interface ControlLogEntry {
  readonly verb: ControlVerb
  readonly reason: string | null
  readonly detail: Readonly<Record<string, string | number | boolean | null>>
  readonly at: Date
}

type Run = <A, E>(effect: Effect.Effect<A, E, Engine>) => Promise<A>

/** Gives the verbs the engine that they run on. */
export let bindControls: (controls: RunControls, run: Run, revive: Revive) => void

const engine = <A, E>(
  verb: (engine: Engine["Service"]) => Effect.Effect<A, E>,
): Effect.Effect<A, E, Engine> => Effect.flatMap(Engine, verb)

/** An id that is none names no run; what is not even text is another mistake: a handle, a missing await. */
export const idOf = (workflowRunId: unknown): string => {
  if (typeof workflowRunId === "string") return workflowRunId
  throw invalid("workflowRunId", `must be text, not ${typeof workflowRunId}`)
}

/** The same for a verb with options. */
const asked = <A, E>(
  of: string,
  options: object | undefined,
  names: Readonly<Record<string, true>>,
  verb: (engine: Engine["Service"]) => Effect.Effect<A, E>,
): Effect.Effect<A, E, Engine> =>
  engine((one) => {
    checkKnown(options, names, optionOf(of))
    return verb(one)
  })

const controlNames: Names<ControlOptions> = { reason: true }
const cancelNames = { ...controlNames, compensate: true } as const
const rescheduleNames = { ...controlNames, sleep: true } as const
const forkManyNames: Names<ForkOptions> = { ...controlNames, from: true, input: true }
const forkNames = { ...forkManyNames, newRunId: true } as const
const deadLetterNames = { workflow: true, before: true, limit: true } as const

/**
 * What an operator may do with runs, and read of them.
 */
export class RunControls {
  #run: Run = () => Promise.reject(new Error("the controls are bound to no engine"))

  #revive: Revive | undefined

  static {
    bindControls = (controls, run, revive) => {
      controls.#run = run
      controls.#revive = revive
    }
  }

  /**
   * Cancels a run and its children. "requested": it was under way, and ends at its next safe point.
   * Completed steps are undone, unless `compensate` is false.
   */
  cancel(
    workflowRunId: string,
    options?: ControlOptions & { readonly compensate?: boolean | undefined },
  ): Promise<"cancelled" | "requested"> {
    return this.#run(
      asked("cancel", options, cancelNames, (one) => one.cancel(idOf(workflowRunId), options)),
    )
  }

  cancelMany(
    filter: RunFilter,
    options?: ControlOptions & { readonly compensate?: boolean | undefined },
  ): Promise<ManyAnswer> {
    return this.#run(
      asked("cancelMany", options, cancelNames, (one) => one.cancelMany(filter, options)),
    )
  }

  /** Ends a run at once, as "cancelled", undoing nothing; its children are asked to cancel. */
  terminate(workflowRunId: string, options?: ControlOptions): Promise<void> {
    return this.#run(
      asked("terminate", options, controlNames, (one) =>
        one.terminate(idOf(workflowRunId), options),
      ),
    )
  }

  terminateMany(filter: RunFilter, options?: ControlOptions): Promise<ManyAnswer> {
    return this.#run(
      asked("terminateMany", options, controlNames, (one) => one.terminateMany(filter, options)),
    )
  }

  /**
   * Pauses a run, also one that is undoing. "requested": its executing steps end first, and are
   * recorded; nothing new is started. A cancel wins over a pause.
   */
  pause(workflowRunId: string, options?: ControlOptions): Promise<"paused" | "requested"> {
    return this.#run(
      asked("pause", options, controlNames, (one) => one.pause(idOf(workflowRunId), options)),
    )
  }

  pauseMany(filter: RunFilter, options?: ControlOptions): Promise<ManyAnswer> {
    return this.#run(
      asked("pauseMany", options, controlNames, (one) => one.pauseMany(filter, options)),
    )
  }

  /** Lets a paused run go on; withdraws a pause that was only requested so far. */
  resume(workflowRunId: string, options?: ControlOptions): Promise<void> {
    return this.#run(
      asked("resume", options, controlNames, (one) => one.resume(idOf(workflowRunId), options)),
    )
  }

  resumeMany(filter: RunFilter, options?: ControlOptions): Promise<ManyAnswer> {
    return this.#run(
      asked("resumeMany", options, controlNames, (one) => one.resumeMany(filter, options)),
    )
  }

  /** Another attempt, in place, of a failed or dead-lettered run: from the failure on. */
  retry(workflowRunId: string, options?: ControlOptions): Promise<void> {
    return this.#run(
      asked("retry", options, controlNames, (one) => one.retry(idOf(workflowRunId), options)),
    )
  }

  retryMany(filter: RunFilter, options?: ControlOptions): Promise<ManyAnswer> {
    return this.#run(
      asked("retryMany", options, controlNames, (one) => one.retryMany(filter, options)),
    )
  }

  /** Ends the run's open sleeps and backoffs now (timeouts of waits for events, too). */
  wake(workflowRunId: string, options?: ControlOptions): Promise<void> {
    return this.#run(
      asked("wake", options, controlNames, (one) => one.wake(idOf(workflowRunId), options)),
    )
  }

  wakeMany(filter: RunFilter, options?: ControlOptions): Promise<ManyAnswer> {
    return this.#run(
      asked("wakeMany", options, controlNames, (one) => one.wakeMany(filter, options)),
    )
  }

  /** Another due time for a run that has not started, else for its open sleep (or the named one). */
  reschedule(
    workflowRunId: string,
    at: Date,
    options?: ControlOptions & { readonly sleep?: string | undefined },
  ): Promise<void> {
    return this.#run(
      asked("reschedule", options, rescheduleNames, (one) =>
        one.reschedule(idOf(workflowRunId), at, options),
      ),
    )
  }

  rescheduleMany(
    filter: RunFilter,
    at: Date,
    options?: ControlOptions & { readonly sleep?: string | undefined },
  ): Promise<ManyAnswer> {
    return this.#run(
      asked("rescheduleMany", options, rescheduleNames, (one) =>
        one.rescheduleMany(filter, at, options),
      ),
    )
  }

  /**
   * Starts a new run from a point of an old one of any status, which stays as it is. What was recorded
   * before the point is remembered, and not done again.
   */
  fork(
    workflowRunId: string,
    options?: ForkOptions & { readonly newRunId?: string | undefined },
  ): Promise<{ readonly workflowRunId: string }> {
    const newRunId = options?.newRunId
    return this.#run(
      Effect.flatMap(forkOptions(options), (given) =>
        asked("fork", options, forkNames, (one) =>
          one.fork(idOf(workflowRunId), { ...given, newRunId }),
        ),
      ),
    )
  }

  forkMany(
    filter: RunFilter,
    options?: ForkOptions,
  ): Promise<ManyAnswer & { readonly workflowRunIds: ReadonlyArray<string> }> {
    return this.#run(
      Effect.flatMap(forkOptions(options), (given) =>
        asked("forkMany", options, forkManyNames, (one) => one.forkMany(filter, given)),
      ),
    )
  }

  /**
   * Has compensations that gave up tried again: that of the step, or all of the run, which ended as
   * "failed" (or "dead_letter") and is "compensating" until they have ended.
   */
  retryCompensation(workflowRunId: string, stepKey?: string): Promise<void> {
    return this.#run(engine((one) => one.retryCompensation(idOf(workflowRunId), stepKey)))
  }

  /**
   * Counts compensations that gave up as done with; without a step all of the run. Of a paused run: one
   * that its code does not offer (code "CompensationMissing"), by name; the run goes on.
   */
  skipCompensation(workflowRunId: string, stepKey?: string): Promise<void> {
    return this.#run(engine((one) => one.skipCompensation(idOf(workflowRunId), stepKey)))
  }

  /** Runs whose attempts are used up, newest first; `before` is the last id of the page before. */
  async getDeadLetterRuns(options?: {
    readonly workflow?: string
    readonly before?: string
    readonly limit?: number
  }): Promise<ReadonlyArray<WorkflowStatus>> {
    checkKnown(options, deadLetterNames, optionOf("getDeadLetterRuns"))
    const { before, limit = 100 } = options ?? {}
    if (before !== undefined && !isUuid(before)) throw invalid("before", "must be the id of a run")
    if (!Number.isInteger(limit) || limit < 1 || limit > 1000) {
      throw invalid("limit", "must be a whole number from 1 to 1000")
    }
    const rows = await this.#run(
      engine((one) =>
        one.deadLetters({
          workflow: options?.workflow ?? null,
          before: before ?? null,
          limit,
        }),
      ),
    )
    return rows.map((row) => toStatus(row, null, this.#revive))
  }

  /** Gives a dead-lettered (or failed) run another attempt. */
  retryDeadLetter(workflowRunId: string): Promise<void> {
    return this.#run(engine((one) => one.retry(idOf(workflowRunId))))
  }

  /** A run as it is stored; `null` when there is none of this id. */
  async getRun(workflowRunId: string): Promise<RunInfo | null> {
    const row = await this.#run(engine((one) => one.getRun(workflowRunId)))
    return row === null ? null : toRunInfo(row, this.#revive)
  }

  /** What is recorded of a run, in order of completion; steps that are retrying come last. */
  async getSteps(workflowRunId: string): Promise<ReadonlyArray<RecordedStep>> {
    const records = await this.#run(engine((one) => one.getSteps(workflowRunId)))
    return records.map((one) => toRecordedStep(one, this.#revive))
  }

  /** Why a run does not move, with evidence; `null` when there is none of this id. */
  async explain(workflowRunId: string): Promise<RunExplanation | null> {
    const explanation = await this.#run(engine((one) => one.explain(workflowRunId)))
    return explanation === null ? null : toRunExplanation(explanation, this.#revive)
  }

  /** A page of runs, newest first: 100 unless `limit` says otherwise (at most 1000). */
  async listRuns(filter: RunFilter & PageOptions = {}): Promise<RunPage> {
    if (typeof filter !== "object" || filter === null) throw invalid("filter", "must be an object")
    const { before, limit = 100, ...which } = filter
    const rows = await this.#run(engine((one) => one.listRuns(which, { before, limit })))
    const last = rows.length < limit ? undefined : rows.at(-1)
    return {
      runs: rows.map((row) => toRunInfo(row, this.#revive)),
      next: last?.workflowRunId ?? null,
    }
  }

  /** How many runs there are. Counts them: of many, it takes its time. */
  count(filter: RunFilter = {}): Promise<number> {
    return this.#run(engine((one) => one.count(filter)))
  }

  /** What operators asked of the run, and why; oldest first. */
  async getControlLog(workflowRunId: string): Promise<ReadonlyArray<ControlLogEntry>> {
    const log = await this.#run(engine((one) => one.getControls(workflowRunId)))
    return log.map(toLogEntry)
  }
}

const forkOptions = (options: ForkOptions | undefined) => {
  const { from, reason, input } = options ?? {}
  const point: ForkPoint | undefined = typeof from === "string" ? { stepKey: from } : from
  if (input === undefined) return Effect.succeed({ from: point, reason })
  return Effect.map(anyValue.encode(input, "input"), (encoded) => ({
    from: point,
    reason,
    input: encoded,
  }))
}

const toLogEntry = ({ verb, reason, detail, createdAt }: ControlEntry): ControlLogEntry => ({
  verb,
  reason,
  detail,
  at: new Date(createdAt),
})
