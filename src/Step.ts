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
import type { Compensation } from "./Compensation.ts"
import { defaultRetry } from "./Compensation.ts"
import { checkName } from "./Engine.ts"
import type { Attempt, AttemptFailure, StepOperation } from "./engine/Operation.ts"
import {
  type AnyCodec,
  anyValue,
  decodeFailure,
  encodeFailure,
  schemaValue,
  type ValueCodec,
} from "./engine/values.ts"
import { encodeError, type StoredError } from "./ErrorPayload.ts"
import { StepTimeout } from "./FlowlyError.ts"
import * as RetryPolicy from "./RetryPolicy.ts"
import {
  type Lift,
  noteFailure,
  type OperationFailed,
  pauseUnreadable,
  perform,
  WorkflowRun,
} from "./WorkflowRun.ts"

/**
 * What a step's function is told: the number of the try, a key that is the same for all tries of
 * this step in this run, and a signal that aborts on timeout or cancel.
 *
 * @category models
 * @since 0.1.0
 */
export type Info = Attempt

/**
 * @category models
 * @since 0.1.0
 */
export type Options<A, E, R, RC, T extends Duration.Input | undefined> = {
  readonly success?: AnyCodec<A> | undefined
  readonly run: Effect.Effect<A, E, R> | ((info: Info) => Effect.Effect<A, E, R>)
  readonly retry?: Partial<RetryPolicy.RetryPolicy> | undefined
  /** Which failures are worth another try. Default: all. */
  readonly retryIf?: ((error: E) => boolean) | undefined
  /** Of one try. A timed-out try fails with `StepTimeout`. */
  readonly timeout?: T
  readonly compensate?:
    | ((result: A, info: Info) => Effect.Effect<unknown, unknown, RC>)
    | Compensation<A, unknown, RC>
    | undefined
} & ([E] extends [never] ? { readonly error?: AnyCodec<E> } : { readonly error: AnyCodec<E> })

/**
 * A step. Fails with the typed error of `run`, and with `StepTimeout` if it has a timeout.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <
  A,
  E = never,
  R = never,
  RC = never,
  T extends Duration.Input | undefined = undefined,
>(
  name: string,
  options: Options<A, E, R, RC, T>,
): Effect.Effect<A, E | (T extends undefined ? never : StepTimeout), WorkflowRun | Lift<R | RC>> =>
  Effect.gen(function* () {
    yield* Effect.orDie(Effect.fromResult(checkName(name, "step name")))
    const { services } = yield* WorkflowRun
    const error = (options.error as AnyCodec<E> | undefined) ?? null
    const codec = options.success === undefined ? anyValue : schemaValue(options.success)
    const provide = <B, F>(effect: Effect.Effect<B, F, R | RC>): Effect.Effect<B, F> =>
      Effect.interruptible(Effect.provideContext(effect, services as never))

    const operation: StepOperation = {
      kind: "step",
      name,
      retry: options.retry === undefined ? RetryPolicy.none : RetryPolicy.make(options.retry),
      timeoutMs: options.timeout === undefined ? null : Duration.toMillis(options.timeout),
      run: (info) =>
        provide(
          Effect.suspend(() =>
            typeof options.run === "function" ? options.run(info) : options.run,
          ),
        ).pipe(
          Effect.catch((failure) =>
            Effect.flatMap(encodeFailure(error, failure), (stored) =>
              Effect.fail<AttemptFailure>({
                error: stored,
                retryable: options.retryIf === undefined || options.retryIf(failure),
              }),
            ),
          ),
          Effect.flatMap((value) => encodeResult(codec, value, name)),
        ),
      undo: undoOf(options.compensate, codec, provide),
    }
    return yield* perform(operation).pipe(
      Effect.matchEffect({
        onSuccess: (result) =>
          codec
            .decode(result ?? { codec: "json", json: "null" })
            .pipe(
              Effect.catch((reason) => pauseUnreadable(`result of step "${name}"`, reason)),
            ) as Effect.Effect<A, never, WorkflowRun>,
        onFailure: (failed) => deliverFailure(name, error, failed),
      }),
    )
  }) as any

/**
 * The stored form of a step's result. What cannot be stored fails the step, and is not retried.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeResult = <A>(codec: ValueCodec<A>, value: A, name: string) =>
  Effect.mapError(codec.encode(value, `result of step "${name}"`), (error): AttemptFailure => ({
    error: encodeError(error),
    retryable: false,
  }))

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
      const timeout = decoded._tag === "Untyped" ? asTimeout(failed.error) : null
      const error = timeout ?? decoded.error
      return Effect.andThen(
        noteFailure(error, failed.position),
        timeout !== null || decoded._tag === "Typed" ? Effect.fail(error) : Effect.die(error),
      )
    }),
  )

const asTimeout = (stored: StoredError): StepTimeout | null => {
  const { stepKey, timeoutMs } = stored.props ?? {}
  return stored.tag === "StepTimeout" &&
    typeof stepKey === "string" &&
    typeof timeoutMs === "number"
    ? new StepTimeout({ stepKey, timeoutMs })
    : null
}

const undoOf = <A, RC>(
  compensate: Options<A, never, never, RC, undefined>["compensate"],
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
    run: (result, info) =>
      codec.decode(result ?? { codec: "json", json: "null" }).pipe(
        Effect.mapError((reason) => encodeError(new Error(reason))),
        Effect.flatMap((value) =>
          Effect.mapError(provide(Effect.suspend(() => run(value, info))), encodeError),
        ),
        Effect.asVoid,
      ),
  }
}
