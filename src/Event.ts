/**
 * Events: what a workflow tells whoever listens to the engine (`emit`), and what others tell a run
 * (`send`, `wait`).
 *
 * An emitted event is remembered like a step: replay does not emit it again. An event that is sent
 * early is kept until the run waits for it; events of a name are taken in the order of sending, one
 * by each wait. That a wait was in vain is a value, `None`, decided by the store's clock: where an
 * event is there when the wait is looked at, the event wins, even if the time was up.
 *
 * A wait that lost a race goes on, and takes the next event of its name: give it a timeout.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { maxMillis } from "./DurationInput.ts"
import { Engine } from "./Engine.ts"
import { type AnyCodec, anyValue, schemaValue } from "./engine/values.ts"
import {
  type EventBacklogFull,
  InvalidInput,
  type PayloadTooLarge,
  type RunNotFound,
  type RunStateConflict,
  type SerializationError,
} from "./FlowlyError.ts"
import { checkEventName, checkName } from "./Name.ts"
import { pauseUnreadable, perform, type WorkflowRun } from "./WorkflowRun.ts"
import type { StoreError } from "./WorkflowStore.ts"

/**
 * Tells listeners of the engine something. Data that cannot be stored is a defect.
 *
 * @category constructors
 * @since 0.1.0
 */
export const emit = (name: string, data?: unknown): Effect.Effect<void, never, WorkflowRun> =>
  Effect.fromResult(checkName(name, "event name")).pipe(
    Effect.andThen(anyValue.encode(data, `data of event "${name}"`)),
    Effect.flatMap((payload) => perform({ kind: "emit", name, payload })),
    Effect.orDie,
    Effect.asVoid,
  )

/**
 * How to wait. A payload that the Schema refuses pauses the run: its history stays as it is.
 *
 * @category models
 * @since 0.1.0
 */
export interface WaitOptions<A> {
  readonly schema?: AnyCodec<A> | undefined
  /** From when the wait is first reached, by the store's clock; at most a hundred years. */
  readonly timeout?: Duration.Input | undefined
}

/**
 * Waits for an event of this name; `None` when the time is up.
 *
 * @category constructors
 * @since 0.1.0
 */
export const wait = <A = unknown>(
  name: string,
  options?: WaitOptions<A>,
): Effect.Effect<Option.Option<A>, never, WorkflowRun> =>
  Effect.fromResult(checkEventName(name)).pipe(
    Effect.orDie,
    Effect.andThen(waitFor({ name, event: name, what: `event "${name}"` }, options)),
  )

/**
 * What `wait` and `Token.wait` have in common: `name` becomes the step key.
 *
 * @category constructors
 * @since 0.1.0
 */
export const waitFor = <A>(
  source: { readonly name: string; readonly event: string; readonly what: string },
  options: WaitOptions<A> | undefined,
): Effect.Effect<Option.Option<A>, never, WorkflowRun> =>
  Effect.gen(function* () {
    const { name, event, what } = source
    const timeoutMs = options?.timeout === undefined ? null : Duration.toMillis(options.timeout)
    if (timeoutMs !== null && !(timeoutMs >= 0 && timeoutMs <= maxMillis)) {
      const reason = "must be between zero and a hundred years"
      return yield* Effect.die(
        new InvalidInput({ field: `timeout of the wait for ${what}`, reason }),
      )
    }
    const result = yield* Effect.orDie(perform({ kind: "event", name, event, timeoutMs }))
    if (result === null) return Option.none()
    const codec = options?.schema === undefined ? anyValue : schemaValue(options.schema)
    const value = yield* Effect.catch(codec.decode(result), (reason) =>
      pauseUnreadable(`payload of ${what}`, reason),
    )
    return Option.some(value as A)
  })

/**
 * Sends an event to a run, from wherever an `Engine` is. Idempotent by `id`: sent to the same run
 * again, also with another name or payload, it is a `duplicate` and changes nothing. Inside
 * `sql.withTransaction` of the store's own client it is a part of that transaction.
 *
 * @category combinators
 * @since 0.1.0
 */
export const send = <A = unknown>(
  workflowRunId: string,
  name: string,
  payload: A,
  options?: { readonly id?: string | undefined; readonly schema?: AnyCodec<A> | undefined },
): Effect.Effect<
  "sent" | "duplicate",
  | InvalidInput
  | RunNotFound
  | RunStateConflict
  | EventBacklogFull
  | SerializationError
  | PayloadTooLarge
  | StoreError,
  Engine
> =>
  Effect.gen(function* () {
    const engine = yield* Engine
    const codec = options?.schema === undefined ? anyValue : schemaValue(options.schema)
    const encoded = yield* codec.encode(payload, `payload of event "${String(name)}"`)
    return yield* engine.sendEvent(workflowRunId, name, encoded, { id: options?.id })
  })
