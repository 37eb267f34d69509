/**
 * The steps of `ctx`: their options, checked, as operations.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import { defaultRetry } from "../Compensation.ts"
import { maxMillis } from "../DurationInput.ts"
import type { AttemptFailure, Call, StepAttempt, StepOperation } from "../engine/Operation.ts"
import { anyValue } from "../engine/values.ts"
import { encodeError } from "../ErrorPayload.ts"
import { SerializationError } from "../FlowlyError.ts"
import { checkName } from "../Name.ts"
import { encode, type Encoded } from "../Payload.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import { encodedResult, encodeResult, triesAfter, TryFacts } from "../Step.ts"
import { markNonRetryable } from "../StepError.ts"
import { FlowlyError, orThrow } from "./FlowlyError.ts"
import { callInside } from "./inside.ts"
import { checkKnown, type Names } from "./knownOptions.ts"
import type { TransactionBody, TransactionOptions } from "./transaction.ts"
import { checkSchema, type StandardSchema, validate } from "./standardSchema.ts"

/**
 * What a step's function is told of its try.
 */
export interface TryInfo extends StepInfo {
  /** What an earlier try last told with `heartbeat`; `undefined`: nothing. */
  readonly lastHeartbeat: unknown
  /**
   * Tells that the step is alive, and how far it has come: the next try reads the details, also after
   * a crash. Cheap to call often: one write is under way at a time, and the latest details count. A
   * worker that stops hands the latest over; of one that crashes, the latest that was stored is read.
   */
  readonly heartbeat: (details?: unknown) => void
}

/**
 * What a step's function and its compensation are told.
 */
export interface StepInfo {
  readonly workflowRunId: string
  /** Number of this try, from 1. */
  readonly attempt: number
  /** The same for all tries: hand it to the service you call. */
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
  /** Default 30000, or `initialDelayMs` if that is more. */
  readonly maxDelayMs?: number | undefined
  /** Growth per retry of an exponential backoff. Default 2. */
  readonly factor?: number | undefined
  /** Take a random part of the delay's second half away. Default false. */
  readonly jitter?: boolean | undefined
  /** Which errors are worth another try. Default: all. */
  readonly retryIf?: ((error: unknown) => boolean) | undefined
}

/**
 * Undoes a step. With `compensateOnUnknown` the result may be `undefined`.
 */
export type CompensateFunction<T> = (result: T, info: StepInfo) => Promise<unknown> | unknown

/**
 * How a step is undone: with its own tries and its own time limit.
 */
export interface CompensateOptions<T> {
  readonly run: CompensateFunction<T>
  /** Default: three tries, a second apart, then two. */
  readonly retry?: RetryOptions | undefined
  /** Of one try, in milliseconds. */
  readonly timeoutMs?: number | undefined
}

/**
 * A step.
 */
export interface StepOptions<T> {
  readonly run: (info: TryInfo) => Promise<T> | T
  /** Undoes the completed step when the run fails, is cancelled or times out. */
  readonly compensate?: CompensateFunction<T> | CompensateOptions<T> | undefined
  /**
   * Undo the step also where its outcome is unknown: given up at a time limit, or under way when its
   * process died or its run ended. `compensate` is then given `undefined`. Costs a write for each try.
   */
  readonly compensateOnUnknown?: boolean | undefined
  readonly retry?: RetryOptions | undefined
  /** Of one try, in milliseconds. */
  readonly timeoutMs?: number | undefined
  /**
   * Of all tries together, in milliseconds from the first one, over crashes too. Then the step fails
   * with the code "StepDeadlineExceeded".
   */
  readonly deadlineMs?: number | undefined
  /** A try that gives no heartbeat for so many milliseconds is given up. */
  readonly heartbeatTimeoutMs?: number | undefined
  /** Checks the result: when it is recorded, and each time it is read. */
  readonly schema?: StandardSchema<T> | undefined
}

/**
 * What stands for a result that is not there.
 */
export const undefinedValue: Encoded = { codec: "json", json: "null" }

/**
 * A time limit in whole milliseconds; `null` where none is given.
 */
export const checkPositive = (value: number | undefined, field: string): number | null => {
  if (value === undefined) return null
  if (!Number.isFinite(value) || value <= 0 || value > maxMillis) {
    throw new FlowlyError("InvalidInput", `${field}: must be a positive number of milliseconds`)
  }
  return Math.ceil(value)
}

/**
 * A number of attempts; `null` where none is given.
 */
export const checkAttempts = (value: number | undefined, field: string): number | null => {
  if (value === undefined) return null
  if (!RetryPolicy.isAttempts(value)) {
    throw new FlowlyError(
      "InvalidInput",
      `${field}: must be a whole number from 1 to ${RetryPolicy.mostAttempts}`,
    )
  }
  return value
}

const retryNames: Names<RetryOptions> = {
  maxAttempts: true,
  backoff: true,
  initialDelayMs: true,
  maxDelayMs: true,
  factor: true,
  jitter: true,
  retryIf: true,
}

const stepNames: Names<StepOptions<any>> = {
  run: true,
  compensate: true,
  compensateOnUnknown: true,
  retry: true,
  timeoutMs: true,
  deadlineMs: true,
  heartbeatTimeoutMs: true,
  schema: true,
}

const transactionNames: Names<TransactionOptions<any> & StepOptions<any>> = {
  ...stepNames,
  isolation: true,
}

const compensateNames: Names<CompensateOptions<any>> = { run: true, retry: true, timeoutMs: true }

const checkRetry = (of: string, retry: RetryOptions | undefined): RetryPolicy.RetryPolicy => {
  if (retry === undefined) return RetryPolicy.none
  if (typeof retry !== "object" || retry === null || Array.isArray(retry)) {
    throw new FlowlyError("InvalidInput", `retry of ${of}: must be an object: { maxAttempts, … }`)
  }
  checkKnown(retry, retryNames, (option) => `retry.${option} of ${of}`)
  const { retryIf } = retry
  if (retryIf !== undefined && typeof retryIf !== "function") {
    throw new FlowlyError("InvalidInput", `retry.retryIf of ${of}: must be a function`)
  }
  return orThrow(RetryPolicy.check(retry, (option) => `retry.${option} of ${of}`))
}

/**
 * A step as an operation.
 */
export const stepOperation = <T>(
  kind: StepOperation["kind"],
  name: string,
  given: StepOptions<T>,
  transaction?: TransactionBody<T>,
): StepOperation => {
  orThrow(checkName(name, "step name"))
  const options = transaction === undefined ? given : { ...given, run: transaction.run }
  const { run, schema } = options ?? {}
  if (typeof run !== "function") {
    throw new FlowlyError("InvalidInput", `run of step "${name}": must be a function`)
  }
  checkKnown(
    given,
    transaction === undefined ? stepNames : transactionNames,
    (option) => `${option} of step "${name}"`,
  )
  if (schema !== undefined) checkSchema(schema, `schema of step "${name}"`)
  return new FunctionStep(kind, name, options as StepOptions<T>, transaction)
}

/** A class: see `engine/live.ts`. */
class FunctionStep<T> implements StepOperation {
  readonly kind: StepOperation["kind"]
  readonly name: string
  readonly retry: StepOperation["retry"]
  readonly timeoutMs: number | null
  readonly deadlineMs: number | null
  readonly heartbeatTimeoutMs: number | null
  readonly transaction: StepOperation["transaction"]
  readonly call: StepOperation["call"]
  readonly undo: StepOperation["undo"]
  readonly #options: StepOptions<T>
  readonly #body: TransactionBody<T> | undefined

  constructor(
    kind: StepOperation["kind"],
    name: string,
    options: StepOptions<T>,
    body: TransactionBody<T> | undefined,
  ) {
    const limit = (which: "timeoutMs" | "deadlineMs" | "heartbeatTimeoutMs") =>
      options[which] === undefined
        ? null
        : checkPositive(options[which], `${which} of step "${name}"`)
    this.kind = kind
    this.name = name
    this.retry = checkRetry(`step "${name}"`, options.retry)
    this.timeoutMs = limit("timeoutMs")
    this.deadlineMs = limit("deadlineMs")
    this.heartbeatTimeoutMs = limit("heartbeatTimeoutMs")
    this.transaction = body === undefined ? undefined : { isolation: body.isolation }
    this.call = body === undefined ? callOf(name, options, options.retry?.retryIf) : undefined
    this.undo = undoOf(name, options)
    this.#options = options
    this.#body = body
  }

  run(attempt: StepAttempt): Effect.Effect<Encoded, AttemptFailure> {
    const { name } = this
    const body = this.#body
    const { run, schema, retry } = this.#options
    const { transaction: opened } = attempt
    return Effect.tryPromise({
      try: async () => {
        const info = new Info(attempt, name)
        return callInside(insideOf(attempt, name), () =>
          body === undefined || opened === undefined ? run(info) : body.run(opened.client, info),
        )
      },
      catch: (error) => ({
        ...failureOf(error, retry?.retryIf),
        fault: opened?.faultOf(error) ?? null,
      }),
    }).pipe(
      Effect.tap((value) =>
        schema === undefined ? Effect.void : checkResult(schema, value, name),
      ),
      Effect.flatMap((value) => encodeResult(anyValue, value, name)),
    )
  }
}

/** The options of a step that is a function only. A class: see `engine/live.ts`. */
export class JustRun<T> implements StepOptions<T> {
  readonly run: StepOptions<T>["run"]

  constructor(run: StepOptions<T>["run"]) {
    this.run = run
  }
}

/** A try of a step that has no transaction. */
const callOf =
  <T>(
    name: string,
    { run, schema }: Pick<StepOptions<T>, "run" | "schema">,
    retryIf: RetryOptions["retryIf"],
  ): Call =>
  (attempt, end) => {
    const encoded = (value: T) => {
      try {
        return encodedResult(value, name)
      } catch (error) {
        return Result.fail(failureOf(error, retryIf))
      }
    }
    const returned = (value: T): void => {
      if (schema === undefined) return end(encoded(value))
      const checked = (exit: Exit.Exit<unknown, AttemptFailure>) =>
        end(
          Exit.isSuccess(exit)
            ? encoded(value)
            : Result.fail(Cause.squash(exit.cause) as AttemptFailure),
        )
      const check = checkResult(schema, value, name)
      if (Exit.isExit(check)) checked(check as Exit.Exit<unknown, AttemptFailure>)
      else void Effect.runPromiseExit(check).then(checked)
    }
    let value: Promise<T> | T
    try {
      const info = new Info(attempt, name)
      value = callInside(insideOf(attempt, name), () => run(info))
    } catch (error) {
      return end(Result.fail(failureOf(error, retryIf)))
    }
    if (typeof value !== "object" || value === null || !("then" in value)) {
      return returned(value as T)
    }
    Promise.resolve(value).then(returned, (error: unknown) =>
      end(Result.fail(failureOf(error, retryIf))),
    )
  }

const failureOf = (error: unknown, retryIf: RetryOptions["retryIf"]): AttemptFailure => ({
  error: encodeError(error),
  ...triesAfter(error, (failure) => isRetryable(retryIf, failure)),
})

const undoOf = <T>(name: string, options: Omit<StepOptions<T>, "run">): StepOperation["undo"] => {
  const { compensate, compensateOnUnknown = false, schema } = options
  if (compensate === undefined) {
    if (!compensateOnUnknown) return null
    throw new FlowlyError("InvalidInput", `compensateOnUnknown of step "${name}": needs compensate`)
  }
  const given = typeof compensate === "function" ? { run: compensate } : compensate
  if (typeof given?.run !== "function") {
    throw new FlowlyError(
      "InvalidInput",
      `compensate of step "${name}": must be a function, or have one as its run`,
    )
  }
  checkKnown(given, compensateNames, (option) => `compensate.${option} of step "${name}"`)
  const { run, retry, timeoutMs }: CompensateOptions<T> = given
  const field = `compensate of step "${name}"`
  return {
    retry: retry === undefined ? defaultRetry : checkRetry(field, retry),
    timeoutMs: checkPositive(timeoutMs, `timeoutMs of ${field}`),
    onUnknown: compensateOnUnknown,
    run: (result, info) =>
      (result === null
        ? Effect.succeed(undefined as T)
        : Effect.mapError(stored(result, schema), (reason) => new Error(reason))
      ).pipe(
        Effect.flatMap((value) =>
          Effect.tryPromise({
            try: async () => void (await run(value, info)),
            catch: (raw) => raw,
          }),
        ),
        Effect.mapError((raw) => ({
          error: encodeError(raw),
          raw: isRetryable(retry?.retryIf, raw) ? raw : markNonRetryable(new Error()),
        })),
      ),
  }
}

const insideOf = ({ workflowRunId }: StepAttempt, name: string) => ({
  workflowRunId,
  what: `step "${name}"`,
})

class Info extends TryFacts implements TryInfo {
  readonly heartbeat: TryInfo["heartbeat"]

  constructor(attempt: StepAttempt, name: string) {
    super(attempt)
    this.heartbeat = (details) =>
      attempt.heartbeat(orThrow(encode(details, { field: `heartbeat of step "${name}"` })))
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

/**
 * A stored result as the body and its undo see it.
 */
export const stored = <T>(
  result: Encoded | null,
  schema: StandardSchema<T> | undefined,
): Effect.Effect<T, string> =>
  Effect.flatMapEager(anyValue.decode(result ?? undefinedValue), (value) =>
    schema === undefined
      ? Effect.succeed(value as T)
      : Effect.mapErrorEager(validate(schema, value), ({ reason }) => reason),
  )

const checkResult = <T>(schema: StandardSchema<T>, value: T, name: string) =>
  Effect.mapErrorEager(validate(schema, value), ({ path, reason }): AttemptFailure => {
    const field = `result of step "${name}"`
    return {
      error: encodeError(new SerializationError({ field, path, reason })),
      retryable: false,
    }
  })
