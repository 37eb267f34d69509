/**
 * A workflow: a name, Schemas for payload, success and error, and a body that becomes a Layer.
 *
 * The body is replayed from the start after every interruption, so it must be deterministic: what
 * touches the world belongs into a `Step`. The compiler checks this: the body may require nothing
 * but `WorkflowRun` and the markers of its steps. Inside a body `Clock` shows the time of the last
 * recorded completion, and `Random` is seeded from the run; neither can flip a decision on replay.
 *
 * **Example** (Defining, providing, starting)
 *
 * ```ts
 * const Greet = Workflow.make("greet", { payload: { name: Schema.String }, success: Schema.String })
 *
 * const GreetLive = Greet.toLayer(Effect.fnUntraced(function*({ name }) {
 *   yield* Sleep.make("a while", "1 hour")
 *   return yield* Step.make("compose", { run: Effect.succeed(`Hello ${name}`) })
 * }))
 *
 * const handle = yield* Workflow.trigger(Greet, { name: "Ada" })
 * const greeting = yield* handle.result
 * ```
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { Engine, type StartError, type Started, type StartOptions } from "./Engine.ts"
import type { Attributes } from "./Attributes.ts"
import type { ForkPoint } from "./Control.ts"
import type { ControlOptions } from "./engine/control.ts"
import type { CompensateOn } from "./engine/Execution.ts"
import type { RunOutcome } from "./engine/outcomes.ts"
import { type AnyCodec, decodeFailure, schemaValue } from "./engine/values.ts"
import { decodeError, summarize } from "./ErrorPayload.ts"
import {
  type ConcurrencyConflict,
  type DuplicateWorkflow,
  type IdempotencyConflict,
  type InvalidInput,
  type PayloadTooLarge,
  RunFailed,
  type RunNotFound,
  type RunStateConflict,
  type SerializationError,
  UnreadableValue,
} from "./FlowlyError.ts"
import {
  patched as askPatched,
  setAttributes as publishAttributes,
  setStatus as publishStatus,
  type Requires,
  type Unlift,
  type UseServicesInsideOfStepMake,
  WorkflowRun,
} from "./WorkflowRun.ts"
import { register } from "./WorkflowBody.ts"
import type { ScheduleRow, StoreError } from "./WorkflowStore.ts"

/**
 * A definition. `P`, `A` and `E` are the decoded payload, success and error.
 *
 * @category models
 * @since 0.1.0
 */
export interface Workflow<in out P, in out A, in out E> {
  readonly name: string
  /** A run belongs to the version that started it: only workers that have this one claim it. */
  readonly version: string | null
  readonly payload: AnyCodec<P>
  readonly success: AnyCodec<A>
  readonly error: AnyCodec<E>
  /**
   * The body as a Layer: registered with the engine for the life of the layer. The services that
   * its steps need become requirements of the layer.
   */
  readonly toLayer: <R extends WorkflowRun | Requires<any> | UseServicesInsideOfStepMake = never>(
    body: (payload: P) => Effect.Effect<A, E, R>,
  ) => Layer.Layer<never, DuplicateWorkflow | InvalidInput, Engine | Unlift<R>>
}

/**
 * A started run.
 *
 * @category models
 * @since 0.1.0
 */
export interface Handle<out A, out E> extends Started {
  /** Waits for the end: the success, the workflow's typed error, or `RunFailed`. */
  readonly result: Effect.Effect<A, E | RunFailed | RunNotFound | UnreadableValue>
}

type FieldsOrCodec = Schema.Struct.Fields | AnyCodec

type TypeOf<S extends FieldsOrCodec> = S extends AnyCodec
  ? S["Type"]
  : S extends Schema.Struct.Fields
    ? Schema.Struct<S>["Type"]
    : never

/**
 * Defines a workflow. `payload` is a Schema, or the fields of a struct; success defaults to
 * nothing (`void`), error to none.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <
  const P extends FieldsOrCodec = Schema.Void,
  S extends AnyCodec = Schema.Void,
  F extends AnyCodec = Schema.Never,
>(
  name: string,
  options?: {
    readonly payload?: P | undefined
    readonly success?: S | undefined
    readonly error?: F | undefined
    readonly version?: string | undefined
    /** Which endings undo completed steps. Default: all three. The caller of a cancel may differ. */
    readonly compensateOn?: Partial<CompensateOn> | undefined
  },
): Workflow<TypeOf<P>, S["Type"], F["Type"]> => {
  const given: FieldsOrCodec = options?.payload ?? Schema.Void
  const payload = Schema.isSchema(given)
    ? (given as AnyCodec)
    : (Schema.Struct(given as Schema.Struct.Fields) as unknown as AnyCodec)
  const self: Workflow<any, any, any> = {
    name,
    version: options?.version ?? null,
    payload,
    success: options?.success ?? Schema.Void,
    error: options?.error ?? Schema.Never,
    toLayer: (body) =>
      register({
        name,
        version: self.version,
        payload: schemaValue(self.payload),
        success: schemaValue(self.success),
        error: self.error,
        compensateOn: options?.compensateOn,
        body: body as (payload: any) => Effect.Effect<any, any, WorkflowRun>,
      }) as never,
  }
  return self
}

// -----------------------------------------------------------------------------
// Starting, asking
// -----------------------------------------------------------------------------

/**
 * Starts a run, and answers when it is durable. In a process whose worker has a free slot it
 * begins at once.
 *
 * @category combinators
 * @since 0.1.0
 */
export const trigger = <P, A, E>(
  workflow: Workflow<P, A, E>,
  payload: P,
  options?: StartOptions,
): Effect.Effect<Handle<A, E>, StartError | SerializationError | PayloadTooLarge, Engine> =>
  Effect.gen(function* () {
    const engine = yield* Engine
    const input = yield* schemaValue(workflow.payload).encode(payload, "input")
    const started = yield* engine.start(workflow, input, options)
    return handleOf(engine, workflow, started)
  })

/**
 * Starts thousands of runs at once: one statement for each thousand. Outcomes align with the items: a
 * conflict of one item's keys concerns no other; a payload that cannot be stored fails the call, before
 * anything is started.
 *
 * @category combinators
 * @since 0.1.0
 */
export const triggerMany = <P, A, E>(
  workflow: Workflow<P, A, E>,
  items: ReadonlyArray<{ readonly payload: P; readonly options?: StartOptions | undefined }>,
  options?: { readonly deadlineMs?: number | undefined },
): Effect.Effect<
  ReadonlyArray<Result.Result<Handle<A, E>, IdempotencyConflict | ConcurrencyConflict>>,
  StartError | SerializationError | PayloadTooLarge,
  Engine
> =>
  Effect.gen(function* () {
    const engine = yield* Engine
    const codec = schemaValue(workflow.payload)
    const encoded = yield* Effect.forEach(items, (item, i) =>
      Effect.map(codec.encode(item.payload, `input of item ${i}`), (input) => ({
        input,
        options: item.options ?? {},
      })),
    )
    const outcomes = yield* engine.startMany(workflow, encoded, options?.deadlineMs)
    return outcomes.map((one) => Result.map(one, (started) => handleOf(engine, workflow, started)))
  })

/**
 * A handle on a run that was started earlier, or elsewhere.
 *
 * @category combinators
 * @since 0.1.0
 */
export const handle = <P, A, E>(
  workflow: Workflow<P, A, E>,
  workflowRunId: string,
): Effect.Effect<Handle<A, E>, never, Engine> =>
  Effect.map(Engine, (engine) => handleOf(engine, workflow, { workflowRunId, existing: true }))

/**
 * A new run from a point of an old one of any status, which stays as it is. Without a payload, with
 * the same one; without a point, from its end.
 *
 * @category combinators
 * @since 0.1.0
 */
export const fork = <P, A, E>(
  workflow: Workflow<P, A, E>,
  workflowRunId: string,
  options?: ControlOptions & {
    readonly from?: ForkPoint | undefined
    readonly payload?: P | undefined
  },
): Effect.Effect<
  Handle<A, E>,
  InvalidInput | RunNotFound | RunStateConflict | SerializationError | PayloadTooLarge | StoreError,
  Engine
> =>
  Effect.gen(function* () {
    const engine = yield* Engine
    const { from, payload, reason } = options ?? {}
    const input =
      payload === undefined
        ? undefined
        : yield* schemaValue(workflow.payload).encode(payload, "input")
    const forked = yield* engine.fork(workflowRunId, { from, reason, input })
    return handleOf(engine, workflow, { ...forked, existing: false })
  })

const handleOf = <P, A, E>(
  engine: Engine["Service"],
  workflow: Workflow<P, A, E>,
  started: Started,
): Handle<A, E> => ({
  ...started,
  result: Effect.flatMap(engine.outcome(started.workflowRunId), (outcome) =>
    readOutcome(workflow, started.workflowRunId, outcome),
  ),
})

const refuse = (field: string) => (reason: string) => new UnreadableValue({ field, reason })

/**
 * The outcome of a run with its types.
 */
const readOutcome = <P, A, E>(
  workflow: Workflow<P, A, E>,
  workflowRunId: string,
  outcome: RunOutcome,
): Effect.Effect<A, E | RunFailed | UnreadableValue> => {
  if (outcome.status === "completed") {
    const result = outcome.result ?? { codec: "json", json: "null" }
    return Effect.mapError(schemaValue(workflow.success).decode(result), refuse("result"))
  }
  const failed = (cause: unknown, reason: string) =>
    Effect.fail(
      new RunFailed({
        workflow: workflow.name,
        workflowRunId,
        status: outcome.status,
        reason,
        ...(cause === undefined ? {} : { cause }),
      }),
    )
  const { error } = outcome
  if (error === null) return failed(undefined, "no error was recorded")
  return decodeFailure(workflow.error, error).pipe(
    Effect.mapError(refuse("error")),
    Effect.flatMap((decoded): Effect.Effect<never, E | RunFailed> =>
      decoded._tag === "Typed"
        ? Effect.fail(decoded.error as E)
        : failed(decodeError(error), summarize(error)),
    ),
  )
}

/**
 * Creates or replaces a cron schedule. The key defaults to the workflow's name.
 *
 * @category combinators
 * @since 0.1.0
 */
export const schedule = <P, A, E>(
  workflow: Workflow<P, A, E>,
  options: {
    readonly cron: string
    readonly payload: P
    readonly timeZone?: string | undefined
    readonly key?: string | undefined
  },
): Effect.Effect<
  ScheduleRow,
  InvalidInput | SerializationError | PayloadTooLarge | StoreError,
  Engine
> =>
  Effect.gen(function* () {
    const engine = yield* Engine
    const input = yield* schemaValue(workflow.payload).encode(options.payload, "input")
    return yield* engine.schedule({
      key: options.key ?? workflow.name,
      workflow: workflow.name,
      version: workflow.version,
      cron: options.cron,
      timeZone: options.timeZone,
      input,
    })
  })

/**
 * The run that the present body belongs to: its id and attempt.
 *
 * @category combinators
 * @since 0.1.0
 */
export const current: Effect.Effect<
  { readonly workflowRunId: string; readonly attempt: number },
  never,
  WorkflowRun
> = Effect.map(WorkflowRun, ({ workflowRunId, attempt }) => ({ workflowRunId, attempt }))

/**
 * A UUID that is the same on every replay: of the run, and of how many were asked for before. For
 * the time and for random numbers a body uses `Clock` and `Random`, which are the run's own there.
 *
 * @category combinators
 * @since 0.1.0
 */
export const uuid: Effect.Effect<string, never, WorkflowRun> = Effect.map(
  WorkflowRun,
  ({ values }) => values.uuid(),
)

/**
 * Where the code of a body has changed: true in a run that comes here for the first time, and takes
 * the new code; false in one that had gone past this point with the old code, which it must keep.
 * One run and id, one answer, for ever. When no run from before the patch is left, remove the old
 * code and the question; runs that have the answer in their history go on without it.
 *
 * @category combinators
 * @since 0.1.0
 */
export const patched = (id: string): Effect.Effect<boolean, never, WorkflowRun> =>
  Effect.orDie(askPatched(id))

/**
 * Sets attributes of the present run: to search runs by. Those not named stay. It costs no record
 * and waits for nothing: they are stored with the run's next write, and a replay sets none back.
 *
 * @category combinators
 * @since 0.1.0
 */
export const setAttributes: (
  attributes: Attributes,
) => Effect.Effect<void, InvalidInput, WorkflowRun> = publishAttributes

/**
 * Sets the text that the present run shows as its status, like attributes.
 *
 * @category combinators
 * @since 0.1.0
 */
export const setStatus: (text: string) => Effect.Effect<void, InvalidInput, WorkflowRun> =
  publishStatus
