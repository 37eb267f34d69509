/**
 * The operator's verbs: by id, with a typed refusal, and by filter, with counts.
 *
 * By filter they go page by page, newest first, from what is there when they begin: each page is one
 * read and a bounded number of statements, so that a hundred thousand runs lock no more rows at once
 * than one page has. A run that refuses (it ended meanwhile) is counted, never an error.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { v7 as uuidv7, validate as isUuid } from "uuid"
import type { ControlEntry, ForkPoint } from "../Control.ts"
import { encodeError } from "../ErrorPayload.ts"
import {
  InvalidInput,
  RunNotFound,
  RunPaused,
  RunStateConflict,
  RunTerminated,
} from "../FlowlyError.ts"
import type { Encoded } from "../Payload.ts"
import type { Hint, RunRow, StoreError, WorkflowStore } from "../WorkflowStore.ts"
import { runId } from "./runId.ts"
import { checkFilter, type RunFilter } from "./selection.ts"

/**
 * Why, for the control log.
 *
 * @category models
 * @since 0.1.0
 */
export interface ControlOptions {
  /** At most 1,000 characters. */
  readonly reason?: string | undefined
}

/**
 * What a verb did to the runs of a filter.
 *
 * @category models
 * @since 0.1.0
 */
export interface ManyAnswer {
  /** Runs that took it. */
  readonly accepted: number
  /** Runs that were in no status for it. */
  readonly refused: number
}

type ById = RunNotFound | RunStateConflict | InvalidInput | StoreError
type ByFilter = InvalidInput | StoreError

/**
 * The verbs, as the `Engine` has them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Control {
  readonly cancel: (
    workflowRunId: string,
    options?: ControlOptions & { readonly compensate?: boolean | undefined },
  ) => Effect.Effect<"cancelled" | "requested", ById>
  readonly cancelMany: (
    filter: RunFilter,
    options?: ControlOptions & { readonly compensate?: boolean | undefined },
  ) => Effect.Effect<ManyAnswer, ByFilter>
  /** Ends the run at once, as `cancelled`. Nothing is undone; its children are asked to cancel. */
  readonly terminate: (workflowRunId: string, options?: ControlOptions) => Effect.Effect<void, ById>
  readonly terminateMany: (
    filter: RunFilter,
    options?: ControlOptions,
  ) => Effect.Effect<ManyAnswer, ByFilter>
  /** `requested`: executing steps end first, and are recorded. A cancel wins over a pause. */
  readonly pause: (
    workflowRunId: string,
    options?: ControlOptions,
  ) => Effect.Effect<"paused" | "requested", ById>
  readonly pauseMany: (
    filter: RunFilter,
    options?: ControlOptions,
  ) => Effect.Effect<ManyAnswer, ByFilter>
  /** Lets a paused run go on; withdraws a pause that was only requested so far. */
  readonly resume: (workflowRunId: string, options?: ControlOptions) => Effect.Effect<void, ById>
  readonly resumeMany: (
    filter: RunFilter,
    options?: ControlOptions,
  ) => Effect.Effect<ManyAnswer, ByFilter>
  /** Another attempt, in place, of a `failed` or `dead_letter` run: from the failure on. */
  readonly retry: (workflowRunId: string, options?: ControlOptions) => Effect.Effect<void, ById>
  readonly retryMany: (
    filter: RunFilter,
    options?: ControlOptions,
  ) => Effect.Effect<ManyAnswer, ByFilter>
  /** Ends the run's open sleeps and backoffs now (timeouts of waits for events, too). */
  readonly wake: (workflowRunId: string, options?: ControlOptions) => Effect.Effect<void, ById>
  readonly wakeMany: (
    filter: RunFilter,
    options?: ControlOptions,
  ) => Effect.Effect<ManyAnswer, ByFilter>
  /** Another due time for a run that has not started, else for its open sleep. */
  readonly reschedule: (
    workflowRunId: string,
    at: Date,
    options?: ControlOptions & {
      /** The sleep's step key; needed where several are open. */
      readonly sleep?: string | undefined
    },
  ) => Effect.Effect<void, ById>
  readonly rescheduleMany: (
    filter: RunFilter,
    at: Date,
    options?: ControlOptions & { readonly sleep?: string | undefined },
  ) => Effect.Effect<ManyAnswer, ByFilter>
  /**
   * A new run from a point of an old one of any status, which stays as it is. Without a point, from
   * its end; without an input, with the same one.
   */
  readonly fork: (
    workflowRunId: string,
    options?: ControlOptions & {
      readonly from?: ForkPoint | undefined
      readonly input?: Encoded | undefined
      /** A UUID of the new run; made by us when not given. The same id forks once. */
      readonly newRunId?: string | undefined
    },
  ) => Effect.Effect<{ readonly workflowRunId: string }, ById>
  /** Forks each run; answers the new ids, newest origin first. */
  readonly forkMany: (
    filter: RunFilter,
    options?: ControlOptions & {
      readonly from?: ForkPoint | undefined
      readonly input?: Encoded | undefined
    },
  ) => Effect.Effect<ManyAnswer & { readonly workflowRunIds: ReadonlyArray<string> }, ByFilter>
  /** What operators asked of the run, oldest first. */
  readonly getControls: (
    workflowRunId: string,
  ) => Effect.Effect<ReadonlyArray<ControlEntry>, StoreError>
}

const maxReason = 1000
const pageSize = 500
const statementsAtOnce = 8

const invalid = (field: string, reason: string) => Result.fail(new InvalidInput({ field, reason }))

/**
 * The reason as it is stored.
 */
export const checkReason = (
  options: ControlOptions | undefined,
): Result.Result<string | null, InvalidInput> => {
  const reason: unknown = options?.reason
  if (reason === undefined) return Result.succeed(null)
  if (typeof reason !== "string") return invalid("reason", `must be text, not ${typeof reason}`)
  if (reason.length > maxReason) {
    return invalid("reason", `is ${reason.length} characters, more than the limit of ${maxReason}`)
  }
  if (reason.includes("\0") || !reason.isWellFormed()) {
    return invalid("reason", "must not contain NUL or lone surrogates, which Postgres cannot store")
  }
  return Result.succeed(reason)
}

const checkTime = (at: unknown): Result.Result<number, InvalidInput> => {
  const time = at instanceof Date ? at.getTime() : Number.NaN
  if (!(time <= Date.UTC(9999, 0)))
    return invalid("at", "must be a valid date before the year 9999")
  // what is long past is past: Postgres knows fewer years than Date
  return Result.succeed(Math.max(time, 0))
}

const checkPoint = (from: ForkPoint | undefined): Result.Result<ForkPoint, InvalidInput> => {
  if (from === undefined || from === null) return Result.succeed(null)
  if ("position" in from) {
    return Number.isInteger(from.position) && from.position >= 1
      ? Result.succeed({ position: from.position })
      : invalid("from.position", "must be a whole number, at least 1")
  }
  return typeof from.stepKey === "string" && from.stepKey.length > 0
    ? Result.succeed({ stepKey: from.stepKey })
    : invalid("from.stepKey", "must be the key of a step")
}

const ended = "it has already ended"

const reasonOf = (options: ControlOptions | undefined) => Effect.fromResult(checkReason(options))

const idsOf = (runs: ReadonlyArray<RunRow>) => runs.map((run) => run.workflowRunId)

const first = <A extends string>(answers: ReadonlyArray<A>): A | "unknown" =>
  answers[0] ?? "unknown"

/** A verb that takes one run per statement. */
const oneByOne =
  (verb: (workflowRunId: string) => Effect.Effect<boolean, StoreError>) =>
  (runs: ReadonlyArray<RunRow>) =>
    Effect.forEach(runs, (run) => verb(run.workflowRunId), { concurrency: statementsAtOnce })

/**
 * The verbs over a store. `tell` sends hints to whoever may wait for what they change.
 */
export const makeControl = (
  store: WorkflowStore["Service"],
  tell: (hint: Exclude<Hint, "reconnected">) => void,
): Control => {
  const changed = Effect.sync(() => {
    tell("work")
    tell("signal")
    tell("settled")
  })

  /** Reads pages of the filter, and gives each to the verb; counts its answers. */
  const each = (
    filter: RunFilter,
    verb: (runs: ReadonlyArray<RunRow>) => Effect.Effect<ReadonlyArray<boolean>, StoreError>,
  ): Effect.Effect<ManyAnswer, ByFilter> =>
    Effect.gen(function* () {
      const selection = yield* Effect.fromResult(checkFilter(filter, { some: true }))
      let before: string | null = null
      let accepted = 0
      let refused = 0
      for (;;) {
        const page: ReadonlyArray<RunRow> = yield* store.listRuns({
          ...selection,
          before,
          limit: pageSize,
        })
        if (page.length > 0) {
          const taken = (yield* verb(page)).filter(Boolean).length
          accepted += taken
          refused += page.length - taken
          yield* changed
        }
        before = page.at(-1)?.workflowRunId ?? null
        if (page.length < pageSize) return { accepted, refused }
      }
    })

  /** The answer about one run, refused or accepted. */
  const byId = <A extends string, Refusal extends A>(
    givenId: string,
    operation: string,
    options: ControlOptions | undefined,
    verb: (
      workflowRunId: string,
      reason: string | null,
    ) => Effect.Effect<A | "unknown", InvalidInput | StoreError>,
    refusals: Readonly<Record<Refusal, string>>,
  ): Effect.Effect<Exclude<A, Refusal | "unknown">, ById> =>
    Effect.gen(function* () {
      const workflowRunId = runId(givenId)
      if (!isUuid(workflowRunId)) return yield* new RunNotFound({ workflowRunId })
      const answer = yield* verb(workflowRunId, yield* reasonOf(options))
      if (answer === "unknown") return yield* new RunNotFound({ workflowRunId })
      const refused: Readonly<Partial<Record<string, string>>> = refusals
      const reason = refused[answer]
      if (reason !== undefined) {
        return yield* new RunStateConflict({ workflowRunId, operation, reason })
      }
      yield* changed
      return answer as Exclude<A, Refusal | "unknown">
    })

  const cancel = (id: string, compensate: boolean | undefined, reason: string | null) =>
    store.requestCancel({ workflowRunId: id, compensate: compensate ?? null, reason })

  const terminate = (ids: ReadonlyArray<string>, reason: string | null) =>
    store.terminateRuns(
      ids.map((workflowRunId) => {
        const error = encodeError(new RunTerminated({ workflowRunId, reason }))
        return { workflowRunId, reason, error }
      }),
    )

  const pause = (ids: ReadonlyArray<string>, reason: string | null) =>
    store.pauseRuns(
      ids.map((workflowRunId) => {
        const error = encodeError(new RunPaused({ workflowRunId, reason }))
        return { workflowRunId, reason, error }
      }),
    )

  const wake = (workflowRunIds: ReadonlyArray<string>, reason: string | null) =>
    store.wakeRuns({ workflowRunIds, endSleeps: true, reason })

  return {
    cancel: (id, options) =>
      byId(
        id,
        "be cancelled",
        options,
        (workflowRunId, reason) => cancel(workflowRunId, options?.compensate, reason),
        { terminal: ended, compensating: "it is already undoing its steps" },
      ),
    cancelMany: (filter, options) =>
      Effect.flatMap(reasonOf(options), (reason) =>
        each(
          filter,
          oneByOne((id) =>
            Effect.map(
              cancel(id, options?.compensate, reason),
              (answer) => answer === "cancelled" || answer === "requested",
            ),
          ),
        ),
      ),
    terminate: (id, options) =>
      Effect.asVoid(
        byId(
          id,
          "be terminated",
          options,
          (workflowRunId, reason) => Effect.map(terminate([workflowRunId], reason), first),
          { terminal: ended },
        ),
      ),
    terminateMany: (filter, options) =>
      Effect.flatMap(reasonOf(options), (reason) =>
        each(filter, (runs) =>
          Effect.map(terminate(idsOf(runs), reason), (answers) =>
            answers.map((answer) => answer === "terminated"),
          ),
        ),
      ),
    pause: (id, options) =>
      byId(
        id,
        "be paused",
        options,
        (workflowRunId, reason) => Effect.map(pause([workflowRunId], reason), first),
        { terminal: ended, cancelling: "it is asked to cancel, which wins" },
      ),
    pauseMany: (filter, options) =>
      Effect.flatMap(reasonOf(options), (reason) =>
        each(filter, (runs) =>
          Effect.map(pause(idsOf(runs), reason), (answers) =>
            answers.map((answer) => answer === "paused" || answer === "requested"),
          ),
        ),
      ),
    resume: (id, options) =>
      Effect.asVoid(
        byId(id, "be resumed", options, store.resumeRun, { "not-paused": "it is not paused" }),
      ),
    resumeMany: (filter, options) =>
      Effect.flatMap(reasonOf(options), (reason) =>
        each(
          filter,
          oneByOne((id) => Effect.map(store.resumeRun(id, reason), (one) => one === "resumed")),
        ),
      ),
    retry: (id, options) =>
      Effect.asVoid(
        byId(id, "be retried", options, store.retryRun, {
          "not-retryable":
            "only a failed or dead-lettered run that has not begun to undo can, while no other " +
            "run has its concurrency key; fork it instead",
        }),
      ),
    retryMany: (filter, options) =>
      Effect.flatMap(reasonOf(options), (reason) =>
        each(
          filter,
          oneByOne((id) => Effect.map(store.retryRun(id, reason), (one) => one === "retried")),
        ),
      ),
    wake: (id, options) =>
      Effect.asVoid(
        byId(
          id,
          "be woken",
          options,
          (workflowRunId, reason) => Effect.map(wake([workflowRunId], reason), first),
          { terminal: ended },
        ),
      ),
    wakeMany: (filter, options) =>
      Effect.flatMap(reasonOf(options), (reason) =>
        each(filter, (runs) =>
          Effect.map(wake(idsOf(runs), reason), (answers) =>
            answers.map((answer) => answer === "woken"),
          ),
        ),
      ),
    reschedule: (id, at, options) =>
      Effect.asVoid(
        byId(
          id,
          "be rescheduled",
          options,
          (workflowRunId, reason) =>
            Effect.flatMap(Effect.fromResult(checkTime(at)), (time) => {
              const sleep = options?.sleep ?? null
              const asked = { workflowRunIds: [workflowRunId], at: time, sleep, reason }
              return Effect.map(store.rescheduleRuns(asked), first)
            }),
          {
            terminal: ended,
            "no-sleep": "it has started, and no such sleep of it is open",
            ambiguous: "several sleeps of it are open: name one as `sleep`",
          },
        ),
      ),
    rescheduleMany: (filter, at, options) =>
      Effect.gen(function* () {
        const reason = yield* reasonOf(options)
        const time = yield* Effect.fromResult(checkTime(at))
        const sleep = options?.sleep ?? null
        return yield* each(filter, (runs) =>
          Effect.map(
            store.rescheduleRuns({ workflowRunIds: idsOf(runs), at: time, sleep, reason }),
            (answers) => answers.map((answer) => answer === "rescheduled"),
          ),
        )
      }),
    fork: (id, options) =>
      Effect.gen(function* () {
        const newRunId = runId(options?.newRunId ?? uuidv7())
        if (!isUuid(newRunId)) {
          return yield* new InvalidInput({ field: "newRunId", reason: "must be a UUID" })
        }
        const from = yield* Effect.fromResult(checkPoint(options?.from))
        const input = options?.input ?? null
        yield* byId(
          id,
          "be forked",
          options,
          (workflowRunId, reason) =>
            Effect.map(store.forkRuns([{ workflowRunId, from, newRunId, input, reason }]), first),
          { "no-step": "no outcome is recorded for that step" },
        )
        return { workflowRunId: newRunId }
      }),
    forkMany: (filter, options) =>
      Effect.gen(function* () {
        const reason = yield* reasonOf(options)
        const from = yield* Effect.fromResult(checkPoint(options?.from))
        const input = options?.input ?? null
        const workflowRunIds: Array<string> = []
        const counts = yield* each(filter, (runs) => {
          const forks = runs.map(({ workflowRunId }) => {
            return { workflowRunId, from, newRunId: uuidv7(), input, reason }
          })
          return Effect.map(store.forkRuns(forks), (answers) =>
            answers.map((answer, index) => {
              if (answer === "forked") workflowRunIds.push(forks[index]?.newRunId ?? "")
              return answer === "forked"
            }),
          )
        })
        return { ...counts, workflowRunIds }
      }),
    getControls: (id) => (isUuid(id) ? store.getControls(runId(id)) : Effect.succeed([])),
  }
}
