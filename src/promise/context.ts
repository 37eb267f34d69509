/**
 * `ctx`: the operations of a body, as promises.
 *
 * Each method is a thin layer over `perform`. Promises of a body that was parked, handed back or
 * lost never settle, so no `catch` or `finally` of it runs; a promise that nobody awaits never
 * becomes an unhandled rejection.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Cause from "effect/Cause"
import { defaultRetry } from "../Compensation.ts"
import { type DurationInput, maxMillis, toMillis } from "../DurationInput.ts"
import { checkName, mostAttempts } from "../Engine.ts"
import type { AttemptFailure, StepOperation } from "../engine/Operation.ts"
import { anyValue } from "../engine/values.ts"
import { encodeError } from "../ErrorPayload.ts"
import { InvalidInput, SerializationError } from "../FlowlyError.ts"
import type { Encoded } from "../Payload.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import { encodeResult } from "../Step.ts"
import * as Token from "../Token.ts"
import { noteFailure, patched, pauseUnreadable, perform, WorkflowRun } from "../WorkflowRun.ts"
import { waitForEvent, waitForToken, type WaitFor, type WaitOptions } from "./events.ts"
import { errorOf, FlowlyError, orThrow, toFlowlyError } from "./FlowlyError.ts"
import { checkSchema, type StandardSchema, validate } from "./standardSchema.ts"
import { checkWorkflow } from "./options.ts"
import type { WorkflowDefinition } from "./workflow.ts"

/**
 * What a step's function is told.
 */
export interface StepInfo {
  readonly workflowRunId: string
  /** Number of this try, from 1. */
  readonly attempt: number
  /** The same for all tries of this step in this run: hand it to the service you call. */
  readonly idempotencyKey: string
  /** Aborts on a timeout, a cancel or a shutdown: hand it to `fetch`. */
  readonly signal: AbortSignal
}

/**
 * How often to try, and how long to wait between tries.
 */
export interface RetryOptions {
  /** Tries in all, the first included. Default 1. */
  readonly maxAttempts?: number | undefined
  /** Default "exponential". */
  readonly backoff?: "exponential" | "linear" | "fixed" | undefined
  /** Default 1000. */
  readonly initialDelayMs?: number | undefined
  /** Default 30000. */
  readonly maxDelayMs?: number | undefined
  /** Growth per retry of an exponential backoff. Default 2. */
  readonly factor?: number | undefined
  /** Take a random part of the delay's second half away. Default false. */
  readonly jitter?: boolean | undefined
  /** Which errors are worth another try. Default: all. */
  readonly retryIf?: ((error: unknown) => boolean) | undefined
}

/**
 * A step.
 */
export interface StepOptions<T> {
  readonly run: (info: StepInfo) => Promise<T> | T
  /** Undoes the completed step when the run fails, is cancelled or times out. */
  readonly compensate?: ((result: T, info: StepInfo) => Promise<unknown> | unknown) | undefined
  readonly retry?: RetryOptions | undefined
  /** Of one try, in milliseconds. */
  readonly timeoutMs?: number | undefined
  /** Checks the result: when it is recorded, and each time it is read. */
  readonly schema?: StandardSchema<T> | undefined
}

/**
 * How a child is run.
 */
export interface ChildOptions {
  /** The child's step key. Default: the workflow's name. */
  readonly name?: string | undefined
  readonly timeoutMs?: number | undefined
  readonly maxAttempts?: number | undefined
}

/**
 * What a workflow's function works with. All methods may be used in loops, under `Promise.all` and
 * `Promise.race`; everything that touches the world belongs into a step.
 */
export interface WorkflowContext {
  readonly workflowRunId: string
  /** Attempt of the whole run, from 1. */
  readonly attempt: number
  /**
   * The time, the same on every replay: the database's at the last step, sleep or other completion
   * that this function was given; at first, when the run began. It stands still between them.
   */
  readonly now: () => Date
  /** A random number from 0 inclusive to 1 exclusive, the same on every replay. */
  readonly random: () => number
  /** A UUID, the same on every replay. */
  readonly uuid: () => string
  /**
   * Where this function's code has changed: true in a run that comes here for the first time, and
   * takes the new code; false in one that had gone past this point with the old code, which it must
   * keep. One run and id, one answer.
   */
  readonly patched: (id: string) => Promise<boolean>
  /** Runs a step, or gives its remembered outcome. */
  readonly step: <T>(
    name: string,
    options: StepOptions<T> | ((info: StepInfo) => Promise<T> | T),
  ) => Promise<T>
  /** Sleeps durably. */
  readonly sleep: (name: string, duration: DurationInput) => Promise<void>
  /** Sleeps durably until an instant. */
  readonly sleepUntil: (name: string, date: Date) => Promise<void>
  /** A value from outside that must be the same on replay: a setting, a file. Not retried. */
  readonly sideEffect: <T>(name: string, fn: () => Promise<T> | T) => Promise<T>
  /** Tells the engine's listeners something, once. */
  readonly emit: (event: string, data?: unknown) => Promise<void>
  /**
   * Waits for an event that `engine.sendEvent` sends to this run, or has sent. A timeout is an answer
   * to branch on: `{ timedOut: true }`, else `{ timedOut: false, payload }`.
   */
  readonly waitForEvent: WaitFor
  /**
   * A string that nobody can guess, to be handed to a person or a webhook: `engine.resolveToken`
   * resolves the one `waitForToken` that waits for it.
   */
  readonly token: (name: string) => Promise<string>
  /** Waits until a token of this run is resolved; answers like `waitForEvent`. */
  readonly waitForToken: WaitFor
  /** Runs another workflow as a part of this one, and waits for its result. */
  readonly workflow: <I, O>(
    definition: WorkflowDefinition<I, O>,
    ...input: undefined extends I
      ? [input?: I, options?: ChildOptions]
      : [input: I, options?: ChildOptions]
  ) => Promise<O>
}

/** Asks for an operation; its failure is the stored error, as it will be on every replay. */
const ask = (operation: Parameters<typeof perform>[0]) =>
  Effect.catch(perform(operation), ({ error, position }) => {
    const decoded = errorOf(error)
    return Effect.andThen(noteFailure(decoded, position), Effect.fail(decoded))
  })

const read = (result: Encoded | null, field: string) =>
  Effect.catch(anyValue.decode(result ?? undefinedValue), (reason) =>
    pauseUnreadable(field, reason),
  )

const step = <T>(kind: StepOperation["kind"], name: string, options: StepOptions<T>) =>
  Effect.flatMap(ask(stepOperation(kind, name, options)), (result) =>
    Effect.catch(stored(result, options.schema), (reason) =>
      pauseUnreadable(`result of step "${name}"`, reason),
    ),
  )

/**
 * A context whose operations run in the body that `services` belongs to.
 */
export const makeContext = (
  services: Context.Context<WorkflowRun>,
  run: WorkflowRun["Service"],
) => {
  const runFork = Effect.runForkWith(services)

  const promise = <A>(operation: () => Effect.Effect<A, unknown, WorkflowRun>): Promise<A> => {
    const result = new Promise<A>((resolve, reject) => {
      const fiber = runFork(Effect.suspend(operation))
      fiber.addObserver((exit) => {
        if (Exit.isSuccess(exit)) resolve(exit.value)
        // an abandoned body hears nothing more
        else if (!Cause.hasInterruptsOnly(exit.cause)) {
          reject(toFlowlyError(Cause.squash(exit.cause)))
        }
      })
    })
    result.catch(() => undefined)
    return result
  }

  const ctx: WorkflowContext = {
    workflowRunId: run.workflowRunId,
    attempt: run.attempt,
    now: () => new Date(run.values.now()),
    random: run.values.random,
    uuid: run.values.uuid,
    patched: (id) => promise(() => patched(id)),
    step: <T>(name: string, options: StepOptions<T> | StepOptions<T>["run"]) =>
      promise(() => step("step", name, typeof options === "function" ? { run: options } : options)),
    sideEffect: (name, fn) => promise(() => step("side_effect", name, { run: fn })),
    sleep: (name, duration) =>
      promise(() => {
        orThrow(checkName(name, "sleep name"))
        const delayMs = orThrow(toMillis(duration, `duration of sleep "${name}"`))
        return Effect.asVoid(ask({ kind: "sleep", name, until: { delayMs } }))
      }),
    sleepUntil: (name, date) =>
      promise(() => {
        orThrow(checkName(name, "sleep name"))
        const wakeAt = new Date(date).getTime()
        if (Number.isNaN(wakeAt) || wakeAt > Date.UTC(9999, 0)) {
          return Effect.fail(
            new InvalidInput({ field: `date of sleep "${name}"`, reason: "is not a valid date" }),
          )
        }
        // what is long past is past: Postgres knows fewer years than Date
        return Effect.asVoid(ask({ kind: "sleep", name, until: { wakeAt: Math.max(wakeAt, 0) } }))
      }),
    emit: (event, data) =>
      promise(() => {
        orThrow(checkName(event, "event name"))
        return Effect.flatMap(anyValue.encode(data, `data of event "${event}"`), (payload) =>
          Effect.asVoid(ask({ kind: "emit", name: event, payload })),
        )
      }),
    waitForEvent: (name: string, options?: WaitOptions<any>) =>
      promise(() => waitForEvent(name, options, ask, stored)),
    token: (name) => promise(() => Token.make(name)),
    waitForToken: (token: string, options?: WaitOptions<any>) =>
      promise(() => waitForToken(token, options, ask, stored)),
    workflow: (definition, ...[input, options]) =>
      promise(() => {
        checkWorkflow(definition, `child of "${run.workflow}"`)
        const name = orThrow(checkName(options?.name ?? definition.name, "child name"))
        return Effect.flatMap(anyValue.encode(input, `input of child "${name}"`), (encoded) =>
          Effect.flatMap(
            ask({
              kind: "child",
              name,
              workflow: definition.name,
              version: definition.version,
              input: encoded,
              timeoutMs: checkPositive(options?.timeoutMs, `timeoutMs of child "${name}"`),
              maxAttempts: checkAttempts(options?.maxAttempts, `maxAttempts of child "${name}"`),
            }),
            (result) => read(result, `result of child "${name}"`),
          ),
        )
      }),
  }
  return ctx
}

const undefinedValue: Encoded = { codec: "json", json: "null" }

const checkPositive = (value: number | undefined, field: string): number | null => {
  if (value === undefined) return null
  if (!Number.isFinite(value) || value <= 0 || value > maxMillis) {
    throw new FlowlyError("InvalidInput", `${field}: must be a positive number of milliseconds`)
  }
  return Math.ceil(value)
}

const checkAttempts = (value: number | undefined, field: string): number | null => {
  if (value === undefined) return null
  if (!Number.isInteger(value) || value < 1 || value > mostAttempts) {
    throw new FlowlyError(
      "InvalidInput",
      `${field}: must be a whole number from 1 to ${mostAttempts}`,
    )
  }
  return value
}

const checkRetry = (name: string, retry: RetryOptions | undefined): RetryPolicy.RetryPolicy => {
  if (retry === undefined) return RetryPolicy.none
  checkAttempts(retry.maxAttempts, `retry.maxAttempts of step "${name}"`)
  for (const key of ["initialDelayMs", "maxDelayMs", "factor"] as const) {
    const value = retry[key]
    if (value !== undefined && !(Number.isFinite(value) && value >= 0 && value <= maxMillis)) {
      throw new FlowlyError(
        "InvalidInput",
        `retry.${key} of step "${name}": must be a finite number of at least 0`,
      )
    }
  }
  const { backoff, retryIf } = retry
  if (backoff !== undefined && !["exponential", "linear", "fixed"].includes(backoff)) {
    throw new FlowlyError(
      "InvalidInput",
      `retry.backoff of step "${name}": must be "exponential", "linear" or "fixed"`,
    )
  }
  if (retryIf !== undefined && typeof retryIf !== "function") {
    throw new FlowlyError("InvalidInput", `retry.retryIf of step "${name}": must be a function`)
  }
  return RetryPolicy.make(retry)
}

const stepOperation = <T>(
  kind: StepOperation["kind"],
  name: string,
  options: StepOptions<T>,
): StepOperation => {
  orThrow(checkName(name, "step name"))
  const { run, compensate, schema } = options ?? {}
  if (typeof run !== "function") {
    throw new FlowlyError("InvalidInput", `run of step "${name}": must be a function`)
  }
  if (compensate !== undefined && typeof compensate !== "function") {
    throw new FlowlyError("InvalidInput", `compensate of step "${name}": must be a function`)
  }
  if (schema !== undefined) checkSchema(schema, `schema of step "${name}"`)
  const retryIf = options.retry?.retryIf
  return {
    kind,
    name,
    retry: checkRetry(name, options.retry),
    timeoutMs: checkPositive(options.timeoutMs, `timeoutMs of step "${name}"`),
    run: (info) =>
      Effect.tryPromise({
        try: async () => run(info),
        catch: (error): AttemptFailure => ({
          error: encodeError(error),
          retryable: isRetryable(retryIf, error),
        }),
      }).pipe(
        Effect.tap((value) =>
          schema === undefined ? Effect.void : checkResult(schema, value, name),
        ),
        Effect.flatMap((value) => encodeResult(anyValue, value, name)),
      ),
    undo:
      compensate === undefined
        ? null
        : {
            retry: defaultRetry,
            timeoutMs: null,
            run: (result, info) =>
              Effect.flatMap(
                Effect.mapError(stored(result, schema), (reason) => encodeError(new Error(reason))),
                (value) =>
                  Effect.tryPromise({
                    try: async () => void (await compensate(value, info)),
                    catch: encodeError,
                  }),
              ),
          },
  }
}

const isRetryable = (
  retryIf: ((error: unknown) => boolean) | undefined,
  error: unknown,
): boolean => {
  if (retryIf === undefined) return true
  try {
    return retryIf(error)
  } catch {
    return false
  }
}

/** A stored result as the body and its undo see it. */
const stored = <T>(
  result: Encoded | null,
  schema: StandardSchema<T> | undefined,
): Effect.Effect<T, string> =>
  Effect.flatMap(anyValue.decode(result ?? undefinedValue), (value) =>
    schema === undefined
      ? Effect.succeed(value as T)
      : Effect.mapError(validate(schema, value), ({ reason }) => reason),
  )

const checkResult = <T>(schema: StandardSchema<T>, value: T, name: string) =>
  Effect.mapError(validate(schema, value), ({ path, reason }): AttemptFailure => {
    const field = `result of step "${name}"`
    return {
      error: encodeError(new SerializationError({ field, path, reason })),
      retryable: false,
    }
  })
