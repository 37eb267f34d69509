/**
 * A step: a named effect whose outcome is remembered. After it is recorded, it never runs again
 * for that run; before that, a crash may make it run once more (promise 3).
 *
 * The same name may be used again in a run: the second use has the key `name#2`, and so on. What a
 * step needs (`R`) is lifted into a marker, so that services are used in steps and not in bodies.
 * Success without a Schema goes through the default codec (JSON, Date, Map, BigInt …); a step that
 * can fail names the Schema of its error.
 *
 * **Example** (A step with retries and an undo)
 *
 * ```ts
 * const reserved = yield* Step.make("reserve", {
 *   success: Reservation,
 *   error: OutOfStock,
 *   run: inventory.reserve(orderId),
 *   retry: { maxAttempts: 3 },
 *   compensate: (reservation) => inventory.release(reservation.id)
 * })
 * ```
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { Compensation } from "./Compensation.ts"
import { defaultRetry } from "./Compensation.ts"
import type {
  Attempt,
  AttemptFailure,
  RetryAfter,
  StepAttempt,
  StepOperation,
} from "./engine/Operation.ts"
import {
  type AnyCodec,
  anyValue,
  decodeFailure,
  encodeFailure,
  schemaValue,
  type ValueCodec,
} from "./engine/values.ts"
import { limitMistake } from "./DurationInput.ts"
import { encodeError, type StoredError } from "./ErrorPayload.ts"
import * as SqlClient from "effect/sql/SqlClient"
import {
  type InvalidInput,
  StepDeadlineExceeded,
  StepHeartbeatTimeout,
  StepTimeout,
  TransactionUnsupported,
} from "./FlowlyError.ts"
import { checkName } from "./Name.ts"
import { decode, encode, type Encoded } from "./Payload.ts"
import * as RetryPolicy from "./RetryPolicy.ts"
import { markNonRetryable, markRetryAfter, verdictOf } from "./StepError.ts"
import {
  type Lift,
  noteFailure,
  type OperationFailed,
  pauseUnreadable,
  performOf,
  WorkflowRun,
} from "./WorkflowRun.ts"
import type { Isolation, Transaction } from "./WorkflowStore.ts"

/**
 * What a step's function is told: the number of the try, a key that is the same for all tries of
 * this step in this run, and a signal that aborts on timeout or cancel.
 *
 * @category models
 * @since 0.1.0
 */
export interface Info extends Attempt {
  /** What an earlier try last told with `heartbeat`; `undefined`: nothing. */
  readonly lastHeartbeat: unknown
  /**
   * Tells that the step is alive, and how far it has come: the next try reads the details, also after
   * a crash. Cheap to call often: one write is under way at a time, and the latest details count. A
   * worker that stops hands the latest over; of one that crashes, the latest that was stored is read.
   */
  readonly heartbeat: (details?: unknown) => Effect.Effect<void>
}

type Limit = Duration.Input | undefined

/**
 * @category models
 * @since 0.1.0
 */
export type Options<A, E, R, RC, T extends Limit, D extends Limit, H extends Limit> = {
  readonly success?: AnyCodec<A> | undefined
  readonly run: Effect.Effect<A, E, R> | ((info: Info) => Effect.Effect<A, E, R>)
  readonly retry?: Partial<RetryPolicy.RetryPolicy> | undefined
  /** Which failures are worth another try. Default: all. */
  readonly retryIf?: ((error: E) => boolean) | undefined
  /** Of one try. A timed-out try fails with `StepTimeout`. */
  readonly timeout?: T
  /** Of all tries, counted from the first one, over crashes too: `StepDeadlineExceeded`. */
  readonly deadline?: D
  /** A try that gives no heartbeat for so long is given up: `StepHeartbeatTimeout`. */
  readonly heartbeatTimeout?: H
  readonly compensate?:
    | ((result: A, info: Attempt) => Effect.Effect<unknown, unknown, RC>)
    | Compensation<A, unknown, RC>
    | undefined
  /**
   * Undo the step also where its outcome is unknown: given up at a time limit, or under way when its
   * process died or its run ended. `compensate` is then given `undefined`. Costs a write for each try.
   */
  readonly compensateOnUnknown?: boolean | undefined
} & ([E] extends [never] ? { readonly error?: AnyCodec<E> } : { readonly error: AnyCodec<E> })

/**
 * A step. Fails with the typed error of `run`, and with those of the limits that it has.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <
  A,
  E = never,
  R = never,
  RC = never,
  T extends Limit = undefined,
  D extends Limit = undefined,
  H extends Limit = undefined,
>(
  name: string,
  options: Options<A, E, R, RC, T, D, H>,
): Effect.Effect<A, E | LimitErrors<T, D, H>, WorkflowRun | Lift<R | RC>> =>
  stepOf(name, options) as any

/**
 * A step whose effect runs in a transaction of the store's database, which records the step too:
 * exactly once, for what it does through the `SqlClient` that it is given (the store's own; not
 * through another one of the application). Serialization failures and deadlocks run it again.
 *
 * **Example** (Moving money)
 *
 * ```ts
 * yield* Step.transaction("transfer", {
 *   isolation: "serializable",
 *   run: Effect.flatMap(SqlClient.SqlClient, (sql) => sql`update accounts set …`)
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const transaction = <
  A,
  E = never,
  R = never,
  RC = never,
  T extends Limit = undefined,
  D extends Limit = undefined,
  H extends Limit = undefined,
>(
  name: string,
  options: Options<A, E, R, RC, T, D, H> & {
    /** Default: the database's. */
    readonly isolation?: Isolation | undefined
  },
): Effect.Effect<
  A,
  E | LimitErrors<T, D, H>,
  WorkflowRun | Lift<Exclude<R, SqlClient.SqlClient> | RC>
> => stepOf(name, options, { isolation: options.isolation ?? null }) as any

const onClient = <A, E, R>(
  { sql }: Transaction,
  run: Effect.Effect<A, E, R>,
): Effect.Effect<A, E, R> =>
  sql === null
    ? Effect.die(new TransactionUnsupported({ store: "memory" }))
    : Effect.provideService(run, SqlClient.SqlClient, sql)

const stepOf = <A, E, R, RC, T extends Limit, D extends Limit, H extends Limit>(
  name: string,
  options: Options<A, E, R, RC, T, D, H>,
  inTransaction?: { readonly isolation: Isolation | null },
): Effect.Effect<any, any, any> => {
  const checked = checkName(name, "step name")
  if (Result.isFailure(checked)) return Effect.die(checked.failure)
  const error = (options.error as AnyCodec<E> | undefined) ?? null
  const codec = options.success === undefined ? anyValue : schemaValue(options.success)
  const mistake = mistakeOf(name, options as never)
  if (mistake !== null) return Effect.die(mistake)
  return Effect.flatMap(WorkflowRun, ({ execution, services }) => {
    const provide = <B, F>(effect: Effect.Effect<B, F, R | RC>): Effect.Effect<B, F> =>
      Effect.interruptible(Effect.provideContext(effect, services as never))

    const operation: StepOperation = {
      kind: "step",
      name,
      retry: options.retry === undefined ? RetryPolicy.none : RetryPolicy.make(options.retry),
      timeoutMs: millisOf(options.timeout),
      deadlineMs: millisOf(options.deadline),
      heartbeatTimeoutMs: millisOf(options.heartbeatTimeout),
      ...(inTransaction === undefined ? {} : { transaction: inTransaction }),
      run: (attempt) =>
        Effect.matchEffect(
          provide(
            Effect.suspend(() => {
              const run =
                typeof options.run === "function"
                  ? options.run(new TryInfo(attempt, name))
                  : options.run
              const { transaction: opened } = attempt
              return opened === undefined ? run : onClient(opened, run)
            }),
          ),
          {
            onSuccess: (value) => encodeResult(codec, value, name),
            onFailure: (failure) =>
              Effect.flatMap(encodeFailure(error, failure), (stored) =>
                Effect.fail<AttemptFailure>({
                  error: stored,
                  ...triesAfter(
                    failure,
                    options.retryIf as ((error: unknown) => boolean) | undefined,
                  ),
                  fault: attempt.transaction?.faultOf(failure) ?? null,
                }),
              ),
          },
        ),
      undo: undoOf(options.compensate, options.compensateOnUnknown ?? false, codec, provide),
    }
    return Effect.matchEffect(performOf(execution, operation), {
      onSuccess: (result) =>
        Effect.catchEager(
          codec.decode(result ?? { codec: "json", json: "null" }) as Effect.Effect<A, string>,
          (reason) => pauseUnreadable(`result of step "${name}"`, reason),
        ),
      onFailure: (failed) => deliverFailure(name, error, failed),
    })
  })
}

/**
 * The error, marked: the step that fails with it is not tried again, whatever its policy says. The
 * marked object itself is what must be failed with.
 *
 * @category errors
 * @since 0.1.0
 */
export const nonRetryable: <E extends object>(error: E) => E = markNonRetryable

/**
 * The error, marked: the next try of the step that fails with it begins after the delay, or at the
 * date, in place of the policy's delay and not shortened by `maxDelayMs`.
 *
 * @category errors
 * @since 0.1.0
 */
export const retryAfter = <E extends object>(error: E, after: Duration.Input | Date): E =>
  markRetryAfter(error, after instanceof Date ? after : Duration.toMillis(after))

type LimitErrors<T, D, H> =
  | (T extends undefined ? never : StepTimeout)
  | (D extends undefined ? never : StepDeadlineExceeded)
  | (H extends undefined ? never : StepHeartbeatTimeout)

const millisOf = (limit: Limit): number | null =>
  limit === undefined ? null : Duration.toMillis(limit)

/** What of a step's numbers cannot be: a NaN would retry for ever, or never reach its limit. */
const mistakeOf = (
  name: string,
  options: Pick<
    Options<any, any, any, any, Limit, Limit, Limit>,
    "retry" | "timeout" | "deadline" | "heartbeatTimeout" | "compensate"
  >,
): InvalidInput | null => {
  const { retry, compensate } = options
  const of = `step "${name}"`
  for (const limit of ["timeout", "deadline", "heartbeatTimeout"] as const) {
    const mistake = limitMistake(millisOf(options[limit]), `${limit} of ${of}`)
    if (mistake !== null) return mistake
  }
  const undo = typeof compensate === "object" ? compensate : null
  return (
    (retry === undefined ? null : retryMistake(retry, of)) ??
    (undo === null ? null : retryMistake(undo.retry, `compensate of ${of}`)) ??
    (undo === null ? null : limitMistake(undo.timeoutMs, `timeout of compensate of ${of}`))
  )
}

const retryMistake = (retry: Partial<RetryPolicy.RetryPolicy>, of: string): InvalidInput | null => {
  const checked = RetryPolicy.check(retry, (option) => `retry.${option} of ${of}`)
  return Result.isFailure(checked) ? checked.failure : null
}

/**
 * What the function of a step is told of its try, but for `heartbeat`, which each API has its own of.
 *
 * A class: the signal is made when somebody looks at it, and an object literal with a getter gets a
 * hidden class of its own, in the old generation, which keeps the getter, and with it all that belongs to
 * the run, until the next full collection. (A run of one step promoted 12 KB, now 0.1; a scavenge with 500
 * in flight took 17 ms, now 5.)
 *
 * @category models
 * @since 0.1.0
 */
export class TryFacts implements Omit<Info, "heartbeat"> {
  readonly workflowRunId: string
  readonly attempt: number
  readonly idempotencyKey: string
  readonly lastHeartbeat: unknown
  readonly #attempt: StepAttempt

  constructor(attempt: StepAttempt) {
    this.workflowRunId = attempt.workflowRunId
    this.attempt = attempt.attempt
    this.idempotencyKey = attempt.idempotencyKey
    this.lastHeartbeat = readHeartbeat(attempt)
    this.#attempt = attempt
  }

  get signal(): AbortSignal {
    return this.#attempt.signal
  }
}

class TryInfo extends TryFacts implements Info {
  readonly heartbeat: Info["heartbeat"]

  constructor(attempt: StepAttempt, name: string) {
    super(attempt)
    this.heartbeat = (details) =>
      Effect.orDie(
        Effect.map(anyValue.encode(details, `heartbeat details of step "${name}"`), (encoded) =>
          attempt.heartbeat(encoded),
        ),
      )
  }
}

/** What the try before told; `undefined` where it told nothing that this code can read. */
const readHeartbeat = ({ lastHeartbeat }: StepAttempt): unknown => {
  if (lastHeartbeat === null) return undefined
  try {
    return decode(lastHeartbeat)
  } catch {
    return undefined
  }
}

/**
 * Whether and when a step is tried again that failed with this: what the error itself says goes
 * before what `retryIf` says of it.
 *
 * @category guards
 * @since 0.1.0
 */
export const triesAfter = (
  error: unknown,
  retryIf: ((error: unknown) => boolean) | undefined,
): { readonly retryable: boolean; readonly retryAfter: RetryAfter | undefined } => {
  const verdict = verdictOf(error)
  return {
    retryable: verdict?._tag !== "NonRetryable" && (retryIf === undefined || retryIf(error)),
    retryAfter: verdict?._tag === "RetryAfter" ? verdict : undefined,
  }
}

/**
 * The stored form of a step's result. What cannot be stored fails the step, and is not retried.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeResult = <A>(codec: ValueCodec<A>, value: A, name: string) =>
  Effect.mapErrorEager(codec.encode(value, `result of step "${name}"`), unstorable)

/**
 * The same with the default codec, at once.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodedResult = (
  value: unknown,
  name: string,
): Result.Result<Encoded, AttemptFailure> =>
  Result.mapError(encode(value, { field: `result of step "${name}"` }), unstorable)

const unstorable = (error: unknown): AttemptFailure => ({
  error: encodeError(error),
  retryable: false,
  unknown: true,
})

/**
 * The failure of an operation as a body sees it.
 */
const deliverFailure = (
  name: string,
  schema: AnyCodec | null,
  failed: OperationFailed,
): Effect.Effect<never, any, WorkflowRun> =>
  decodeFailure(schema, failed.error).pipe(
    Effect.catch((reason) => pauseUnreadable(`error of step "${name}"`, reason)),
    Effect.flatMap((decoded) => {
      const limit = decoded._tag === "Untyped" ? asLimitError(failed.error) : null
      const error = limit ?? decoded.error
      return Effect.andThen(
        noteFailure(error, failed.position),
        limit !== null || decoded._tag === "Typed" ? Effect.fail(error) : Effect.die(error),
      )
    }),
  )

const limitErrors = [StepTimeout, StepDeadlineExceeded, StepHeartbeatTimeout]

/** The typed error of a limit, from its stored form; `null`: it is none. */
const asLimitError = (stored: StoredError) => {
  for (const error of limitErrors) {
    if (stored.tag !== error.identifier.replace("flowly/", "")) continue
    const decoded = Schema.decodeUnknownOption(error)({ _tag: stored.tag, ...stored.props })
    if (Option.isSome(decoded)) return decoded.value
  }
  return null
}

const undoOf = <A, RC>(
  compensate: Options<A, never, never, RC, undefined, undefined, undefined>["compensate"],
  onUnknown: boolean,
  codec: ValueCodec<A>,
  provide: <B, F>(effect: Effect.Effect<B, F, RC>) => Effect.Effect<B, F>,
): StepOperation["undo"] => {
  if (compensate === undefined) return null
  const { run, retry, timeoutMs } =
    typeof compensate === "function"
      ? { run: compensate, retry: defaultRetry, timeoutMs: null }
      : compensate
  return {
    retry,
    timeoutMs,
    onUnknown,
    run: (result, info) =>
      (result === null
        ? Effect.succeed(undefined as A)
        : Effect.mapError(codec.decode(result), (reason) => new Error(reason))
      ).pipe(
        Effect.flatMap((value) => provide(Effect.suspend(() => run(value, info)))),
        Effect.mapError((raw) => ({ error: encodeError(raw), raw })),
        Effect.asVoid,
      ),
  }
}
